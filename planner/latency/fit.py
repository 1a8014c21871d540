"""fit(profile): from the measurements of one replica to its LatencyModel.

Program
    rows    every usable figure as a linear observation of the step law (observation.py)
    theta   robust log fit with weak physics priors (regress.py, physics.py)
    R(n)    measured over fitted decode step at every measured load, made non-falling with n
    error   the same without one load at a time, the left-out load predicted
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from planner.errors import FitError
from planner.latency.bands import DERIVED, FLAT_RATIO, STEP, Bands, Spread
from planner.latency.capacity import CapacityLaw
from planner.latency.chain import envelope_gap
from planner.latency.correction import corrected
from planner.latency.loadcurve import LoadCurve, line_above
from planner.latency.memory import Memory
from planner.latency.model import LatencyModel
from planner.latency.moments import MixMoments
from planner.latency.observation import (
    Observation,
    design,
    kept_up,
    load_groups,
    observations,
    usable,
)
from planner.latency.pchip import Pchip
from planner.latency.physics import Prior, prior
from planner.latency.regress import LogProblem, fit_log
from planner.latency.steplaw import StepLaw
from planner.spec.arrays import FloatArray
from planner.spec.base import METRICS, Metric, Origin, worst_origin
from planner.spec.pool import Profile
from planner.spec.workload import RequestShape

PREFILL_CEILING = 0.8  # prefills never take more of a measured step than this
TWO_SHAPES = 1.5  # shapes closer than this do not tell the terms of the step law apart
MAX_ENVELOPE_GAP = 0.05
FASTER_THAN_POSSIBLE = 0.9  # of the memory roofline: such a row is a mistake
MOST_SEQS = 2**15  # no replica runs more together; keeps tables small whatever a row claims


def fit(profile: Profile) -> LatencyModel:
    """Returns the LatencyModel of a profile.

    Raises:
        FitError: the profile has no measurement that a latency or a capacity follows from.
    """
    if profile.pool.price is not None:
        return _hosted(profile)
    rows, n_unused = observations(profile.points, profile.pool.max_num_seqs)
    steps = [r for r in rows if r.kind != "ttft"]
    if not steps:
        if profile.capacity:
            return _capacity_only(profile)
        raise FitError(
            profile.name,
            "no row says how long a token takes at a known load",
            f"measure a closed loop at concurrency {_first_concurrency(profile)} and write "
            "concurrency and output_tokens_per_s",
        )
    guess = prior(profile, [r.time_ms for r in steps], [r.n for r in steps])
    kept = [r for r in rows if r.kind == "ttft" or not _impossible(r, guess)]
    steps = [r for r in kept if r.kind != "ttft"]
    if not steps:
        raise FitError(
            profile.name,
            f"every row is faster than the weights can be read ({guess.roofline_ms:.3g} ms a step)",
            f"check the pool's gpu and model, or measure concurrency {_first_concurrency(profile)}",
        )
    n_unused += len(rows) - len(kept)
    return _assemble(profile, kept, n_unused, guess)


def fit_law(rows: Sequence[Observation], guess: Prior, start: FloatArray | None = None) -> StepLaw:
    """Returns the step law of the observations, with its residual through the measured loads."""
    x, log_time, scale = design(rows)
    theta = fit_log(LogProblem(x, log_time, scale, guess.centre_ms, guess.width), start)
    is_step = np.array([r.kind != "ttft" for r in rows])
    time_ms, prefill = np.exp(log_time[is_step]), x[is_step, 3]
    with_prefill = prefill > 0
    if with_prefill.any():
        ceiling = PREFILL_CEILING * np.min(time_ms[with_prefill] / prefill[with_prefill])
        theta[3] = min(theta[3], float(ceiling))
    step, sequence, context, prompt, root, request = (float(v) for v in theta)
    law = StepLaw(step, sequence, context, prompt, root, request)
    return replace(law, residual=_residual(law, [r for r in rows if r.kind != "ttft"]))


def predicted_ms(law: StepLaw, row: Observation) -> float:
    """Returns what the law says about a measured step time, in ms."""
    decode = float(law.decode_ms(np.array([row.n]), row.moments)[0])
    return decode + law.prompt_token_ms * row.weights[3]


def left_out_error(rows: Sequence[Observation], guess: Prior) -> FloatArray:
    """Returns the relative error of every step observation when its load is left out, (N,).

    Empty where there is one load only.
    """
    steps = [r for r in rows if r.kind != "ttft"]
    groups = load_groups(steps)
    if len(groups) < 2:
        return np.zeros(0)
    firsts = [r for r in rows if r.kind == "ttft"]
    errors = np.zeros(len(steps))
    start = fit_law(rows, guess).theta
    for mask in groups:
        kept = [r for r, out in zip(steps, mask, strict=True) if not out]
        law = fit_law(kept + firsts, guess, start)
        for i in np.flatnonzero(mask):
            errors[i] = predicted_ms(law, steps[i]) / steps[i].time_ms - 1.0
    return errors


def _residual(law: StepLaw, steps: Sequence[Observation]) -> Pchip:
    """Returns log R over log n: the measured decode step never falls with n."""
    nodes: list[tuple[float, float, float]] = []
    for mask in load_groups(steps):
        rows = [r for r, inside in zip(steps, mask, strict=True) if inside]
        n = float(np.exp(np.mean([np.log(r.n) for r in rows])))
        ratio = [_log_ratio(law, r) for r in rows]
        nodes.append((float(np.log(n)), float(np.mean(ratio)), float(len(rows))))
    log_n = np.array([a for a, _, _ in nodes])
    log_ratio = np.array([b for _, b, _ in nodes])
    typical = sorted(steps, key=lambda r: r.moments.context_tokens)[len(steps) // 2]
    smooth = np.log(law.decode_ms(np.exp(log_n), typical.moments))
    rising = isotonic(smooth + log_ratio, np.array([c for _, _, c in nodes]))
    log_ratio = rising - smooth
    if log_n.size > 1:
        # One doubling beyond the data every further sequence costs what the last ones did.
        beyond = float(log_n[-1] + np.log(2.0))
        base = float(np.log(law.decode_ms(np.exp(np.array([beyond])), typical.moments))[0])
        log_ratio = np.append(log_ratio, line_above(log_n, rising, beyond) - base)
        log_n = np.append(log_n, beyond)
    return Pchip.through(log_n, log_ratio)


def _log_ratio(law: StepLaw, row: Observation) -> float:
    measured = row.time_ms - law.prompt_token_ms * row.weights[3]
    measured = max(measured, (1.0 - PREFILL_CEILING) * row.time_ms)
    decode = float(law.decode_ms(np.array([row.n]), row.moments)[0])
    return float(np.log(measured / decode))


def isotonic(values: FloatArray, weights: FloatArray) -> FloatArray:
    """Returns the non-falling sequence nearest to the values, (N,) (pool adjacent violators)."""
    blocks: list[list[float]] = []
    for value, weight in zip(values, weights, strict=True):
        blocks.append([float(value), float(weight), 1.0])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            high = blocks.pop()
            low = blocks.pop()
            total = low[1] + high[1]
            mean = (low[0] * low[1] + high[0] * high[1]) / total
            blocks.append([mean, total, low[2] + high[2]])
    return np.concatenate([np.full(int(count), value) for value, _, count in blocks])


def _impossible(row: Observation, guess: Prior) -> bool:
    return row.time_ms < FASTER_THAN_POSSIBLE * guess.roofline_ms


def _first_concurrency(profile: Profile) -> int:
    return max(round(math.sqrt(profile.pool.max_num_seqs or 64)), 1)


def _assemble(
    profile: Profile, rows: Sequence[Observation], n_unused: int, guess: Prior
) -> LatencyModel:
    """Returns the model of the usable rows."""
    steps = [r for r in rows if r.kind != "ttft"]
    n = np.array([r.n for r in steps])
    errors = left_out_error(rows, guess)
    left_out = float(np.mean(np.abs(errors))) if errors.size else FLAT_RATIO
    reach = _reach(steps, float(n.max()))
    setting = profile.pool.max_num_seqs
    law = fit_law(rows, guess)
    bands = _bands(profile, rows, law)
    notes = _coverage_notes(steps, reach, bands) + _source_notes(rows, guess)
    if n_unused:
        notes.append(f"{n_unused} rows of points.csv could not be used")
    if setting is None or setting > reach:
        notes.append(f"at most {reach} sequences per replica are relied on: twice the measured")
    model = LatencyModel(
        profile=profile,
        law=law,
        capacity=None,
        memory=Memory.of(profile),
        max_num_seqs=min(setting, reach) if setting else reach,
        measured_concurrency=(float(n.min()), float(n.max())),
        bands=bands,
        fit_error_ratio=left_out,
        notes=tuple(notes),
        measured_shape=_shape(steps[0].moments),
    )
    return corrected(model)


def notes_of(model: LatencyModel) -> tuple[str, ...]:
    """Returns all that there is to note of a fitted model.

    One note more than its own, which takes a table: where routing, which sees convex hulls, sees
    too little load.
    """
    if model.measured_shape is None:
        return model.notes
    table = model.tabulate([model.measured_shape], np.ones(1))
    gap = envelope_gap(table.loads, table.loads * table.mean_ms["e2e"][0])
    if gap <= MAX_ENVELOPE_GAP:
        return model.notes
    return (
        *model.notes,
        f"requests in the system over the load are up to {gap:.0%} above their convex hull, "
        "which is what routing sees",
    )


def _shape(moments: MixMoments) -> RequestShape:
    return RequestShape(np.array([moments.prompt_tokens]), np.array([moments.output_tokens]))


def _reach(steps: Sequence[Observation], high: float) -> int:
    """Returns the most sequences relied on: one doubling of what ran together (§8).

    An open loop at a mean of n has seen batches of about n + 2 sqrt(n).
    """
    opened = max((r.n for r in steps if r.mode == "open"), default=0.0)
    reach = 2.0 * max(high, opened + 2.0 * np.sqrt(opened))
    return min(int(np.ceil(reach - 1e-9)), MOST_SEQS)


def step_curve(law: StepLaw, rows: Sequence[Observation]) -> LoadCurve:
    """Returns every measured time per token against the smooth law, without R."""
    smooth = replace(law, residual=Pchip())
    steps = [r for r in rows if r.kind != "ttft"]
    base = [float(np.log(predicted_ms(smooth, r))) for r in steps]
    ratio = [float(np.log(r.time_ms)) - b for r, b in zip(steps, base, strict=True)]
    return LoadCurve.of([r.n for r in steps], ratio, base)


def _bands(profile: Profile, rows: Sequence[Observation], law: StepLaw) -> Bands:
    base = worst_origin(profile.pool.origin, *(p.origin for p in profile.points))
    opened = [p for p in profile.points if p.mode == "open" and usable(p) and kept_up(p)]
    known: dict[Metric, Origin] = {
        m: "measured"
        if any(p.figure_ms(m, "mean") and m not in p.estimated for p in opened)
        else "estimated"
        for m in METRICS
    }
    loads = sorted({float(np.log2(r.n)) for r in rows if r.mode == "open" and r.kind != "ttft"})
    return Bands.measured(
        origin={m: worst_origin(base, known[m]) for m in METRICS},
        step=Spread.of(step_curve(law, rows), STEP),
        first=Spread(tuple(loads)) if loads and known["ttft"] == "measured" else None,
        derived=0.0 if known["tpot"] == "measured" else DERIVED,
        least=_estimate_half_width(profile),
    )


def _estimate_half_width(profile: Profile) -> float:
    """Returns the log half-width that a pool's estimated rows have, 0 where all were measured."""
    estimated = any(point.origin == "estimated" for point in profile.points)
    return float(np.log1p(profile.pool.error_ratio or 0.0)) if estimated else 0.0


