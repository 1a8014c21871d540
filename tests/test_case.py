"""From inputs to a case: the demo, and pools that cannot be planned with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from planner.case import IDLE_LOAD, Case, make_case
from planner.errors import InputError
from planner.spec.inputs import Inputs
from planner.spec.pool import CapacityPoint, HostedPrice, Pool, Profile
from planner.spec.question import Limit, ReplicaRange
from planner.spec.workload import ScopedLimit

SMALL, MIDDLE = "llama-3.1-8b-h100", "llama-3.1-70b-h100-tp4"


def with_question(inputs: Inputs, **changes) -> Inputs:
    question = inputs.question.model_copy(update=changes)
    return replace(inputs, files=replace(inputs.files, question=question))


def with_pools(inputs: Inputs, *changed: Profile) -> Inputs:
    by_name = {profile.name: profile for profile in (*inputs.candidates, *changed)}
    return replace(inputs, candidates=tuple(by_name[name] for name in sorted(by_name)))


def only(inputs: Inputs, *names: str) -> Inputs:
    return replace(inputs, candidates=tuple(p for p in inputs.candidates if p.name in names))


def pool_of(inputs: Inputs, name: str) -> Profile:
    return next(p for p in inputs.candidates if p.name == name)


@pytest.fixture(scope="module")
def demo(demo_inputs: Inputs) -> Case:
    return make_case(demo_inputs)


@pytest.fixture(scope="module")
def two(demo_inputs: Inputs) -> Inputs:
    return only(demo_inputs, SMALL, MIDDLE)


def test_the_demo_makes_a_case(demo: Case, demo_inputs: Inputs) -> None:
    names = tuple(p.name for p in demo_inputs.candidates)
    assert len(names) == 7 and names == demo.workload.pool_names == demo.space.pool_names
    assert tuple(m.profile.name for m in demo.models) == names
    assert demo.workload.total_rps == pytest.approx(78.8, abs=0.1)  # as question.yaml says
    assert demo.workload.mean_rate_rps.sum() == pytest.approx(54.7, abs=0.1)
    assert demo.workload.allowed.all() and np.isfinite(demo.workload.quality).all()
    assert demo.arrival_cv == 1.0
    gpus = demo.space.gpus_per_replica.tolist()
    assert gpus == [float(p.pool.tensor_parallel) for p in demo_inputs.candidates]
    assert (demo.space.upper > 0).all()
    assert (demo.space.upper * demo.space.gpus_per_replica <= 32).all()


def test_the_same_inputs_make_the_same_tables(demo: Case, demo_inputs: Inputs) -> None:
    again = make_case(demo_inputs, demo.models)
    for a, b in zip(demo.tables(), again.tables(), strict=True):
        assert a.work_s.tobytes() == b.work_s.tobytes()
        assert a.survival["e2e"].tobytes() == b.survival["e2e"].tobytes()


def test_tables_are_made_at_the_mix_of_the_plan(two: Inputs) -> None:
    case = make_case(two)
    default = case.tables()
    for table in default:
        assert table.mix == pytest.approx(case.workload.weights)
    mixes = np.array([[0.0, 3.0, 1.0], [0.0, 0.0, 0.0]])
    made = case.tables(mixes)
    assert made[0].mix == pytest.approx([0.0, 0.75, 0.25])
    assert made[1].mix == pytest.approx(case.workload.weights)
    kept = case.tables(mixes, unused=default)
    assert kept[1] is default[1]
    assert kept[0].survival["e2e"].tobytes() == made[0].survival["e2e"].tobytes()
    # The mix matters: long answers alone make longer ones of every class.
    long_only = case.tables(np.array([[0.0, 0.0, 1.0]] * 2))[0]
    short_only = case.tables(np.array([[1.0, 0.0, 0.0]] * 2))[0]
    assert not np.allclose(long_only.mean_ms["e2e"], short_only.mean_ms["e2e"])


def test_every_limit_is_a_time_of_the_tables(two: Inputs) -> None:
    case = make_case(two)
    for table in case.tables():
        for scoped in case.workload.limits:
            assert scoped.limit.at_most_ms in table.times_ms[scoped.limit.metric]
    other = ScopedLimit(None, Limit(metric="ttft", statistic="p95", at_most_ms=1234.5))
    assert all(1234.5 in table.times_ms["ttft"] for table in case.tables(limits=[other]))


def test_a_pool_whose_weights_do_not_fit_stays_empty(two: Inputs) -> None:
    # 70 billion parameters of two bytes on one GPU of 80 GiB
    middle = pool_of(two, MIDDLE)
    too_small = replace(middle, pool=middle.pool.model_copy(update={"tensor_parallel": 1}))
    case = make_case(with_pools(two, too_small))
    p = case.workload.pool_names.index(MIDDLE)
    assert not case.models[p].memory.fits
    assert case.space.upper[p] == 0 and case.space.upper[1 - p] > 0
    asked = with_question(with_pools(two, too_small), replicas={MIDDLE: ReplicaRange(min=1)})
    with pytest.raises(InputError, match="at least 1 replicas are asked for, 0 are possible"):
        make_case(asked)


def test_a_pool_that_no_class_may_use_stays_empty_and_has_a_finite_table(two: Inputs) -> None:
    classes = tuple(c.model_copy(update={"not_pools": (MIDDLE,)}) for c in two.question.classes)
    case = make_case(with_question(two, classes=classes))
    p = case.workload.pool_names.index(MIDDLE)
    assert case.space.upper[p] == 0
    table = case.tables()[p]
    assert np.isnan(table.work_s).all()
    for metric, survival in table.survival.items():
        assert np.isfinite(survival).all() and np.isfinite(table.mean_ms[metric]).all()


def test_the_default_mix_is_that_of_the_classes_that_may_use_the_pool(two: Inputs) -> None:
    first, *others = two.question.classes
    classes = (first.model_copy(update={"pools": (SMALL,)}), *others)
    case = make_case(with_question(two, classes=classes))
    rates = case.workload.rate_rps
    at = {name: p for p, name in enumerate(case.workload.pool_names)}
    assert case.default_mix(at[SMALL]) == pytest.approx(rates / rates.sum())
    expected = np.array([0.0, rates[1], rates[2]]) / (rates[1] + rates[2])
    assert case.default_mix(at[MIDDLE]) == pytest.approx(expected)
    table = case.tables()[at[MIDDLE]]
    assert np.isnan(table.work_s).tolist() == [True, False, False]
    assert table.mix == pytest.approx(expected)


def test_all_pools_that_cannot_be_fitted_are_faults_at_once(demo_inputs: Inputs) -> None:
    broken = [replace(pool_of(demo_inputs, n), points=()) for n in (SMALL, MIDDLE)]
    with pytest.raises(InputError) as caught:
        make_case(with_pools(demo_inputs, *broken))
    folder = demo_inputs.profiles.folder
    files = sorted(fault.file for fault in caught.value.faults)
    assert files == sorted(f"{folder}/{name}/points.csv" for name in (SMALL, MIDDLE))
    assert all("concurrency" in fault.fix for fault in caught.value.faults)


def test_ranges_beyond_the_stock_are_faults(two: Inputs) -> None:
    ranges = {SMALL: ReplicaRange(min=33), MIDDLE: ReplicaRange(min=9)}
    with pytest.raises(InputError) as caught:
        make_case(with_question(two, replicas=ranges))
    fields = sorted(fault.field for fault in caught.value.faults)
    assert fields == [f"replicas.{MIDDLE}", f"replicas.{SMALL}"]
    assert all(fault.file == two.files.name for fault in caught.value.faults)


def test_replicas_that_would_idle_are_not_considered(two: Inputs) -> None:
    gpu = two.candidates[0].pool.gpu
    assert gpu is not None
    plenty = with_question(two, stock={gpu: 100_000})
    case = make_case(plenty)
    for p, model in enumerate(case.models):
        work = [model.work_s(row[p]) for row in case.workload.shapes if row[p] is not None]
        busy_s = float(case.workload.rate_rps @ work)  # replica-seconds per second, all traffic
        most = int(case.space.upper[p])
        assert busy_s / most <= IDLE_LOAD < busy_s / (most - 1)
    no_end = make_case(with_question(plenty, maximise="rate_factor"))
    assert no_end.space.upper.tolist() == [
        int(100_000 / p.pool.tensor_parallel) for p in two.candidates
    ]


def hosted_profile() -> Profile:
    price = HostedPrice(usd_per_million_input_tokens=3.0, usd_per_million_output_tokens=15.0)
    pool = Pool(
        name="api", model_name="llama-3.1-70b", price=price, max_rps=20.0, source="made for a test"
    )
    return Profile(pool, None, None)


def test_a_hosted_pool_without_latency_can_be_planned_with(two: Inputs) -> None:
    case = make_case(with_pools(two, hosted_profile()))
    p = case.workload.pool_names.index("api")
    assert case.space.upper[p] == 1 and case.space.gpus_per_replica[p] == 0.0
    assert (case.workload.request_usd[:, p] > 0).all()
    assert not case.workload.request_usd[:, [q for q in range(3) if q != p]].any()
    table = case.tables()[p]
    assert not table.has_latency
    assert table.work_s == pytest.approx([0.05] * 3)  # one of 20 requests per second


def test_a_pool_with_capacity_only_can_be_planned_with(two: Inputs) -> None:
    middle = pool_of(two, MIDDLE)
    points = tuple(
        CapacityPoint(input_tokens=i, output_tokens=o, max_rps=r, source="made for a test")
        for i, o, r in ((200.0, 200.0, 8.0), (200.0, 400.0, 4.0), (1000.0, 200.0, 6.0))
    )
    case = make_case(with_pools(two, replace(middle, points=(), capacity=points)))
    p = case.workload.pool_names.index(MIDDLE)
    assert case.space.upper[p] > 0
    table = case.tables()[p]
    assert not table.has_latency
    assert np.isfinite(table.work_s).all() and (table.work_s > 0).all()
