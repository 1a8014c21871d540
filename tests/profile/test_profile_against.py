"""Drift of a prediction: measured against predicted, metric by metric, and what the plan said."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hand_plan import BIG, REPLICAS, SMALL, hand_plan

from planner.errors import InputError
from planner.latency.fit import fit
from planner.latency.predict import Condition, Figure
from planner.profile import against
from planner.profile.against import Compared, changed_since, compare
from planner.spec.pool import Point

BAND = 1.1  # of the made-up predictions below


def point(load: float, mode: str = "closed", **figures: float) -> Point:
    at = {"offered_rps" if mode == "open" else "concurrency": load}
    return Point(input_tokens=100, output_tokens=50, mode=mode, source="s", **at, **figures)


@pytest.fixture(scope="module")
def plan(demo_inputs):
    return hand_plan(demo_inputs)


@pytest.fixture
def law(monkeypatch):
    """Predictions that are known: TTFT 10 ms a request in flight, TPOT 2 ms, up to 64."""

    def figures(model: object, at: Condition) -> dict[str, Figure]:
        if at.load > 64:
            return {}
        values = {"ttft_mean_ms": 10 * at.load, "ttft_p95_ms": 20 * at.load, "tpot_mean_ms": 2.0,
                  "output_tokens_per_s": 400 * at.load}  # fmt: skip
        made = {c: Figure(v, v / BAND, v * BAND, at.load > 32) for c, v in values.items()}
        if at.mode == "open":
            made["output_tokens_per_s"] = Figure(at.load * 50, at.load * 50, at.load * 50, False)
        return made

    monkeypatch.setattr(against, "figures", figures)
    return {SMALL: SimpleNamespace(), BIG: SimpleNamespace()}


def drift(plan, law, *points):
    (found,) = compare(plan, law, {SMALL: points})
    return found


def test_an_open_loop_is_judged_at_the_rate_that_was_answered(plan, law):
    """The fit places its own points there, so a copy of them must be met exactly."""
    found = drift(plan, law, point(8, "open", achieved_rps=7.5, ttft_mean_ms=75.0))
    (figure,) = found.loads[0].figures
    assert (figure.predicted, figure.verdict) == (75.0, "within")


# ---- One figure ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "measured", "verdict"),
    [
        ("ttft", 100, "within"),
        ("ttft", 110, "within"),
        ("ttft", 111, "slower"),
        ("ttft", 89, "faster"),
        ("throughput", 111, "faster"),
        ("throughput", 89, "slower"),
    ],
)
def test_more_milliseconds_are_slower_and_more_tokens_faster(metric, measured, verdict):
    figure = Compared(metric, "x", measured, 100, 90, 110, False)
    assert (figure.verdict, figure.measured_ratio) == (verdict, measured / 100)


# ---- Verdicts -----------------------------------------------------------------------------------


def test_a_measurement_as_predicted_is_within(plan, law):
    found = drift(plan, law, point(8, ttft_mean_ms=82, tpot_mean_ms=2.1, output_tokens_per_s=3100))
    assert found.verdict == "within"
    assert [(m.metric, m.n_figures, m.n_within) for m in found.metrics] == [
        ("throughput", 1, 1),
        ("ttft", 1, 1),
        ("tpot", 1, 1),
    ]
    assert found.metrics[1].measured_ratio == pytest.approx(82 / 80)


def test_more_than_half_outside_makes_a_drift(plan, law):
    bad, good = {"ttft_mean_ms": 100.0}, {"ttft_mean_ms": 80.0}
    assert drift(plan, law, point(8, **bad), point(8, **good)).verdict == "within"
    assert drift(plan, law, point(8, **bad), point(8, **bad), point(8, **good)).verdict == "slower"
    mixed = drift(plan, law, point(8, **bad), point(8, ttft_mean_ms=60), point(8, **good))
    assert mixed.verdict == "within"
    assert mixed.metrics[0].n_within == 1


def test_one_slower_metric_outweighs_a_faster_one(plan, law):
    found = drift(plan, law, point(8, ttft_mean_ms=50, tpot_mean_ms=3))
    assert [(m.metric, m.verdict) for m in found.metrics] == [
        ("ttft", "faster"),
        ("tpot", "slower"),
    ]
    assert found.verdict == "slower" and "plan again" in found.advice
    assert drift(plan, law, point(8, ttft_mean_ms=50, tpot_mean_ms=2)).verdict == "faster"


def test_every_statistic_counts_and_what_was_not_measured_does_not(plan, law):
    found = drift(plan, law, point(8, ttft_mean_ms=80, ttft_p95_ms=160, e2e_mean_ms=1))
    assert [f.column for f in found.loads[0].figures] == ["ttft_mean_ms", "ttft_p95_ms"]
    assert found.metrics[0].n_figures == 2


def test_the_rate_of_an_open_loop_is_no_prediction(plan, law):
    found = drift(plan, law, point(2, "open", ttft_mean_ms=20, output_tokens_per_s=70))
    assert [m.metric for m in found.metrics] == ["ttft"]


def test_loads_that_cannot_be_predicted_are_counted_apart(plan, law):
    found = drift(plan, law, point(8, ttft_mean_ms=80), point(100, ttft_mean_ms=1))
    assert (found.n_not_judged, len(found.loads), found.verdict) == (1, 1, "within")
    assert drift(plan, law, point(40, ttft_mean_ms=400)).loads[0].figures[0].extrapolated


@pytest.mark.parametrize("points", [[point(100, ttft_mean_ms=1)], [point(8)]])
def test_nothing_to_judge_is_no_verdict(plan, law, points):
    with pytest.raises(InputError, match=f"no measured load of {SMALL}"):
        compare(plan, law, {SMALL: points})


def test_pools_that_the_plan_does_not_use_are_faults_together(plan, law):
    with pytest.raises(InputError) as error:
        compare(plan, law, {"other": [point(8)], "third": [point(8)], SMALL: []})
    assert [f.what.split(", got ")[-1] for f in error.value.faults] == [
        "other",
        "third",
        f"no points of {SMALL}",
    ]
    assert BIG in error.value.faults[0].fix


# ---- What the plan said -------------------------------------------------------------------------


def test_what_the_plan_said_is_of_one_replica(plan, law):
    (found,) = compare(plan, law, {BIG: [point(8, ttft_mean_ms=80)]})
    figure = next(f for f in plan.predicted.pools if f.pool == BIG)
    said = found.planned
    assert said.replicas == REPLICAS[BIG] > 1
    assert said.rate_rps == pytest.approx(figure.rate_rps / said.replicas)
    assert said.output_tokens_per_s == pytest.approx(figure.output_tokens_per_s / said.replicas)
    assert said.utilisation_ratio == figure.utilisation_ratio


def test_the_nearest_measured_load_is_the_one_with_the_nearest_tokens(plan, law):
    wanted = drift(plan, law, point(8, ttft_mean_ms=80)).planned.output_tokens_per_s
    points = [
        point(2, ttft_mean_ms=20, output_tokens_per_s=wanted * 0.5),
        point(4, ttft_mean_ms=40, achieved_rps=wanted * 0.9 / 50),
        point(8, ttft_mean_ms=80, output_tokens_per_s=wanted * 1.2),
        point(16, ttft_mean_ms=160),
    ]
    assert drift(plan, law, *points).planned.nearest == points[1]


# ---- With the real latency model ----------------------------------------------------------------


def faster(measured: Point, factor: float) -> Point:
    """What a replica would have done that is faster by a factor in all that it does."""
    ms = [name for name in Point.model_fields if name.endswith("_ms")]
    figures = {name: getattr(measured, name) for name in [*ms, "output_tokens_per_s"]}
    return measured.model_copy(
        update={
            name: value / factor if name in ms else value * factor
            for name, value in figures.items()
            if value is not None
        }
    )


@pytest.mark.parametrize(
    ("factor", "verdict"), [(1.0, "within"), (1.6, "faster"), (1 / 1.6, "slower")]
)
def test_the_profile_itself_judges_as_it_is(demo_inputs, plan, factor, verdict):
    profile = demo_inputs.profiles.by_name()[SMALL]
    measured = [faster(p, factor) for p in profile.points]
    found = drift(plan, {SMALL: fit(profile)}, *measured)
    assert found.verdict == verdict
    for metric in found.metrics:
        expected = factor if metric.metric == "throughput" else 1 / factor
        assert metric.measured_ratio == pytest.approx(expected, rel=0.02)


# ---- Profiles as they were ----------------------------------------------------------------------


def test_only_the_profiles_of_the_measured_pools_must_be_as_they_were(demo_inputs, plan):
    hashes = dict(demo_inputs.profiles.hashes)
    assert changed_since(plan, hashes, [SMALL, BIG]) == []
    changed = {**hashes, f"profiles/{BIG}/points.csv": "0" * 64, "profiles/gpus.yaml": "0" * 64}
    assert changed_since(plan, changed, [SMALL]) == []
    assert [f.file for f in changed_since(plan, changed, [BIG])] == [f"profiles/{BIG}/points.csv"]
    gone = {name: h for name, h in hashes.items() if f"/{SMALL}/" not in name}
    assert [f.file for f in changed_since(plan, gone, [SMALL])] == [
        f"profiles/{SMALL}/points.csv",
        f"profiles/{SMALL}/pool.yaml",
    ]
