"""A plan, and what changes about it, as a comment on a pull request: under 40 lines, always.

Who reads it may never have seen `rb`, and needs no other tool to say yes or no: is it safe, what
does it cost, what does it do to quality and latency, how is it put into effect. Where there is not
room for every row, those that matter least give way, and the comment says how many.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from planner.gate.diff import PlanDiff
from planner.gate.judgement import Judgement
from planner.report.changed import (
    A_CENT,
    A_POINT,
    classes_words,
    in_percent,
    moves,
    quality_step,
    usd_step,
)
from planner.report.figures import count, quality, share, usd
from planner.report.review.blocks import Block, fitted
from planner.report.review.escape import as_code, in_markdown
from planner.report.review.facts import fact_rows
from planner.report.review.tables import (
    dropped_limits,
    figures_block,
    limits_block,
    loosened_limits,
)
from planner.report.review.verdict import BAD, headline
from planner.report.review.way import way_block
from planner.report.transition import used_words
from planner.spec.plan import Plan
from planner.spec.whole import mean_usd_per_h

N_LINES = 39  # under 40
_WORDS = {
    "p50": "p50: half of the requests are faster",
    "p90": "p90: 9 in 10 requests are faster",
    "p95": "p95: 19 in 20 requests are faster",
    "p99": "p99: 99 in 100 requests are faster",
    "ttft": "ttft: time to the first token",
    "tpot": "tpot: time per token after it",
    "e2e": "e2e: time to the whole answer",
}
_MET = {0: "no limits", 1: "the limit is predicted to be met"}
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
        Block((_legend(new),)),
    ]
    return fitted(blocks, N_LINES)


def _legend(new: Plan) -> str:
    """Returns what the words and marks of the tables mean, as far as they are there."""
    limited = [f for f in new.predicted.latency if f.at_most_ms is not None]
    used = {word for f in limited for word in (f.statistic, f.metric)}
    told = ["Quality: mean score of the answers, 0 to 1", "pool: one way to run one model"]
    told += [words for word, words in _WORDS.items() if word in used]
    if limited:
        told.append("±: how far off a prediction may be")
        told.append("simulated: replayed request by request, 95% interval")
    return f"*{'; '.join(told)}.*"


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
    short = f"{_in_short(new, old, diff)} {_in_time(new, old)}"
    yield f"{name}{in_markdown(new.title)}: {short}{shown}"


def _in_short(new: Plan, old: Plan | None, diff: PlanDiff | None) -> str:
    """Returns money, quality and traffic in one sentence, what changes in bold."""
    if diff is None or old is None:
        p, mean = new.predicted, "" if new.periods is None else " on average"
        return f"{usd(mean_usd_per_h(new))} per hour{mean}, quality {quality(p.quality)}."
    if diff.restarts:
        return "**the same routes to as many replicas, but these are started anew.**"
    if diff.empty:
        return "**the same replicas and the same routes as before.**"
    money = diff.mean_usd_per_h
    mean = " on average" if diff.periods_usd else ""
    cost = "the same cost"
    if moves(money, A_CENT):
        cost = in_percent(f"{usd_step(money)} per hour{mean}", money)
    better = "the same quality"
    if moves(diff.quality, A_POINT):
        better = f"quality {in_percent(quality_step(diff.quality), diff.quality)}"
    moved = f"{share(diff.moved_ratio)} of the" if diff.moved_ratio else "no"
    only_one = f" Classes {words}." if (words := classes_words(diff, as_code)) else ""
    return f"**{cost}, {better}**, {moved} traffic goes elsewhere.{only_one}"


def _in_time(new: Plan, old: Plan | None) -> str:
    """Returns what becomes of the latency limits in one sentence."""
    n = sum(f.at_most_ms is not None for f in new.predicted.latency)
    tried = new.simulated.latency if new.simulated else ()
    missed = {f.key for f in new.predicted.latency if f.is_missed}
    missed |= {f.key for f in tried if f.verdict == "missed"}
    n_close = sum(f.verdict == "too close to call" for f in tried)
    told = [f"{BAD} {len(missed)} of {count(n, 'limit')} missed"] if missed else []
    if not missed:
        told.append(_MET.get(n, f"all {n} limits are predicted to be met"))
    if n:
        used = (p.predicted.latency_ratio for p in (new, old) if p is not None)
        now, *then = ["none" if ratio is None else used_words(ratio, 1) for ratio in used]
        told.append(f"the tightest used to {now}" + (f" (before: {then[0]})" if then else ""))
    told += [f"{n_close} too close to call in simulation"] if n_close else []
    if old is not None:
        weaker = {"dropped": dropped_limits(new, old), "loosened": loosened_limits(new, old)}
        told += [f"**{count(len(f), 'limit')} {how}**" for how, f in weaker.items() if f]
    return f"Latency: {', '.join(told)}."


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
