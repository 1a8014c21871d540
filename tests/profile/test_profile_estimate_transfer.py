"""The transfer: efficiencies of known pools are found again, unknown ones stay at their prior."""

import math
import random

import numpy as np
import pytest
from estimate_cases import GPUS, LOADS, MODELS, gpu, model, noise, pool, profile, world

from planner.profile.left_out import (
    FEW_RATIO,
    FLOOR_RATIO,
    conformal_half_width,
    error_band,
    lack_of,
    left_out_errors,
    probes_of,
)
from planner.profile.transfer import PARTS, Estimator, PoolFacts, fit_transfer
from planner.spec.pool import Point, Profile


def facts_of(profiles) -> list[PoolFacts]:
    found = [PoolFacts.of(each) for each in profiles]
    assert None not in found
    return found


def errors_of(transfer, pools) -> np.ndarray:
    found = []
    for each in pools:
        measured = np.array([r.time_ms for r in each.steps])
        found.append(transfer.time_ms(each, each.steps) / measured - 1.0)
    return np.concatenate(found)


def test_a_pool_left_out_is_estimated_within_a_few_percent():
    """The truth is another formula than the fit's, with efficiencies that differ by GPU."""
    pools = facts_of(world())
    errors = [np.expm1(e) for e in left_out_errors(pools, "configuration")]
    size = np.abs(np.concatenate(errors))
    assert len(errors) == len(pools) == 18
    assert np.median(size) < 0.02 and size.max() < 0.10


def test_data_sheets_alone_are_far_off_in_that_world():
    """Else the test above would hold without any fit."""
    size = np.abs(errors_of(fit_transfer([]), facts_of(world())))
    assert np.median(size) > 0.15


def test_efficiencies_are_found_in_a_world_of_the_fits_own_form():
    truth = {f"gpu mid {PARTS[0]}": 0.3, "parallel 2": -0.2, f"part {PARTS[4]}": 0.5}
    bare = facts_of(world())
    made = []
    for each in bare:
        effect = np.zeros(len(PARTS))
        for one in each.effects():
            effect[list(one.parts)] += truth.get(one.name, 0.0)
        times = each.parts_ms(each.rows) @ np.exp(effect)
        rows = tuple(
            type(r)(**{**r.__dict__, "time_ms": float(t)})
            for r, t in zip(each.rows, times, strict=True)
        )
        made.append(PoolFacts(each.pool, each.gpu, each.facts, rows))
    found = fit_transfer(made)
    assert np.abs(errors_of(found, made)).max() < 0.02
    difference = found.log_effect["parallel 2"] - found.log_effect["parallel 1"]
    assert difference == pytest.approx(-0.2, abs=0.06)


def test_one_absurd_pool_hardly_moves_the_others():
    pools = facts_of(world())
    absurd = facts_of([profile(pool("small", "old", 4), ratio=20.0)])
    errors = errors_of(fit_transfer([*pools, *absurd]), pools)
    assert np.median(np.abs(errors)) < 0.03


def test_what_was_never_measured_stays_at_the_prior():
    transfer = fit_transfer(facts_of(world()))
    stranger = PoolFacts(pool("strange", "strange"), gpu("strange"), model("strange", 11.0, 48))
    assert lack_of(transfer, stranger) == "gpu"
    known_gpu = PoolFacts(pool("strange", "mid"), GPUS["mid"], model("strange", 11.0, 48))
    assert lack_of(transfer, known_gpu) == "model"
    sibling = PoolFacts(pool("tuned", "mid"), GPUS["mid"], MODELS["small"])
    assert lack_of(transfer, sibling) == "configuration"  # same architecture, another name
    wider = PoolFacts(pool("small", "mid", 8), GPUS["mid"], MODELS["small"])
    assert lack_of(transfer, wider) == "parallel"
    names = {e.name for e in stranger.effects()} & set(transfer.log_effect)
    assert all(name.startswith(("part ", "parallel 1")) for name in names)
    assert f"parallel 1 on {stranger.gpu.name}" not in names


def test_rows_faster_than_the_weights_can_be_read_are_left_out():
    fast = profile(pool("large", "old"), ratio=0.1)
    assert PoolFacts.of(fast) is None


def test_estimated_rows_teach_nothing():
    made = profile(pool("small", "mid"))
    guessed = tuple(p.model_copy(update={"origin": "estimated"}) for p in made.points)
    assert PoolFacts.of(Profile(made.pool, made.gpu, made.facts, guessed)) is None


