"""The review of a plan as a comment: what it says, in how many lines, and what it never says."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from drawn_plans import plan_of, with_periods
from hand_plan import BIG, SMALL, hand_plan
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from planner.gate.diff import PlanDiff, diff
from planner.gate.finding import Finding, Rule, error, warning
from planner.gate.judgement import Judgement
from planner.gate.rules import RULES
from planner.gate.way.steps import PeakGpus, PoolStep, Step, Transition
from planner.report.page.assemble import page
from planner.report.page.subject import Subject
from planner.report.review.blocks import Block, fitted, n_lines
from planner.report.review.comment import review_markdown
from planner.report.review.escape import as_code, in_markdown
from planner.report.rules import rules_markdown
from planner.spec.inputs import Inputs
from planner.spec.plan import Bound, Plan, Simulated, SimulatedFigure, Survived

COST = "cost per hour / month of 730 h"
BAD = error("policy-cost", "plan.json:predicted.cost_usd_per_h", "costs $48.55", "plan for less")
MILD = warning("extrapolated", SMALL, "runs at load 214, measured up to 200", "measure it")
SAFE = Transition(
    steps=(
        Step("start", (PoolStep(SMALL, "h100-sxm-80g", 1, 2, 1.0),), 0.0, {}, True, 0.8, 0.9, ()),
        Step("shift", (), 1.0, {}, True, 0.85, 0.93, ()),
    ),
    peak_gpus=(PeakGpus("h100-sxm-80g", 25, 26, 27, 32),),
    judged_by="tables",
    is_safe=True,
    needs=(),
)
BROKEN_STEP = replace(SAFE.steps[1], holds=False, problems=("p95 e2e of gsm breaks", "x"))
UNSAFE = replace(
    SAFE,
    is_safe=False,
    needs=("2 more h100-sxm-80g for a while",),
    steps=(SAFE.steps[0], BROKEN_STEP),
)
UNKNOWN = replace(SAFE, is_safe=None, judged_by="nothing")
ROUGH = replace(SAFE, is_safe=None, judged_by="figures", notes=("capacity alone was judged",))


def rendered(text: str) -> list[Token]:
    """What a Markdown renderer makes of a text: its tokens, inline ones included."""
    tokens = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text)
    return [each for token in tokens for each in (token, *(token.children or []))]


@pytest.fixture(scope="module")
def grown(demo_inputs: Inputs) -> Plan:
    """One small replica more, and a tenth of gsm moved to it."""
    shares = {("gsm", BIG): 0.5, ("gsm", SMALL): 0.5, ("crux", BIG): 1.0, ("math-l5", BIG): 1.0}
    return hand_plan(demo_inputs, {BIG: 6, SMALL: 2}, shares)


def judged(*findings: Finding) -> Judgement:
    return Judgement(findings, RULES)


def change(old: Plan, new: Plan, way: Transition | None) -> PlanDiff:
    return diff(old, new, way)


@pytest.mark.parametrize(
    ("findings", "way", "starts"),
    [
        ((), SAFE, "### ✅ Safe: the plan keeps every rule; every step of the change holds"),
        ((MILD,), SAFE, "### ✅ Safe: the plan keeps every rule (1 warning); every step"),
        ((), UNSAFE, "### ❌ Not safe: the plan keeps every rule; not every step of the change"),
        ((), UNKNOWN, "### ⚠️ Partly judged: the plan keeps every rule; the steps of the change"),
        ((), ROUGH, "### ⚠️ Partly judged: the plan keeps every rule; every step of the change has"),
        ((), None, "### ⚠️ Partly judged: the plan keeps every rule; the steps of the change"),
        ((BAD, BAD, MILD), SAFE, "### ❌ Not safe: 2 errors (1 warning); every step of the change"),
        (None, SAFE, "### ⚠️ Every step of the change holds its limits; the plan itself was not"),
        (None, UNSAFE, "### ❌ Not safe: not every step of the change holds what it has to; the p"),
        (
            None,
            UNKNOWN,
            "### ⚠️ The steps of the change were not judged; the plan itself was not checked",
        ),
    ],
)
def test_the_verdict_comes_first(
    demo_plan: Plan,
    grown: Plan,
    findings: tuple[Finding, ...] | None,
    way: Transition | None,
    starts: str,
) -> None:
    judgement = None if findings is None else judged(*findings)
    text = review_markdown(grown, judgement, demo_plan, change(demo_plan, grown, way))
    assert text.startswith(starts)


def test_what_a_reviewer_has_to_know(demo_plan: Plan, grown: Plan) -> None:
    old = demo_plan.model_copy(update={"bound": bound(0.04)})
    new = grown.model_copy(update={"bound": bound(0.01)})
    way = change(old, new, SAFE)
    text = review_markdown(new, judged(MILD), old, way, where="plans/demo")
    rows = text.splitlines()
    assert rows[2].startswith("`plans/demo`, Three kinds of reasoning, three sizes of Llama 3.1: ")
    assert "**+$2.95 per hour (+4.0%), quality" in rows[2]
    cost = "$73.75 / $53,838 | $76.70 / $55,991 | +$2.95 / +$2,154 (+4.0%)"
    assert f"| cost per hour / month of 730 h | {cost} |" in rows
    assert "| GPUs `h100-sxm-80g` | 25 | 26 | +1, 27 on the way |" in rows
    (limit,) = [row for row in rows if row.startswith("| p95 e2e of `gsm` | 10,000 |")]
    assert re.search(r"±\d+% \| - \| \d+\.\d% \|$", limit)  # not simulated
    assert f"1. start 1 × `{SMALL}` (fullest pool at 80%, tightest limit used to 90%)" in rows
    assert (
        "2. shift all traffic to the new shares (fullest pool at 85%, tightest limit used to 93%)"
        in rows
    )
    assert f"- **Replicas:** `{SMALL}` 1 → 2" in rows
    assert any(row.startswith("- **Traffic:** 4.6% goes elsewhere: ") for row in rows)
    assert any(
        "within 1.0% of the best possible (the plan before: 4.0% off)" in row for row in rows
    )
    mixed = "estimated latencies, and scores of which some, used or compared, are assumed"
    assert f"- **Rests on:** {mixed}" in rows
    assert any(row.startswith(f"- **extrapolated** `{SMALL}`: runs at load 214") for row in rows)


def bound(gap: float) -> Bound:
    cost = 73.75
    return Bound(
        objective="cost_usd_per_h",
        value=cost,
        best_possible=cost * (1 - gap),
        gap_ratio=gap,
        method="by hand",
    )


def test_the_same_plan_says_so(demo_plan: Plan) -> None:
    text = review_markdown(demo_plan, judged(), demo_plan, diff(demo_plan, demo_plan))
    assert "**the same replicas and the same routes as before.**" in text
    assert "How to put it into effect" not in text
    unjudged = review_markdown(demo_plan, None, demo_plan, diff(demo_plan, demo_plan))
    assert unjudged.startswith("### Both plans order the same replicas and routes\n")


def test_a_plan_by_itself_has_no_before(demo_plan: Plan) -> None:
    text = review_markdown(demo_plan, judged(), where="plans/demo")
    assert (
        "| | planned |" in text and "| cost per hour / month of 730 h | $73.75 / $53,838 |" in text
    )
    assert "before" not in text and "→" not in text


def test_a_limit_that_is_gone_or_moved_is_seen(demo_plan: Plan) -> None:
    first, second, *rest = demo_plan.predicted.latency
    assert first.at_most_ms is not None and second.at_most_ms is not None
    changed = (
        first.model_copy(update={"at_most_ms": None}),
        second.model_copy(update={"at_most_ms": 2 * second.at_most_ms}),
        *rest,
    )
    new = demo_plan.model_copy(
        update={"predicted": demo_plan.predicted.model_copy(update={"latency": changed})}
    )
    text = review_markdown(new, judged(), demo_plan, diff(demo_plan, new))
    assert "| no longer limited: p95 e2e of `gsm` (was 10,000) | none | | | | |" in text
    assert "| p95 e2e of `crux` | 20,000 → 40,000 |" in text


def test_needs_of_an_unsafe_way_are_told_before_its_steps(demo_plan: Plan, grown: Plan) -> None:
    rows = review_markdown(
        grown, judged(), demo_plan, change(demo_plan, grown, UNSAFE)
    ).splitlines()
    at = rows.index("* ❌ A safe way takes 2 more h100-sxm-80g for a while")
    assert rows[at + 1].startswith("1. start ")
    assert rows[at + 2].endswith("❌ does not hold: p95 e2e of gsm breaks and 1 more")


def test_one_error_is_enough(demo_plan: Plan) -> None:
    assert review_markdown(demo_plan, judged(BAD)).startswith("### ❌ Not safe: 1 error\n")


def test_gpus_that_do_not_exist_are_told(demo_plan: Plan, grown: Plan) -> None:
    way = replace(UNSAFE, peak_gpus=(PeakGpus("h100-sxm-80g", 25, 26, 27, 26),))
    text = review_markdown(grown, judged(), demo_plan, change(demo_plan, grown, way))
    assert "| GPUs `h100-sxm-80g` | 25 | 26 | +1, 27 on the way, only 26 exist |" in text


def test_the_class_that_loses_most_is_named(demo_plan: Plan) -> None:
    predicted = demo_plan.predicted
    first, second, third = predicted.class_quality
    scores = predicted.class_quality
    worse = {first: scores[first] - 0.02, second: scores[second] - 0.05, third: scores[third] + 0.1}
    new = demo_plan.model_copy(
        update={"predicted": predicted.model_copy(update={"class_quality": worse})}
    )
    text = review_markdown(new, judged(), demo_plan, diff(demo_plan, new))
    assert f"| quality of `{second}`, which loses most |" in text and "| -0.0500 (" in text


def test_facts_that_are_easily_overlooked(demo_plan: Plan) -> None:
    dear = tuple(p.model_copy(update={"cost_usd_per_h": 1e4}) for p in demo_plan.front)
    day = with_periods(demo_plan, 24)
    assert day.periods is not None
    periods = day.periods.model_copy(update={"bound": bound(0.07)})
    new = day.model_copy(
        update={"front": dear, "complete": False, "bound": bound(0.5), "periods": periods}
    )
    rows = review_markdown(new, judged(), demo_plan, diff(demo_plan, new)).splitlines()
    assert "- **Incomplete:** the search was interrupted, a better plan may exist" in rows
    assert any("its cost is within 7.0% of the best possible" in row for row in rows)
    assert any("or less was found: the cheapest is $10,000" in row for row in rows)
    whole = review_markdown(demo_plan, judged())
    assert "Incomplete" not in whole


# ---- Every figure, worked out again from the files -----------------------------------------------


def figures(text: str) -> list[float]:
    """The figures of a cell, in the order in which they stand."""
    return [float(n.replace(",", "")) for n in re.findall(r"-?[\d,]*\d(?:\.\d+)?", text)]


def cells(text: str, title: str) -> list[str]:
    (row,) = [row for row in text.splitlines() if row.startswith(f"| {title} |")]
    return [cell.strip() for cell in row.strip("|").split("|")][1:]


def summed(plan: Plan) -> Plan:
    """A plan that costs what its pools cost, and is the better the more of them it has."""
    update = {
        "cost_usd_per_h": sum(d.usd_per_h for d in plan.deployment),
        "quality": 0.5 + 0.0123 * len(plan.deployment),
    }
    return plan.model_copy(update={"predicted": plan.predicted.model_copy(update=update)})


@pytest.mark.parametrize("seed", range(4))
def test_the_figures_are_those_of_the_plans(seed: int) -> None:
    """Against the files themselves: sums over their rows, by hand."""
    old, new = summed(plan_of(3, 4 + seed, seed)), summed(plan_of(3, 7 - seed, seed + 100))
    text = review_markdown(new, judged(), old, diff(old, new))
    was, now = (json.loads(p.model_dump_json(by_alias=True)) for p in (old, new))
    hour = [p["predicted"]["cost_usd_per_h"] for p in (was, now)]
    before, after, step = map(figures, (c.replace("$", "") for c in cells(text, COST)))
    for shown, cost in zip((before, after), hour, strict=True):
        assert shown == pytest.approx([cost, 730 * cost], rel=1e-3)
    assert [abs(x) for x in step] == pytest.approx(
        [abs(k * (hour[1] - hour[0])) for k in (1, 730)] + [100 * abs(hour[1] / hour[0] - 1)],
        rel=0.01,
        abs=0.051,
    )
    scores = [p["predicted"]["quality"] for p in (was, now)]
    told = [figures(cell)[0] for cell in cells(text, "quality of all traffic")]
    assert told == pytest.approx([*scores, scores[1] - scores[0]], abs=1e-4)
    for gpu in {d["gpu"] for d in was["deployment"] + now["deployment"]}:
        n = [sum(d["n_gpus"] for d in p["deployment"] if d["gpu"] == gpu) for p in (was, now)]
        if n[0] != n[1]:
            told = [figures(cell)[0] for cell in cells(text, f"GPUs `{gpu}`")]
            assert told == pytest.approx([*n, n[1] - n[0]])
    rps = {**was["predicted"]["class_rps"], **now["predicted"]["class_rps"]}
    routes = [{(r["class"], r["pool"]): r["share"] for r in p["routing"]} for p in (was, now)]
    moved = sum(
        abs(routes[1].get(key, 0.0) - routes[0].get(key, 0.0)) * rps[key[0]] / 2
        for key in {*routes[0], *routes[1]}
    )
    (said,) = re.findall(r"\*\*, ([\d.]+)% of the traffic goes elsewhere", text)
    assert float(said) == pytest.approx(100 * moved / sum(rps.values()), abs=0.06)
    assert_limits(text, was["predicted"]["latency"], now["predicted"]["latency"])


def assert_limits(text: str, was: list[dict], now: list[dict]) -> None:
    """Each limit is told as the files have it, or counted among those that are left out."""
    before = {(f["class"], f["metric"], f["statistic"]): f["ms"] for f in was}
    shown = 0
    for f in (f for f in now if f["at_most_ms"] is not None):
        title = f"| {f['statistic']} {f['metric']} of `{f['class']}` |"
        rows = [row for row in text.splitlines() if row.startswith(title)]
        shown += len(rows)
        for row in rows:
            allowed, then, after, _, used = [c.strip() for c in row.strip("|").split("|")][1:]
            assert figures(allowed)[-1] == pytest.approx(f["at_most_ms"], rel=0.005)
            assert figures(then)[0] == pytest.approx(
                before[f["class"], f["metric"], f["statistic"]], rel=0.005
            )
            assert figures(after)[0] == pytest.approx(f["ms"], rel=0.005)
            assert figures(used)[0] == pytest.approx(100 * f["ms"] / f["at_most_ms"], abs=0.06)
            assert ("missed" in used) == (f["ms"] > f["at_most_ms"])
    assert shown >= 1


def test_periods_are_paid_for_by_the_mean_of_their_hours(demo_plan: Plan, grown: Plan) -> None:
    """One round may be longer than another, and a plan without periods has none: $/h compare."""
    day, week = with_periods(demo_plan, 24), with_periods(demo_plan, 12)
    assert day.periods is not None and week.periods is not None
    mean = f"{COST}, mean of all periods"
    text = review_markdown(week, judged(), day, diff(day, week))
    told = [figures(cell.replace("$", ""))[0] for cell in cells(text, mean)[:2]]
    costs = [p.periods.cost_usd_per_h for p in (day, week)]  # type: ignore[union-attr]
    assert told == pytest.approx(costs, abs=0.006)
    assert "Shown: its busiest period, `" in text
    text = review_markdown(day, judged(), grown, diff(grown, day))
    step = day.periods.cost_usd_per_h - grown.predicted.cost_usd_per_h
    assert f"**{'-' if step < 0 else '+'}${abs(step):.2f} per hour on average (" in text
    alone = review_markdown(day, judged())
    assert f": ${day.periods.cost_usd_per_h:.2f} per hour on average, quality" in alone
    assert "| cost per hour, busiest period | $" in alone


def test_a_plan_by_itself_says_what_to_rent_and_what_it_survives(demo_plan: Plan) -> None:
    row, *rows = demo_plan.deployment
    rented = row.model_copy(update={"gpu": None, "n_gpus": 0.0})
    lost = Survived(
        scenario="1.2 times the traffic",
        survives=False,
        utilisation_ratio=1.1,
        latency_ratio=None,
        quality=0.7,
        unserved_ratio=0.0,
    )
    kept = lost.model_copy(update={"scenario": "without 1 of 2", "survives": True})
    gone = kept.model_copy(update={"scenario": "in the simulation", "verdict": "missed"})
    close = kept.model_copy(update={"scenario": "nearly", "verdict": "too close to call"})
    new = demo_plan.model_copy(
        update={"deployment": (rented, *rows), "survives": (lost, kept, gone, close)}
    )
    text = review_markdown(new, judged())
    assert f"- **Replicas:** {row.replicas} × `{row.pool}` (hosted), {rows[0].replicas} × `" in text
    told = "- **Survives:** 1 of 4 scenarios, 1 too close to call, not: 1.2 times the traffic, "
    assert f"{told}in the simulation" in text.splitlines()
    assert "It keeps its promises in 1 of 4 scenarios; in 1 simulation cannot tell" in page(
        Subject(new)
    )


def test_what_the_policy_switches_off_is_named(demo_plan: Plan) -> None:
    """A change of the policy in the same pull request must not pass unseen."""
    for found in ((), (BAD,)):
        judgement = Judgement(found, RULES, (("stale", 2), ("policy-cost", 0)))
        rows = review_markdown(demo_plan, judgement).splitlines()
        assert "2 findings switched off" in rows[0]
        named = "- **Switched off by the policy:** `stale` (2 findings), `policy-cost` (0 findings)"
        assert named in rows


def test_words_say_what_the_marks_say(demo_plan: Plan, grown: Plan) -> None:
    """Where a font has no emoji they are boxes, and a screen reader may leave them out."""
    figure, *figures = grown.predicted.latency
    over = figure.model_copy(update={"ms": 2.0 * (figure.at_most_ms or 1.0)})
    names = {"class": "gsm", "metric": "e2e", "statistic": "p95"}
    verdicts = ("met", "missed", "too close to call")
    tried = [
        SimulatedFigure.model_validate(
            {**names, "class": f.class_name, "metric": f.metric, "statistic": f.statistic}
            | {"ms": 5.0, "low_ms": 4.0, "high_ms": 6.0, "at_most_ms": 5.5, "verdict": verdict}
        )
        for f, verdict in zip(grown.predicted.latency, verdicts, strict=False)
    ]
    new = grown.model_copy(
        update={"predicted": grown.predicted.model_copy(update={"latency": (over, *figures)})}
    )
    assert demo_plan.simulated is None
    simulated = Simulated.model_construct(
        latency=tuple(tried), n_requests=10, seeds=(0,), n_failed=0, n_refused=3
    )
    new = new.model_copy(update={"simulated": simulated})
    text = review_markdown(new, judged(), demo_plan, change(demo_plan, new, UNSAFE))
    assert re.search("[✅⚠❌]", text)
    words = re.sub("[✅⚠️❌] ?", "", text)
    for said in (
        "### Not safe: ",
        " 4.0 to 6.0, met |",
        " 4.0 to 6.0, missed |",
        " 4.0 to 6.0, too close to call |",
        "200.0%, missed |",
        "does not hold: ",
        "1 limit missed, 1 too close to call, 3 requests failed or refused",
    ):
        assert said in words


def test_each_part_is_a_list_or_a_table_of_its_own(demo_plan: Plan, grown: Plan) -> None:
    """Two lists one after the other would be rendered as one, with gaps."""
    way = replace(UNSAFE, steps=UNSAFE.steps * 20)
    found = judged(*[BAD] * 20, *[MILD] * 20)
    tokens = rendered(review_markdown(grown, found, demo_plan, change(demo_plan, grown, way)))
    paragraphs = [t for t in tokens if t.type == "paragraph_open" and t.level == 2]
    assert paragraphs and all(t.hidden for t in paragraphs)  # no list with gaps


# ---- Under 40 lines, whatever there is to say ----------------------------------------------------


def large(plan: Plan, n: int) -> Plan:
    """A plan with n classes, each with a limit, on n pools of n kinds of GPU."""
    row, route, figure = plan.deployment[0], plan.routing[0], plan.predicted.latency[0]
    numbers = range(n)
    name = "a-rather-long-name-of-a-pool-or-class-{}".format
    predicted = plan.predicted.model_copy(
        update={
            "class_rps": {name(k): 1.0 for k in numbers},
            "class_quality": {name(k): 0.5 for k in numbers},
            "latency": tuple(figure.model_copy(update={"class_name": name(k)}) for k in numbers),
        }
    )
    pools = tuple(row.model_copy(update={"pool": name(k), "gpu": name(k)}) for k in numbers)
    routes = tuple(
        route.model_copy(update={"class_name": name(k), "pool": name(k), "share": 1.0})
        for k in numbers
    )
    update = {"deployment": pools, "routing": routes, "predicted": predicted}
    return plan.model_copy(update=update)


@settings(max_examples=40)
@given(
    n=st.integers(1, 30),
    n_errors=st.integers(0, 50),
    n_warnings=st.integers(0, 50),
    n_steps=st.integers(0, 40),
    is_safe=st.sampled_from([True, False, None]),
    compares=st.booleans(),
)
def test_it_stays_under_40_lines(
    demo_plan: Plan,
    n: int,
    n_errors: int,
    n_warnings: int,
    n_steps: int,
    is_safe: bool | None,
    compares: bool,
) -> None:
    new = large(demo_plan, n)
    needs = ("x " * 300,) * (5 if is_safe is False else 0)
    way = replace(SAFE, steps=SAFE.steps[:1] * n_steps, is_safe=is_safe, needs=needs)
    found = judged(*[BAD] * n_errors, *[MILD] * n_warnings)
    compared = change(demo_plan, new, way) if compares else None
    text = review_markdown(new, found, demo_plan if compares else None, compared, where="p" * 300)
    rows = text.splitlines()
    assert len(rows) < 40
    assert max(map(len, rows)) < 700
    if n_errors:
        assert f"**What is wrong** ({n_errors})" in rows
        assert any(row.startswith("- **policy-cost**") for row in rows)
    if n_warnings:
        assert f"**Warnings** ({n_warnings})" in rows
    assert any(row.startswith("| p95 e2e of ") for row in rows)
    assert any(row.startswith("| quality of all traffic |") for row in rows)


def test_what_was_left_out_is_counted() -> None:
    rows = tuple(f"- {k}" for k in range(10))
    text = fitted([Block(rows, ("head",), 2, "- and {n} more")], 6)
    assert text.splitlines() == ["head", "- 0", "- 1", "- 2", "- 3", "- and 6 more"]
    assert fitted([Block(rows, ("head",), 0, "- and {n} more")], 2) == "head\n- 10 more\n"


@given(
    sizes=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3)), max_size=6),
    most=st.integers(1, 60),
)
def test_no_row_is_lost_without_being_counted(sizes: list[tuple[int, int]], most: int) -> None:
    blocks = [
        Block(tuple(f"row {b}.{k}" for k in range(n)), (f"head {b}",), least, "{n} left out")
        for b, (n, least) in enumerate(sizes)
    ]
    text = fitted(blocks, most)
    left_out = sum(int(n) for n in re.findall(r"^(\d+) left out$", text, re.M))
    assert len(re.findall(r"^row ", text, re.M)) + left_out == sum(n for n, _ in sizes)
    least = sum(1 + min(n, b + 1) for n, b in sizes if n)
    gaps = max(sum(n > 0 for n, _ in sizes) - 1, 0)
    assert n_lines(blocks) <= most or len(text.splitlines()) <= max(most, least + gaps)


# ---- What a file says is shown, and does nothing -------------------------------------------------

HOSTILE = [
    "a | b",
    "`code` and ``more``",
    "<img src=x onerror=alert(1)> <!-- gone",
    "[link](https://example.org) ![image](x)",
    "@everybody and @org/team",
    "#12, GH-12, !3, org/repo#4 and ~label",
    "https://example.org/a?b=c and www.example.org",
    "**bold** _it_ ~~gone~~",
    "$a_1$ and $$b$$",
    "line\n\n# heading\r\n- item\n/close",
    "&lt;b&gt; &#64;all",
    "\u202eevil\u202c \x1b[31mred\x07",
    "trailing \\",
    ":tada:",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_text_of_a_file_is_plain_text(text: str) -> None:
    tokens = rendered(f"- said: {in_markdown(text)} and {as_code(text)} end")
    kinds = {t.type for t in tokens if t.type not in ("text", "text_special")}
    assert kinds == {
        "bullet_list_open", "list_item_open", "paragraph_open", "inline",
        "code_inline",
        "paragraph_close", "list_item_close", "bullet_list_close",
    }  # fmt: skip
    shown = "".join(t.content for t in tokens if t.type in ("text", "text_special"))
    told = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    assert shown.replace("\u200b", "") == f"said: {told} and  end"


@pytest.mark.parametrize("text", HOSTILE)
def test_text_of_a_file_breaks_no_table(text: str) -> None:
    table = f"| a | b |\n|---|---|\n| {in_markdown(text)} | {as_code(text)} |\n"
    tokens = rendered(table)
    assert sum(t.type == "td_open" for t in tokens) == 2
    assert not [t.type for t in tokens if t.type in ("html_inline", "link_open", "image")]


@given(st.text(max_size=80))
def test_any_text_is_one_line_of_plain_text(text: str) -> None:
    for made in (in_markdown(text), as_code(text)):
        assert "\n" not in made and all(c.isprintable() or c == "\u200b" for c in made)
    tokens = rendered(f"- x {in_markdown(text)} x")
    marks = [t.type for t in tokens if t.nesting == 1 and t.level > 2]
    assert marks == []
    shown = "".join(t.content for t in tokens if t.type in ("text", "text_special"))
    assert not re.search(r"[@#]\w|GH-\d|://|www\.", shown)  # what a page looks for in its own text


def test_references_to_other_things_are_broken() -> None:
    for text in ("GH-12", "gh-12", "@all", "#12", "!3", "https://x", "www.x.org", ":tada:"):
        assert "\u200b" in in_markdown(f"see {text}")


def test_nothing_that_a_plan_says_comes_through(demo_plan: Plan, grown: Plan) -> None:
    title = " ".join(HOSTILE).replace("\x1b", "")[:2000]
    new = grown.model_copy(update={"title": title})
    bare = review_markdown(demo_plan.model_copy(update={"title": "# big"}))
    assert sum(t.type == "heading_open" for t in rendered(bare)) == 1
    finding = error("stale", title[:300], title, title)
    way = replace(UNSAFE, needs=(title,))
    text = review_markdown(new, judged(finding), demo_plan, change(demo_plan, new, way))
    tokens = rendered(text)
    bad = {"html_inline", "html_block", "link_open", "image", "hr", "s_open", "blockquote_open"}
    assert {t.type for t in tokens} & bad == set()
    assert sum(t.type == "heading_open" for t in tokens) == 1
    assert len(text.splitlines()) < 40
    assert all(not row.lstrip().startswith(("/", "#")) for row in text.splitlines()[1:])


def test_rules_are_a_table_with_a_row_each() -> None:
    odd = Rule("odd", "warning", "plan", "a | b", "`c`", "<d>")
    tokens = rendered(rules_markdown([*RULES, odd]))
    assert sum(t.type == "tr_open" for t in tokens) == len(RULES) + 2
    assert sum(t.type == "td_open" for t in tokens) == 5 * (len(RULES) + 1)
    shown = "".join(t.content for t in tokens if t.type in ("text", "text_special"))
    assert "a | b" in shown and "<d>" in shown