def _coverage_notes(steps: Sequence[Observation], reach: int, bands: Bands) -> list[str]:
    """Returns what the number of measured loads means."""
    n_loads = len(load_groups(steps))
    if n_loads == 1:
        other = reach if steps[0].n < 16 else 1
        return [
            f"one measured load (concurrency {steps[0].n:.3g}): the shape of the curve is physics, "
            f"the band is wide away from it; measure concurrency {other} next"
        ]
    if n_loads == 2:
        width = f"+-{bands.ratio['tpot']:.0%}"
        return [f"two measured loads: the curve between and beyond them is coarse ({width})"]
    return []


def _source_notes(rows: Sequence[Observation], guess: Prior) -> list[str]:
    """Returns which parts of the law do not come from measurements of this pool."""
    steps = [r for r in rows if r.kind != "ttft"]
    notes: list[str] = []
    if any(r.statistic != "mean" for r in steps):
        notes.append("only medians were measured at some loads: they stand for means, roughly")
    if all(r.mode != "open" for r in steps):
        notes.append("open-loop latency is computed from closed-loop or batch runs: estimated")
    if not any(r.kind == "ttft" for r in rows):
        notes.append("TTFT was not measured: prefill speed is an estimate from datasheets (+-50 %)")
    ratios = [r.moments.prompt_tokens / r.moments.output_tokens for r in steps]
    contexts = [r.moments.context_tokens for r in steps]
    if max(ratios) < TWO_SHAPES * min(ratios) and not any(r.kind == "ttft" for r in rows):
        notes.append("one input:output ratio was measured: what prefills cost is from datasheets")
    if max(contexts) < TWO_SHAPES * min(contexts):
        notes.append("one context length was measured: what KV cache reads cost is from datasheets")
    if not guess.from_facts:
        notes.append("no facts of GPU or model: even the priors are guesses from the measurements")
    return notes