def test_experts_are_all_read_by_many_sequences_and_few_by_one():
    sparse = model("sparse", 100.0, 48, active=0.1)
    rows = facts_of([profile(pool("small", "mid"), (1, 64))])[0].steps
    parts = PoolFacts(pool("sparse", "mid"), GPUS["mid"], sparse).parts_ms(rows)
    weights = parts[:, 0]
    assert weights[0] / weights[1] == pytest.approx(0.1 / (1.0 - 0.9**64), rel=1e-9)


def test_an_estimator_goes_through_the_loads_that_were_measured():
    pools = facts_of(world())
    wanted = facts_of([profile(pool("middle", "mid", 2), (1, 8, 64), ratio=1.4)])[0]
    estimator = Estimator.of(fit_transfer(pools), wanted)
    measured = np.array([r.time_ms for r in wanted.steps])
    assert estimator.time_ms(wanted.steps) == pytest.approx(measured, rel=1e-9)
    between = facts_of([profile(pool("middle", "mid", 2), (3, 30), ratio=1.4)])[0].steps
    assert estimator.time_ms(between) == pytest.approx([r.time_ms for r in between], rel=0.05)


# ---- Bands ---------------------------------------------------------------------------------------


def smallest_width(errors, covered=0.9) -> float | None:
    """By trying every error as the width."""
    for width in sorted(abs(x) for e in errors for x in e):
        inside = math.fsum(sum(abs(x) <= width for x in e) / len(e) for e in errors)
        if inside >= covered * (len(errors) + 1) - 1e-9:
            return width
    return None


def test_the_half_width_is_the_smallest_that_covers_enough_pools():
    draw = random.Random(3)
    for n_pools in (1, 8, 9, 10, 30):
        errors = [
            np.array([draw.gauss(0, 0.2) for _ in range(draw.randint(1, 6))])
            for _ in range(n_pools)
        ]
        expected = smallest_width([e.tolist() for e in errors])
        assert conformal_half_width(errors) == expected
        assert (expected is None) == (n_pools < 9)


def test_the_next_pool_is_covered_nine_times_in_ten():
    """Pools differ by a shift of their own that their rows share: rows are not independent."""
    random_numbers = np.random.default_rng(5)
    inside = []
    for _ in range(400):
        shift = random_numbers.normal(0.0, 0.3, size=21)
        errors = [s + random_numbers.normal(0.0, 0.05, size=6) for s in shift]
        width = conformal_half_width(errors[:-1])
        assert width is not None
        inside.append(np.mean(np.abs(errors[-1]) <= width))
    assert 0.88 <= np.mean(inside) <= 0.97


def test_bands_cover_the_pools_left_out_and_few_pools_get_a_floor():
    noisy = [profile(p.pool, LOADS, noise(p.name, p.pool.tensor_parallel)) for p in world()]
    pools = facts_of(noisy)
    band = error_band(pools, "configuration")
    size = np.abs(np.concatenate(left_out_errors(pools, "configuration")))
    assert band.n_pools == 18
    assert np.mean(size <= np.log1p(band.ratio)) >= 0.9
    few = error_band(pools[:4], "configuration")
    assert few.ratio >= FEW_RATIO["configuration"] > band.ratio >= FLOOR_RATIO["configuration"]


def test_an_unknown_gpu_is_a_range_however_well_the_known_ones_agree():
    assert error_band(facts_of(world()), "gpu").ratio >= 0.7
    assert error_band([], "gpu").ratio >= 1.0


def test_probes_narrow_the_band():
    noisy = facts_of([profile(p.pool, LOADS, noise(p.name) ** 6) for p in world()])
    alone, probed = (error_band(noisy, "model", n).ratio for n in (0, 3))
    assert probed < alone


def test_probes_are_the_ends_and_the_middle_of_one_shape():
    own = pool("small", "mid")
    rows = [(n, s) for s in ((512.0, 256.0), (2048.0, 256.0)) for n in (1, 2, 8, 16, 64)]
    points = tuple(
        Point(
            input_tokens=s[0],
            output_tokens=s[1],
            mode="closed",
            concurrency=float(n),
            output_tokens_per_s=100.0 * n**0.5,
            source="made up",
        )
        for n, s in rows
    )
    known = PoolFacts.of(Profile(own, GPUS["mid"], MODELS["small"], points))
    assert [r.n for r in probes_of(known, 3)] == [1.0, 8.0, 64.0]
    assert [r.n for r in probes_of(known, 1)] == [8.0]
    assert len({r.moments.prompt_tokens for r in probes_of(known, 3)}) == 1
