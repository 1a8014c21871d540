"""Why a prompt goes to a model: what each answer is worth, in money, and who is next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from rich.console import Console

from planner.money import ANSWERS, POINTS, ExchangeRate, Reign, reigns, usd_per_point
from planner.quality.router import judge
from planner.quality.rules import Facts, first_match
from planner.report.console import RenderableType, bullet, heading, indented, line, show, table
from planner.report.figures import NONE, fine_usd, number, percent
from planner.spec.arrays import FloatArray
from planner.spec.plan import Plan
from planner.spec.router import CLASS_MEAN, FLEET, PER_PROMPT, Router

N_LIKELY = 3

HowKnown = Literal["declared", "by rule", "inferred", "not known"]

BASIS = {
    FLEET: "means of all classes, as it has too few labels for its own",
    CLASS_MEAN: "the means of its class",
    PER_PROMPT: "the means of its class and per-prompt terms",
}


@dataclass(frozen=True)
class Option:
    """What one model's answer to the prompt is believed to be."""

    model_name: str
    quality: float
    low: float | None  # 95 % interval of the class mean, moved to this prompt;
    high: float | None  # None where the class has too few labels for means of its own
    output_tokens: float
    usd: float

    def net(self, rate: ExchangeRate) -> float:
        """Returns the worth of the answer less its money, in USD."""
        return rate.usd * self.quality - self.usd


@dataclass(frozen=True)
class Shown:
    """A choice with its reasons."""

    known: HowKnown
    likely: tuple[tuple[str, float], ...]  # classes with their probabilities, likeliest first
    basis: str
    options: tuple[Option, ...]
    rate: ExchangeRate | None
    reigns: tuple[Reign, ...]
    planned: tuple[tuple[str, float], ...]  # models and cascades, their shares of that class


def explain(
    router: Router,
    text: str,
    declared: str | None,
    rate: ExchangeRate | None,
    plan: Plan | None,
) -> Shown:
    """Returns how a router weighs its models for a prompt.

    Args:
        router: as trained.
        text: the prompt.
        declared: the class that the request says it is of; one that the router knows.
        rate: what quality is worth, if that is known.
        plan: of the same folder, if there is one.
    """
    known = _how_known(router, text, declared)
    found = judge(router, [text], [Facts(declared=declared)])
    weight = found.class_weight[0]
    options = _options(router, weight, found.quality[0], found.output_tokens[0])
    order = np.argsort(-weight, kind="stable")[:N_LIKELY].tolist()
    likeliest = router.class_names[order[0]]
    usd = np.array([option.usd for option in options])
    return Shown(
        known=known,
        likely=tuple((router.class_names[c], float(weight[c])) for c in order if weight[c] > 0.005),
        basis=BASIS[int(router.trust[order[0]])],
        options=options,
        rate=rate,
        reigns=reigns(np.array([option.quality for option in options]), usd),
        planned=() if plan is None else _planned(plan, likeliest),
    )


def _planned(plan: Plan, class_name: str) -> tuple[tuple[str, float], ...]:
    """Returns the models and cascades that a plan sends a class to, with shares, largest first."""
    model_name = {entry.pool: entry.model_name for entry in plan.deployment}
    share: dict[str, float] = {}
    for route in plan.routing:
        if route.class_name == class_name:
            name = model_name.get(route.pool, route.pool)
            share[name] = share.get(name, 0.0) + route.share
    for way in plan.cascades:
        if way.class_name == class_name:
            # The pools of a stage serve one model.
            first, second = (
                model_name.get(to[0].pool, to[0].pool) for to in (way.first, way.second)
            )
            name = f"{first} and, where {way.signal} < {way.below:g}, {second}"
            share[name] = share.get(name, 0.0) + way.share
    return tuple(sorted(share.items(), key=lambda entry: (-entry[1], entry[0])))


def _how_known(router: Router, text: str, declared: str | None) -> HowKnown:
    if declared is not None:
        return "declared"
    if first_match(router.rules, text) is not None:
        return "by rule"
    return "not known" if router.bayes is None else "inferred"


def _options(
    router: Router, weight: FloatArray, quality: FloatArray, tokens: FloatArray
) -> tuple[Option, ...]:
    """Returns what each model's answer is believed to be, from (M,) estimates."""
    means = router.means
    below = weight @ (means.mean - means.low)
    above = weight @ (means.high - means.mean)
    of_fleet = bool(weight @ (router.trust == FLEET) > 0.5)
    usd = (weight @ router.usd_per_token) * tokens
    return tuple(
        Option(
            model_name=name,
            quality=float(quality[m]),
            low=None if of_fleet else max(0.0, float(quality[m] - below[m])),
            high=None if of_fleet else min(1.0, float(quality[m] + above[m])),
            output_tokens=float(tokens[m]),
            usd=float(usd[m]),
        )
        for m, name in enumerate(router.model_names)
    )


def render_shown(shown: Shown, console: Console) -> None:
    """Writes why a prompt goes to a model."""
    show(_sections(shown), console)


