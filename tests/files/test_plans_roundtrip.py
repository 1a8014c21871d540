"""plan.json and routes.json: what is written is read back, and the hash sees what is ordered."""

import json
from itertools import permutations
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import Fault, InputError
from planner.files.plans import (
    need_plan,
    plan_hash,
    plan_text,
    read_plan,
    read_routes,
    routes_of,
    write_plan,
)
from planner.spec.base import METRICS, ORIGINS, STATISTICS, Spec
from planner.spec.plan import (
    Bound,
    DeployedPool,
    FrontPoint,
    LatencyFigure,
    Plan,
    PoolFigure,
    Predicted,
    Price,
    Provenance,
    Route,
    Simulated,
    SimulatedFigure,
    SimulatedPool,
    Verdict,
)

FIRST = "abcdefghijklmnopqrstuvwxyz0123456789"
names = st.builds(
    lambda first, rest: first + rest,
    st.sampled_from(FIRST),
    st.text(st.sampled_from(FIRST + "._+-"), max_size=6),
)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=12)
amounts = st.floats(0, 1e12)
ratios = st.floats(0, 1)
counts = st.integers(1, 10**6)
free = st.floats(-1e9, 1e9)
digests = st.text(st.sampled_from("0123456789abcdef"), min_size=64, max_size=64)


