"""What a router is worth on prompts that were held out, as a person reads it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Console

from planner.money import ANSWERS
from planner.quality.calibration import Calibration
from planner.quality.curve import Interval
from planner.quality.evaluate import CurvePoint, Evaluation, ModelFit, Worth
from planner.quality.labels import ClassLabels, LearningPoint
from planner.quality.splitting import Split
from planner.report.console import RenderableType, bullet, heading, indented, line, show, table
from planner.report.data import as_data
from planner.report.figures import NONE, count, fine_usd, listed, number, percent
from planner.spec.router import GateResult

N_CURVE_ROWS = 7
N_BINS = 5
N_SPLITS = 3
WORSE_RATIO = -0.02
"""Of the gap: what ships must not lose more against class means, at the low end of its interval."""

Fit = Literal["fits", "stale", "missing"]


@dataclass(frozen=True)
class Judged:
    """An evaluation, and what it says about the router file that lies beside the data."""

    evaluation: Evaluation
    router: Fit
    ships_prompt_terms: bool  # by the file; as rb router train would make it if there is none
    left_out: tuple[str, ...]  # models that no pool serves

    @property
    def worse_than_class_means(self) -> bool:
        """Returns whether what ships may lose more than a little against class means."""
        gate = self.evaluation.gate
        return self.ships_prompt_terms and not gate.gap_gain_low >= WORSE_RATIO

    @property
    def wanting(self) -> tuple[str, ...]:
        """Returns what is wrong, sentence by sentence; nothing where all is well."""
        found = []
        if self.router == "stale":
            found.append("router.npz was trained on other data than today's: rb router train DIR")
        if self.worse_than_class_means:
            low = self.evaluation.gate.gap_gain_low
            found.append(
                f"what router.npz ships may be worse than class means, by {-low:.3f} of the gap: "
                "rb router train DIR"
            )
        return tuple(found)


def render_judged(judged: Judged, console: Console) -> None:
    """Writes what a router is worth."""
    show(_sections(judged), console)


def _sections(judged: Judged) -> Iterator[RenderableType]:
    found = judged.evaluation
    yield line(_head(judged), "bold")
    yield from (line(text, "red") for text in judged.wanting)
    yield from _notes(judged)
    yield from _curve(found.curve)
    yield from _gains(found)
    yield from _gate(found.gate)
    yield from _calibration(judged)
    yield from _models(found.models)
    yield from _labels(found)
    yield from _splits(found.splits)


def _head(judged: Judged) -> str:
    terms = "per-prompt terms" if judged.ships_prompt_terms else "class means"
    where = "no router.npz yet; one would ship" if judged.router == "missing" else "ships"
    n = count(judged.evaluation.n_prompts, "prompt")
    return f"{where} {terms}; judged on {n}, each by what never saw it"


def _notes(judged: Judged) -> Iterator[RenderableType]:
    found = judged.evaluation
    yield bullet("prompts of a class count together as much as its share of the traffic")
    doubled = found.n_prompts - found.n_distinct
    if doubled:
        yield bullet(f"{count(doubled, 'prompt')} repeat another one and stay on its side")
    if found.missing_ratio > 0:
        missing = percent(found.missing_ratio)
        yield bullet(f"{missing} of the scores are missing: they count as their class means")
    if judged.left_out:
        yield bullet(f"left out, as no pool of the question serves them: {listed(judged.left_out)}")


def _curve(points: Sequence[CurvePoint]) -> Iterator[RenderableType]:
    yield heading("Quality that can be had for a cost")
    if not points:
        yield bullet("one model is both the cheapest and the best: there is nothing to route")
        return
    made = table([], ["$ per 1,000", "router", "95 % from", "to", "mixing", "gain", "oracle"])
    last = len(points) - 1
    shown = sorted({round(i * last / (N_CURVE_ROWS - 1)) for i in range(N_CURVE_ROWS)})
    for point in (points[i] for i in shown):
        at = point.router
        cells = [fine_usd(point.cost_usd * ANSWERS), _score(at.value), _score(at.low)]
        cells += [_score(at.high), _score(point.mixing), f"{100 * (at.value - point.mixing):+.2f}"]
        made.add_row("", *cells, _score(point.oracle))
    yield made
    yield indented(
        "mixing: sending shares to single models blindly; gain: points over mixing; oracle: knows "
        "each score before, mostly luck that nobody can have"
    )


def _gains(found: Evaluation) -> Iterator[RenderableType]:
    """Yields what routers with more and less knowledge gain over mixing single models."""
    if not found.curve:
        return
    yield heading("Gained over mixing single models, at equal cost")
    columns = ["points", "95 % from", "to", "of the gap", "from", "to"]
    made = table(["router that knows"], columns)
    rows: list[tuple[str, Worth | None]] = [
        ("the class", found.class_means),
        ("the prompt, too", None if found.per_prompt == found.class_means else found.per_prompt),
        ("no class (inferred)", None if found.inference is None else found.inference.worth),
        ("other models' scores", found.reference),
    ]
    for name, worth in rows:
        if worth is None:
            continue
        gain, gap = worth.gain, worth.gap
        points = [_signed(x) for x in (gain.value, gain.low, gain.high)]
        made.add_row("", name, *points, *(_percent(x) for x in (gap.value, gap.low, gap.high)))
    oracle = found.oracle_points
    points = [_signed(x) for x in (oracle.value, oracle.low, oracle.high)]
    made.add_row("", "the scores (luck)", *points, "100%", "", "", style="italic")
    yield made
    if found.reference is None:
        yield bullet(
            "how much knowing the difficulty would give is not known: that takes scores of models "
            "that the question does not serve"
        )
    else:
        yield bullet(
            "other models' scores: a reference, what knowing how models outside the question did "
            "on the same prompt would give"
        )
    if found.inference is not None:
        kept = found.inference.kept
        text = f"where the class is inferred, {percent(found.inference.accuracy)} are right"
        if math.isfinite(kept.value):
            text += f" and {_range(kept)} of the class means' gain is kept"
        yield bullet(text)


def _gate(gate: GateResult) -> Iterator[RenderableType]:
    yield heading("May per-prompt terms be used?")
    yield bullet(f"{'yes' if gate.passed else 'no'}: {gate.why}")


def _calibration(judged: Judged) -> Iterator[RenderableType]:
    found = judged.evaluation
    yield heading("Is what is believed true?")
    kinds = {"class means": found.class_calibration}
    by_prompt = found.prompt_calibration
    if by_prompt is not None and by_prompt != found.class_calibration:
        kinds["per prompt"] = by_prompt
    for name, calibration in kinds.items():
        yield bullet(
            f"{name}: off by {calibration.ece:.4f} on average (ECE), where by luck the truth "
            f"itself would be by {calibration.ece_by_luck:.4f}; Brier {calibration.brier:.4f}"
        )
    shipped = by_prompt if judged.ships_prompt_terms else None
    yield _bins(shipped or found.class_calibration)


def _bins(calibration: Calibration) -> RenderableType:
    made = table([], ["believed", "came true", "+-", "scores"])
    for each in calibration.bins:
        figures = (f"{x:.3f}" for x in (each.believed, each.realised, 1.96 * each.error))
        made.add_row("", *figures, f"{each.n_cells:,}")
    return made


def _models(models: Sequence[ModelFit]) -> Iterator[RenderableType]:
    yield heading("Lengths, and AUC")
    numbers = ["all tokens", "rank", "off by", "class's", "AUC class", "AUC prompt"]
    made = table(["model"], numbers)
    for model in models:
        fit = model.lengths
        cells = [_signed(100 * (fit.total_ratio - 1), "%"), _plain(fit.spearman)]
        cells += [_tokens(fit.mean_error_tokens), _tokens(fit.class_mean_error_tokens)]
        made.add_row(
            "", model.model_name, *cells, _plain(model.class_auc), _plain(model.prompt_auc)
        )
    yield made
    yield indented(
        "all tokens: predicted against realised, which sizes capacity; rank: Spearman; off by: "
        "tokens, on average; class's: the same of class means. AUC decides nothing: routers with "
        "a higher one often route no better"
    )


def _labels(found: Evaluation) -> Iterator[RenderableType]:
    yield heading("What more labels would buy")
    made = table(["class"], ["prompts", "known within", "with twice"], ["least known"])
    for each in sorted(found.labels, key=_least_known_first):
        widths = (f"+-{width / 2:.1f}" for width in (each.width, each.width_doubled))
        made.add_row("", each.class_name, f"{each.n_prompts:,}", *widths, each.widest_model)
    yield made
    yield indented("in points of the class's mean score, 95 %; rb router next says which to score")
    yield from _learning(found.learning)


def _least_known_first(labels: ClassLabels) -> tuple[float, str]:
    return (-labels.width if math.isfinite(labels.width) else -math.inf, labels.class_name)


def _learning(points: Sequence[LearningPoint]) -> Iterator[RenderableType]:
    known = [point for point in points if math.isfinite(point.gap.value)]
    if known:
        steps = ", ".join(f"{percent(p.gap.value)} with {p.n_prompts:,}" for p in known)
        yield bullet(f"of the gap, class means close {steps} labelled prompts")


def _splits(splits: Sequence[Split]) -> Iterator[RenderableType]:
    worthwhile = [split for split in splits if split.worthwhile]
    if not splits:
        return
    yield heading("Classes worth splitting")
    if not worthwhile:
        yield bullet("none: no cut of a class gains for certain on held-out prompts")
    for split in worthwhile[:N_SPLITS]:
        gain = split.gain
        yield bullet(
            f"{split.class_name}: by {split.feature} above {split.threshold:.3g} "
            f"({percent(split.share_above, 0)} of its prompts) gains {gain.value:.2f} points in "
            f"it ({gain.low:.2f} to {gain.high:.2f})"
        )


def _score(value: float) -> str:
    return f"{value:.4f}"


def _plain(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else NONE


def _tokens(value: float) -> str:
    return number(round(value)) if math.isfinite(value) else NONE


def _signed(value: float, unit: str = "") -> str:
    return f"{value:+.2f}{unit}" if math.isfinite(value) else NONE


def _percent(value: float) -> str:
    return percent(value, 0) if math.isfinite(value) else NONE


def _range(interval: Interval) -> str:
    low, high = _percent(interval.low), _percent(interval.high)
    return f"{_percent(interval.value)} ({low} to {high})"


def judged_data(judged: Judged) -> dict[str, object]:
    """Returns what a router is worth as data."""
    return {
        "router": judged.router,
        "ships_prompt_terms": judged.ships_prompt_terms,
        "left_out": list(judged.left_out),
        "wanting": list(judged.wanting),
        "evaluation": as_data(judged.evaluation),
    }
