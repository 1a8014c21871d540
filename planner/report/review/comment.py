"""A plan, and what changes about it, as a comment on a pull request: under 40 lines, always.

Who reads it may never have seen `rb`, and needs no other tool to say yes or no: is it safe, what
does it cost, what does it do to quality and latency, how is it put into effect. Where there is not
room for every row, those that matter least give way, and the comment says how many.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from planner.gate.diff import PlanDiff
from planner.gate.judgement import Judgement
from planner.report.figures import count, quality, share, signed_usd, usd
from planner.report.review.blocks import Block, fitted
from planner.report.review.escape import as_code, in_markdown
from planner.report.review.facts import fact_rows
from planner.report.review.tables import (
    A_CENT,
    A_POINT,
    figures_block,
    limits_block,
    mean_cost,
    per_hour,
    relative,
)
from planner.report.review.verdict import headline
from planner.report.review.way import way_block
from planner.spec.plan import Plan

N_LINES = 39  # under 40
LEGEND = (
    "*Quality: mean score of the answers, 0 to 1. ±: how far off a prediction may be. "
    "Simulated: replayed request by request, 95% interval.*"
)
N_ERRORS_KEPT, N_WARNINGS_KEPT = 2, 0


def review_markdown(
    new: Plan,
    judgement: Judgement | None = None,
    old: Plan | None = None,
    diff: PlanDiff | None = None,
    *,
    where: str = "",
) -> str:
    """Returns what a reviewer of a plan wants to know, as Markdown in fewer than 40 lines.

    Args:
        new: the plan that is reviewed.
        judgement: what `rb check` found; None: it was not judged.
        old: the plan before; None: there is none.
        diff: from the old plan to the new one, with its transition where it is known.
        where: the plan as the user named it, e.g. 'plans/demo'.
    """
    errors, warnings = _by_severity(judgement)
    blocks = [
        Block(tuple(_opening(new, judgement, old, diff, where)), least=3),
        _findings(errors, "What is wrong", N_ERRORS_KEPT, where),
        figures_block(new, old, diff),
        limits_block(new, old),
        way_block(diff),
        Block(
            (*_kept_back(judgement), *fact_rows(new, old, diff)),
            least=3,
            more="- and {n} more facts: `rb diff`",
        ),
        _findings(warnings, "Warnings", N_WARNINGS_KEPT, where),
        Block((LEGEND,)),
    ]
    return fitted(blocks, N_LINES)


def _opening(
    new: Plan,
    judgement: Judgement | None,
    old: Plan | None,
    diff: PlanDiff | None,
    where: str,
) -> Iterator[str]:
    yield f"### {headline(judgement, diff)}"
    yield ""
    # Words of ours come first: at the start of a line a title could be a heading, or more.
    name = f"{as_code(where)}, " if where else "Plan: "
    shown = (
        ""
        if new.periods is None
        else f" Shown: its busiest period, {as_code(new.periods.busiest)}."
    )
    yield f"{name}{in_markdown(new.title)}: {_in_short(new, old, diff)}{shown}"


def _in_short(new: Plan, old: Plan | None, diff: PlanDiff | None) -> str:
    """Returns money, quality and traffic in one sentence, what changes in bold."""
    if diff is None or old is None:
        p, mean = new.predicted, "" if new.periods is None else " on average"
        return f"{usd(per_hour(new))} per hour{mean}, quality {quality(p.quality)}."
    if diff.empty:
        return "**the same replicas and the same routes as before.**"
    money = mean_cost(old, new)
    mean = " on average" if diff.periods_usd else ""
    cost = "the same cost"
    if abs(money.difference or 0.0) >= A_CENT / 2:
        cost = f"{signed_usd(money.difference or 0.0)} per hour{mean}"
        cost += f" ({relative(money)})" if money.old else ""
    step = diff.quality.difference or 0.0
    better = f"quality {step:+.4f}" if abs(step) >= A_POINT / 2 else "the same quality"
    moved = f"{share(diff.moved_ratio)} of the" if diff.moved_ratio else "no"
    return f"**{cost}, {better}**, {moved} traffic goes elsewhere."


def _by_severity(judgement: Judgement | None) -> tuple[list[str], list[str]]:
    """Returns the findings as list items: errors, warnings."""
    found = judgement.findings if judgement else ()
    items: tuple[list[str], list[str]] = [], []
    for f in found:
        told = f"- **{in_markdown(f.code)}** {as_code(f.where, 90)}: {in_markdown(f.what)}"
        items[f.severity != "error"].append(f"{told}. *Fix:* {in_markdown(f.fix, 120)}")
    return items


def _kept_back(judgement: Judgement | None) -> Iterator[str]:
    """Yields which rules do not count, so that nobody takes their findings for none."""
    if judgement and judgement.switched_off:
        rules = ", ".join(
            f"{as_code(rule)} ({count(n, 'finding')})" for rule, n in judgement.switched_off
        )
        yield f"- **Switched off by the policy:** {rules}"


def _findings(items: Sequence[str], title: str, least: int, where: str) -> Block:
    tells = as_code(f"rb check {where}".rstrip(), 80)
    head = f"**{title}** ({len(items)})"
    return Block(tuple(items), (head,), least, f"- and {{n}} more: {tells} tells all")