def split(pools: list[str], units: list[int]) -> dict[str, float]:
    """Shares in millionths that sum to 1, in proportion to some whole numbers."""
    total = sum(units)
    shares = [u * 1_000_000 // total for u in units]
    shares[0] += 1_000_000 - sum(shares)
    return {pool: share / 1_000_000 for pool, share in zip(pools, shares, strict=True)}


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    pools = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    classes = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    routing = []
    for name in classes:
        used = draw(st.lists(st.sampled_from(pools), min_size=1, unique=True))
        units = draw(st.lists(st.integers(1, 99), min_size=len(used), max_size=len(used)))
        routing += [
            Route.model_validate({"class": name, "pool": pool, "share": share})
            for pool, share in split(used, units).items()
        ]
    deployment = tuple(
        DeployedPool(
            pool=pool,
            model_name=draw(names),
            gpu=draw(st.none() | names),
            tensor_parallel=draw(st.sampled_from([1, 2, 4, 8])),
            replicas=draw(counts),
            n_gpus=draw(amounts),
            usd_per_h=draw(amounts),
        )
        for pool in pools
    )
    return Plan(
        title=draw(texts),
        complete=draw(st.booleans()),
        deployment=deployment,
        routing=tuple(routing),
        prices=draw(prices(pools)),
        predicted=draw(predicted(pools, classes)),
        simulated=draw(st.none() | simulated(pools, classes)),
        bound=draw(st.none() | bounds),
        front=tuple(draw(st.lists(front_points(pools), max_size=2))),
        why=tuple(draw(st.lists(texts, max_size=2))),
        provenance=Provenance(
            rb_version="0.1.0",
            method=draw(texts),
            seed=draw(st.integers(0, 99)),
            effort="quick",
            n_evaluations=draw(st.integers(0, 99)),
            inputs=draw(st.dictionaries(texts, digests, max_size=2)),
        ),
    )


def prices(pools: list[str]) -> st.SearchStrategy[tuple[Price, ...]]:
    what = st.sampled_from([*(f"load:{pool}" for pool in pools), "budget", "limit:p95 e2e"])
    price = st.builds(Price, what=what, value=free, unit=texts)
    return st.lists(price, max_size=3, unique_by=lambda p: p.what).map(tuple)


@st.composite
def predicted(draw: st.DrawFn, pools: list[str], classes: list[str]) -> Predicted:
    figure = st.builds(
        lambda **fields: LatencyFigure.model_validate(fields),
        **{"class": st.none() | st.sampled_from(classes)},
        metric=st.sampled_from(METRICS),
        statistic=st.sampled_from(STATISTICS),
        ms=amounts,
        low_ms=amounts,
        high_ms=amounts,
        at_most_ms=st.none() | st.floats(0.1, 1e6),
        origin=st.sampled_from(ORIGINS),
    )
    return Predicted(
        rate_rps=draw(amounts),
        class_rps={name: draw(amounts) for name in classes},
        rate_factor=draw(st.none() | st.floats(0.1, 10)),
        cost_usd_per_h=draw(amounts),
        usd_per_million_output_tokens=draw(st.none() | amounts),
        quality=draw(ratios),
        class_quality={name: draw(ratios) for name in classes},
        latency=tuple(draw(st.lists(figure, max_size=2))),
        latency_ratio=draw(st.none() | amounts),
        pools=tuple(
            PoolFigure(
                pool=pool,
                utilisation_ratio=draw(st.floats(0, 1.5)),
                rate_rps=draw(amounts),
                output_tokens_per_s=draw(amounts),
                goodput_rps=draw(amounts),
                usd_per_million_output_tokens=draw(st.none() | amounts),
                extrapolated=draw(st.booleans()),
            )
            for pool in pools
        ),
        mix_shift_ratio=draw(ratios),
        origin=draw(st.sampled_from(ORIGINS)),
    )


def simulated(pools: list[str], classes: list[str]) -> st.SearchStrategy[Simulated]:
    figure = st.builds(
        lambda **fields: SimulatedFigure.model_validate(fields),
        **{"class": st.none() | st.sampled_from(classes)},
        metric=st.sampled_from(METRICS),
        statistic=st.sampled_from(STATISTICS),
        ms=amounts,
        low_ms=amounts,
        high_ms=amounts,
        at_most_ms=st.none() | st.floats(0.1, 1e6),
        verdict=st.sampled_from([None, *get_args(Verdict)]),
    )
    pool = st.builds(SimulatedPool, pool=st.sampled_from(pools), **_amounts_of(SimulatedPool))
    by_class = dict.fromkeys(classes, amounts)
    return st.builds(
        Simulated,
        class_rps=st.fixed_dictionaries(by_class),
        class_quality=st.fixed_dictionaries(dict.fromkeys(classes, ratios)),
        class_goodput_rps=st.fixed_dictionaries(by_class),
        latency=st.lists(figure, max_size=2).map(tuple),
        pools=st.lists(pool, max_size=2).map(tuple),
        n_requests=st.integers(0, 99),
        n_failed=st.integers(0, 99),
        n_refused=st.integers(0, 99),
        n_preempted=st.integers(0, 99),
        seeds=st.lists(st.integers(0, 99), min_size=1, max_size=3).map(tuple),
        settled=st.booleans(),
        balance=names,
        failures=st.lists(texts, max_size=2).map(tuple),
        rate_factor=st.floats(0.1, 10),
        **_amounts_of(Simulated),
    )


def _amounts_of(owner: type[Spec]) -> dict[str, st.SearchStrategy[float]]:
    """A number for every field that holds one: at most 1, which suits all of them."""
    numbers = {
        name for name, field in owner.model_fields.items() if "float" in str(field.annotation)
    }
    mappings = {name for name in numbers if "dict" in str(owner.model_fields[name].annotation)}
    return dict.fromkeys(numbers - mappings - {"rate_factor"}, ratios)


bounds = st.builds(
    Bound,
    objective=st.sampled_from(["cost_usd_per_h", "quality", "latency_ratio", "rate_factor"]),
    value=free,
    best_possible=free,
    gap_ratio=amounts,
    method=texts,
)


def front_points(pools: list[str]) -> st.SearchStrategy[FrontPoint]:
    return st.builds(
        FrontPoint,
        deployment=st.dictionaries(st.sampled_from(pools), counts),
        cost_usd_per_h=amounts,
        quality=ratios,
        latency_ratio=st.none() | amounts,
        latency_ms=st.none() | amounts,
        rate_factor=st.none() | st.floats(0.1, 10),
        chosen=st.booleans(),
    )


every_plan = settings(max_examples=25, deadline=None, derandomize=True)


@every_plan
@given(plan=plans())
def test_what_is_written_is_read_back(plan, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan")
    faults: list[Fault] = []
    paths = write_plan(folder, plan)
    assert [path.name for path in paths] == ["plan.json", "routes.json"]
    assert read_plan(folder, faults) == plan
    assert read_plan(folder / "plan.json", faults) == plan
    assert read_routes(folder, faults) == routes_of(plan)
    assert need_plan(folder) == plan
    assert faults == []


@every_plan
@given(plan=plans())
def test_writing_what_was_read_changes_no_byte(plan, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan")
    write_plan(folder, plan)
    before = [(folder / name).read_bytes() for name in ("plan.json", "routes.json")]
    write_plan(folder, need_plan(folder))
    assert [(folder / name).read_bytes() for name in ("plan.json", "routes.json")] == before


@every_plan
@given(plan=plans(), other=plans())
def test_the_hash_ignores_what_is_predicted(plan, other):
    fields = (
        *("title", "complete", "prices", "predicted", "simulated", "bound", "front", "why"),
        "provenance",
    )
    changed = plan.model_copy(update={name: getattr(other, name) for name in fields})
    assert plan_hash(changed) == plan_hash(plan)


@every_plan
@given(plan=plans(), data=st.data())
def test_the_hash_sees_what_is_ordered(plan, data):
    first, *rest = plan.deployment
    more = first.model_copy(update={"replicas": first.replicas + 1})
    deployment = plan.model_copy(update={"deployment": (more, *rest)})
    at = data.draw(st.integers(0, len(plan.routing) - 1))
    route = plan.routing[at]
    share = 0.5 if route.share != 0.5 else 0.25
    moved = (*plan.routing[:at], route.model_copy(update={"share": share}), *plan.routing[at + 1 :])
    routing = plan.model_copy(update={"routing": moved})
    assert len({plan_hash(p) for p in (plan, deployment, routing)}) == 3


@every_plan
@given(plan=plans())
def test_the_routes_are_those_of_the_plan(plan):
    routes = routes_of(plan)
    pairs = [(name, e.pool, e.share) for name, entries in routes.classes.items() for e in entries]
    assert pairs == [(r.class_name, r.pool, r.share) for r in plan.routing]
    for entries in routes.classes.values():
        assert sum(round(e.share * 1_000_000) for e in entries) == 1_000_000
    assert routes.plan_hash == plan_hash(plan)
    assert routes.load_prices == {
        p.what[5:]: p.value for p in plan.prices if p.what.startswith("load:")
    }


@every_plan
@given(plan=plans())
def test_every_pool_stands_in_for_every_other(plan):
    spare = {p.pool: 1 - p.utilisation_ratio for p in plan.predicted.pools}
    routes = routes_of(plan)
    assert routes.fallback.keys() == routes.classes.keys()
    for name, order in routes.fallback.items():
        shares = {e.pool: e.share for e in routes.classes[name]}
        assert sorted(order) == sorted(spare)
        own, others = order[: len(shares)], order[len(shares) :]
        assert set(own) == set(shares)
        assert [shares[p] for p in own] == sorted(shares.values(), reverse=True)
        assert [spare[p] for p in others] == sorted((spare[p] for p in others), reverse=True)


def test_ties_fall_back_in_the_order_of_names(demo_plan):
    """So that the order of the plan's rows cannot change routes.json."""
    figures = demo_plan.predicted.pools
    alike = tuple(
        figures[0].model_copy(update={"pool": pool, "utilisation_ratio": 0.5}) for pool in "cab"
    )
    route = demo_plan.routing[0].model_copy(update={"pool": "z", "share": 1.0})
    found = set()
    for order in permutations(alike):
        predicted = demo_plan.predicted.model_copy(update={"pools": order})
        plan = demo_plan.model_copy(update={"predicted": predicted, "routing": (route,)})
        found.add(routes_of(plan).fallback[route.class_name])
    assert found == {("z", "a", "b", "c")}


def test_the_class_is_called_class_in_the_files(demo_plan):
    data = json.loads(plan_text(demo_plan))
    assert set(data["routing"][0]) == {"class", "pool", "share"}
    assert data["version"] == 1


def test_a_plan_from_before_there_was_a_simulator_still_reads(demo_plan, tmp_path):
    data = json.loads(plan_text(demo_plan))
    assert data.pop("simulated") is None
    (tmp_path / "plan.json").write_text(json.dumps(data))
    assert need_plan(tmp_path) == demo_plan


def test_a_plan_that_is_not_there_says_how_to_make_one(tmp_path):
    with pytest.raises(InputError, match=r"plan\.json: file not found\n  fix: .*rb plan"):
        need_plan(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: is not valid JSON"),
        ("{", "line 1: is not valid JSON"),
        ("[]", "must be a mapping of keys to values"),
        ('{"a": 1, "a": 2}', "key given twice, got 'a'"),
        ('{"version": NaN}', "version: must be 1"),
        ("[" * 100_000, "is not valid JSON"),
        ("1" * 5_000, "is not valid JSON"),
    ],
    ids=["empty", "cut", "list", "double", "nan", "deep", "long number"],
)
def test_what_is_no_plan_is_a_fault(tmp_path, text, said):
    (tmp_path / "plan.json").write_text(text)
    faults: list[Fault] = []
    assert read_plan(tmp_path, faults) is None
    assert said in "\n".join(str(fault) for fault in faults)
    assert all(fault.fix for fault in faults)