def _hosted(profile: Profile) -> LatencyModel:
    """Returns the model of an API: a rate limit, and latencies that do not depend on our load."""
    max_rps = profile.pool.max_rps
    assert max_rps is not None
    ttft = [p.ttft_mean_ms or p.ttft_p50_ms for p in profile.points]
    tpot = [p.tpot_mean_ms or p.tpot_p50_ms or p.itl_mean_ms for p in profile.points]
    ttft_ms, tpot_ms = [v for v in ttft if v], [v for v in tpot if v]
    known = bool(ttft_ms and tpot_ms)
    law = CapacityLaw.hosted(
        max_rps,
        float(np.mean(ttft_ms)) if known else None,
        float(np.mean(tpot_ms)) if known else None,
    )
    note = (
        "hosted: latency is the provider's and taken as independent of our load"
        if known
        else "hosted: no latency was measured, so no class with a limit may go there"
    )
    return _flow_model(profile, law, note)


def _capacity_only(profile: Profile) -> LatencyModel:
    law = CapacityLaw.measured(profile.capacity)
    return _flow_model(
        profile, law, "only the capacity was measured: no class with a limit may go there"
    )


def _flow_model(profile: Profile, law: CapacityLaw, note: str) -> LatencyModel:
    """Returns a model that knows the work of a request and no step law."""
    origins = [p.origin for p in profile.points] + [p.origin for p in profile.capacity]
    known: Origin = "estimated" if law.ttft_ms is not None else "assumed"
    origin = worst_origin(profile.pool.origin, known, *origins)
    return LatencyModel(
        profile=profile,
        law=None,
        capacity=law,
        memory=Memory.of(profile),
        max_num_seqs=profile.pool.max_num_seqs or 1,
        measured_concurrency=(0.0, 0.0),
        bands=Bands(
            ratio=dict.fromkeys(METRICS, FLAT_RATIO), origin=dict.fromkeys(METRICS, origin)
        ),
        fit_error_ratio=0.0,
        notes=(note,),
    )