def _sections(shown: Shown) -> Iterator[RenderableType]:
    yield line(_head(shown), "bold")
    yield heading("Per 1,000 such answers")
    yield _table(shown)
    yield indented("95 %: how well the mean of such prompts is known, not how one answer turns out")
    yield indented(_worth(shown.rate))
    if shown.planned:
        parts = ", ".join(f"{percent(share)} to {name}" for name, share in shown.planned)
        yield indented(f"the plan, which rents whole replicas, sends {shown.likely[0][0]}: {parts}")
    yield from _reigns(shown)
    if shown.rate is not None:
        yield from _runner_up(ranked(shown), shown.rate)


def ranked(shown: Shown) -> list[Option]:
    """Returns the options, the one that is worth the most first; the cheapest without a rate."""
    rate = shown.rate or ExchangeRate(0.0, "")
    return sorted(shown.options, key=lambda o: (-o.net(rate), o.usd, o.model_name))


def _head(shown: Shown) -> str:
    classes = ", ".join(f"{name} {percent(part, 0)}" for name, part in shown.likely)
    if shown.known in ("declared", "by rule"):
        classes = shown.likely[0][0]
    winner = f"{ranked(shown)[0].model_name} answers; " if shown.rate else ""
    return f"{winner}class {shown.known}: {classes}; judged by {shown.basis}"


def _table(shown: Shown) -> RenderableType:
    columns = ["quality", "95 %", "tokens", "costs"]
    made = table(["model"], [*columns, *(["is worth", "net"] if shown.rate else [])])
    for place, option in enumerate(ranked(shown)):
        cells = [f"{option.quality:.3f}", _range(option)]
        cells += [number(round(option.output_tokens)), fine_usd(option.usd * ANSWERS)]
        if shown.rate:
            worth = shown.rate.usd * option.quality
            cells += [fine_usd(worth * ANSWERS), fine_usd(option.net(shown.rate) * ANSWERS)]
        first = place == 0 and shown.rate is not None
        made.add_row(">" if first else "", option.model_name, *cells, style="bold" if first else "")
    return made


def _range(option: Option) -> str:
    if option.low is None or option.high is None:
        return NONE
    return f"{option.low:.3f}-{option.high:.3f}"


def _worth(rate: ExchangeRate | None) -> str:
    if rate is None:
        return (
            "who wins depends on what quality is worth: make a plan (rb plan DIR), which says it, "
            "or give --usd-per-point"
        )
    point = fine_usd(usd_per_point(rate))
    return f"a point of quality (0.01) of 1,000 answers is worth {point}: {rate.why}"


def _point(usd_per_quality: float) -> str:
    return fine_usd(usd_per_point(ExchangeRate(usd_per_quality, "")))


def _reigns(shown: Shown) -> Iterator[RenderableType]:
    yield heading("Who wins when a point of quality of 1,000 answers is worth ...")
    made = table(["model"], ["at least", "below"])
    ends = [_point(reign.from_usd) for reign in shown.reigns[1:]]
    for reign, end in zip(shown.reigns, [*ends, NONE], strict=True):
        made.add_row("", shown.options[reign.model].model_name, _point(reign.from_usd), end)
    yield made


def _runner_up(options: list[Option], rate: ExchangeRate) -> Iterator[RenderableType]:
    """Yields what would have to change for the second best to win."""
    if len(options) < 2:
        return
    first, second = options[:2]
    behind = first.net(rate) - second.net(rate)
    yield heading(f"When {second.model_name} would win instead")
    better, dearer = second.quality - first.quality, second.usd - first.usd
    if better * dearer > 0:
        at, times = _point(dearer / better), dearer / better / rate.usd
        more = "more" if better > 0 else "less"
        yield bullet(f"a point worth {at} or {more}, {times:.2g} times what it is now")
    if rate.usd > 0:
        yield bullet(f"its answers {POINTS * behind / rate.usd:.2f} points better than believed")
    if 0 < behind < second.usd:
        yield bullet(f"its answers {percent(behind / second.usd, 0)} cheaper")


def shown_data(shown: Shown) -> dict[str, object]:
    """Returns what is shown as data; money in USD of one answer, the prompt left out."""
    rate = shown.rate
    return {
        "class": {"known": shown.known, "probabilities": dict(shown.likely)},
        "basis": shown.basis,
        "planned": dict(shown.planned),
        "usd_per_quality": None if rate is None else rate.usd,
        "why_usd_per_quality": None if rate is None else rate.why,
        "winner": ranked(shown)[0].model_name if rate else None,
        "models": [
            {
                "model_name": option.model_name,
                "quality": option.quality,
                "low": option.low,
                "high": option.high,
                "output_tokens": option.output_tokens,
                "usd": option.usd,
                "worth_usd": None if rate is None else rate.usd * option.quality,
                "net_usd": None if rate is None else option.net(rate),
            }
            for option in ranked(shown)
        ],
        "wins_from_usd_per_quality": [
            {"model_name": shown.options[r.model].model_name, "usd_per_quality": r.from_usd}
            for r in shown.reigns
        ],
    }
