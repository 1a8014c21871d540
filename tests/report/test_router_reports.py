"""What a person reads of a router: 80 columns, every figure, and the right one wins."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from planner.files.write import canonical_json
from planner.money import ExchangeRate, reigns
from planner.quality.active import Allocation, Request
from planner.quality.calibration import Bin, Calibration, LengthFit
from planner.quality.curve import Interval
from planner.quality.evaluate import CurvePoint, Evaluation, Inference, ModelFit, Worth
from planner.quality.labels import ClassLabels, LearningPoint
from planner.quality.router import judge
from planner.quality.scores import make_scores
from planner.quality.shrink import shrunk_means
from planner.quality.splitting import Split
from planner.quality.train import train_router
from planner.report.console import make_console
from planner.report.figures import fine_usd
from planner.report.router_eval import Judged, judged_data, render_judged
from planner.report.router_next import Advice, advice_data, advise, render_advice, shares_by_model
from planner.report.router_show import Option, Shown, explain, ranked, render_shown, shown_data
from planner.scheduling.choice import best_model
from planner.spec.inputs import Inputs
from planner.spec.plan import CascadeRoute, Plan
from planner.spec.router import GateResult, Router, Rule

NAN = math.nan
NEVER = Interval(NAN, NAN, NAN)
ONES = np.ones((2, 2))


def written(render: Callable[[Console], None], width: int = 80) -> str:
    """What a report writes into a pipe; every line fits, and none is cut."""
    stream = io.StringIO()
    render(make_console(stream, width))
    text = stream.getvalue()
    assert max(len(row) for row in text.splitlines()) <= width
    assert all(row == row.rstrip() for row in text.splitlines())
    assert "…" not in text and text.isascii()
    return text


def said(text: str) -> str:
    """A report in one line, so that a sentence may break anywhere."""
    return " ".join(text.split())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234.5, "$1,234"), (12.345, "$12.35"), (0.5, "$0.500"), (0.0123456, "$0.0123"),
        (0.0, "$0.00"), (-0.25, "-$0.250"), (1e-12, "$0.000000000"), (None, "-"),
    ],
)  # fmt: skip
def test_small_money_keeps_three_digits(value: float | None, text: str) -> None:
    assert fine_usd(value) == text


# ---- show ----------------------------------------------------------------------------------------

BIG = Option("big", 0.80, 0.75, 0.85, 300.0, 0.0030)
MIDDLE = Option("middle", 0.70, 0.65, 0.75, 200.0, 0.0010)
SMALL = Option("small", 0.40, 0.30, 0.50, 100.0, 0.0001)


def shown(usd: float | None, *options: Option) -> Shown:
    """A choice between options where a unit of quality of one answer is worth so many USD."""
    quality = np.array([o.quality for o in options])
    return Shown(
        known="inferred",
        likely=(("math", 0.91), ("code", 0.08)),
        basis="the means of its class",
        options=options,
        rate=None if usd is None else ExchangeRate(usd, "as somebody said"),
        reigns=reigns(quality, np.array([o.usd for o in options])),
        planned=(("middle", 0.75), ("small", 0.25)),
    )


@pytest.mark.parametrize(
    ("usd", "order"),
    [
        (0.001, ["small", "middle", "big"]),
        (0.01, ["middle", "big", "small"]),
        (0.05, ["big", "middle", "small"]),
    ],
)
def test_who_nets_most_wins(usd: float, order: list[str]) -> None:
    found = shown(usd, BIG, MIDDLE, SMALL)
    assert [option.model_name for option in ranked(found)] == order
    text = written(lambda console: render_shown(found, console))
    assert text.startswith(f"{order[0]} answers; class inferred: math 91%, code 8%")
    assert [row.split()[0] for row in text.splitlines() if row.startswith(">")] == [">"]
    assert next(row for row in text.splitlines() if row.startswith(">")).split()[1] == order[0]


def test_money_is_that_of_a_thousand_answers() -> None:
    text = written(lambda console: render_shown(shown(0.01, BIG, MIDDLE, SMALL), console))
    row = next(row for row in text.splitlines() if row.startswith(">")).split()
    # 1,000 answers of .70 at $0.01 for a unit are worth $7 and cost $1
    assert row == [">", "middle", "0.700", "0.650-0.750", "200", "$1.00", "$7.00", "$6.00"]
    assert "a point of quality (0.01) of 1,000 answers is worth $0.100" in said(text)
    assert "sends math: 75.0% to middle, 25.0% to small" in said(text)


def test_the_sentences_on_the_runner_up_are_true() -> None:
    """Each change alone makes the second best as good as the winner."""
    rate = ExchangeRate(0.01, "")
    text = said(written(lambda console: render_shown(shown(0.01, BIG, MIDDLE, SMALL), console)))
    assert "When big would win instead" in text
    # middle nets .0060, big .0050
    assert "a point worth $0.200 or more" in text
    at = ExchangeRate(0.02, "")  # $0.200 for a point of 1,000 answers
    assert BIG.net(at) == pytest.approx(MIDDLE.net(at))
    assert "its answers 10.00 points better than believed" in text
    assert replace(BIG, quality=0.90).net(rate) == pytest.approx(MIDDLE.net(rate))
    assert "its answers 33% cheaper" in text
    assert replace(BIG, usd=0.0020).net(rate) == pytest.approx(MIDDLE.net(rate))


def test_a_cheaper_runner_up_wins_where_quality_is_worth_less() -> None:
    text = said(written(lambda console: render_shown(shown(0.01, MIDDLE, SMALL), console)))
    assert "When small would win instead - a point worth $0.0300 or less" in text


def test_a_runner_up_that_is_worse_and_dearer_wins_at_no_rate() -> None:
    worse = replace(MIDDLE, model_name="worse", quality=0.69, usd=0.0011)
    text = said(written(lambda console: render_shown(shown(0.01, MIDDLE, worse), console)))
    assert "When worse would win instead - its answers 2.00 points better" in text
    assert "a point worth" not in text


def test_without_a_rate_it_says_who_wins_when() -> None:
    found = shown(None, BIG, MIDDLE, SMALL)
    text = written(lambda console: render_shown(found, console))
    assert "rb plan DIR" in text and "--usd-per-point" in said(text)
    assert ">" not in text and "answers;" not in text
    rows = [row.split() for row in text.split("is worth ...")[1].splitlines()]
    assert rows[2:5] == [
        ["small", "$0.00", "$0.0300"], ["middle", "$0.0300", "$0.200"], ["big", "$0.200", "-"],
    ]  # fmt: skip


def test_a_single_model_has_no_runner_up() -> None:
    text = written(lambda console: render_shown(shown(0.01, BIG), console))
    assert "instead" not in text and text.startswith("big answers")


def test_what_is_shown_as_data() -> None:
    data = json.loads(canonical_json(shown_data(shown(0.01, BIG, MIDDLE, SMALL))))
    assert data["winner"] == "middle" and data["usd_per_quality"] == 0.01
    assert data["models"][0]["net_usd"] == pytest.approx(0.006)
    assert [w["model_name"] for w in data["wins_from_usd_per_quality"]] == [
        "small",
        "middle",
        "big",
    ]
    assert json.loads(canonical_json(shown_data(shown(None, BIG))))["winner"] is None


@pytest.fixture(scope="module")
def router() -> Router:
    """Trained on three classes that are told apart by their words, one of them hardly labelled."""
    rng = np.random.default_rng(0)
    words = ("garden dinner story film", "python loop array stack", "prime angle matrix root")
    code = np.repeat([0, 1, 2], [60, 60, 12])
    text = [" ".join(rng.choice(words[c].split(), 12)) for c in code]
    quality = np.array([[0.9, 0.92], [0.5, 0.8], [0.2, 0.7]])[code]
    score = (rng.random((132, 2)) < quality).astype(float)
    tokens = np.exp(rng.normal(5.0, 0.3, (132, 2)))
    scores = make_scores(
        ("chat", "code", "math"), ("small", "big"), code, score, text=text, output_tokens=tokens
    )
    return train_router(scores, np.array([[1e-6, 8e-6]] * 3))


@pytest.mark.parametrize("usd", [1e-5, 1e-3, 3e-3, 1e-2, 1.0])
def test_what_is_shown_is_what_is_routed(router: Router, usd: float) -> None:
    for text in ("film garden story dinner", "array loop", "angle of the matrix", "hello"):
        found = explain(router, text, None, ExchangeRate(usd, ""), None)
        judgement = judge(router, [text])
        money = (judgement.class_weight @ router.usd_per_token) * judgement.output_tokens
        chosen = best_model(judgement.quality, money, np.full(2, 1.0 / usd))[0]
        assert ranked(found)[0].model_name == router.model_names[chosen]
        assert [o.usd for o in found.options] == pytest.approx(money[0].tolist())


def test_how_the_class_is_known(router: Router) -> None:
    rate = ExchangeRate(0.01, "")
    inferred = explain(router, "stack loop python", None, rate, None)
    assert (inferred.known, inferred.likely[0][0]) == ("inferred", "code")
    declared = explain(router, "stack loop python", "chat", rate, None)
    assert (declared.known, declared.likely) == ("declared", (("chat", 1.0),))
    ruled = replace(router, rules=(Rule("chat", "pattern", "loop"),))
    by_rule = explain(ruled, "stack loop python", None, rate, None)
    assert (by_rule.known, by_rule.likely) == ("by rule", (("chat", 1.0),))
    unknown = explain(replace(router, bayes=None), "stack loop python", None, rate, None)
    assert unknown.known == "not known" and len(unknown.likely) == 3
    text = written(lambda console: render_shown(by_rule, console))
    assert "class by rule: chat; judged by the means of its class" in text


def test_a_class_with_few_labels_is_judged_by_all(router: Router) -> None:
    found = explain(router, "prime angle matrix root", None, None, None)
    assert found.likely[0][0] == "math" and "too few labels" in found.basis
    assert all(option.low is None for option in found.options)
    trusted = explain(router, "stack loop python", "code", None, None)
    for option in trusted.options:
        assert option.low < option.quality < option.high


def test_the_plan_s_own_routes_are_shown(router: Router, demo_plan: Plan) -> None:
    renamed = tuple(
        route.model_copy(update={"class_name": "chat"})
        for route in demo_plan.routing
        if route.class_name == "gsm"
    )
    plan = demo_plan.model_copy(update={"routing": renamed})
    found = explain(router, "film", "chat", None, plan)
    assert found.planned == (("llama-3.1-70b", 0.6), ("llama-3.1-8b", 0.4))


def cascading(plan: Plan, class_name: str) -> Plan:
    """The plan with half of a class sent to the 8B first, a quarter of that on to the 70B."""
    small, large = "llama-3.1-8b", "llama-3.1-70b"
    pool = {entry.model_name: entry.pool for entry in plan.deployment}
    cascade = CascadeRoute.model_validate(
        {
            "class": class_name, "share": 0.5, "signal": "agreement", "below": 0.25,
            "escalated_ratio": 0.25, "quality": 0.8,
            "first": [{"pool": pool[small], "share": 1.0}],
            "second": [{"pool": pool[large], "share": 1.0}],
        }
    )  # fmt: skip
    routing = tuple(
        route.model_copy(update={"share": route.share / 2, "class_name": class_name})
        for route in plan.routing
        if route.class_name == "gsm"
    )
    return plan.model_copy(update={"routing": routing, "cascades": (cascade,)})


def test_a_cascade_of_the_plan_is_shown(router: Router, demo_plan: Plan) -> None:
    plan = cascading(demo_plan, "chat")
    found = explain(router, "film", "chat", ExchangeRate(0.01, ""), plan)
    way = "llama-3.1-8b and, where agreement < 0.25, llama-3.1-70b"
    assert found.planned == ((way, 0.5), ("llama-3.1-70b", 0.3), ("llama-3.1-8b", 0.2))
    text = said(written(lambda console: render_shown(found, console)))
    assert f"sends chat: 50.0% to {way}, 30.0% to llama-3.1-70b" in text
    assert explain(router, "film", "code", None, plan).planned == ()


# ---- next ----------------------------------------------------------------------------------------


def advice(share: np.ndarray | None = None, usd: float | None = None, n_labels: int = 40) -> Advice:
    """One class that is clear, one that is open and in which model b lacks 10 prompts."""
    code = np.repeat([0, 1], 60)
    place = np.arange(120) * 7 % 60 / 60  # every sixtieth once in each class
    score = (place[:, None] < np.array([[0.9, 0.2], [0.60, 0.58]])[code]).astype(float)
    score[60:70, 1] = np.nan
    scores = make_scores(("clear", "open"), ("a", "b"), code, score)
    rate = None if usd is None else ExchangeRate(usd, "as somebody said")
    money = np.full((2, 2), 0.001)
    weight = np.array([0.5, 0.5])
    return advise(scores, shrunk_means(scores), money, weight, share, rate, n_labels)


def test_what_to_score_next() -> None:
    found = advice(n_labels=20)
    assert found.allocation.n_labels[0].sum() == 0
    text = written(lambda console: render_advice(found, console))
    assert text.startswith("20 answers to score next")
    n_b = int(found.allocation.n_labels[1, 1])
    assert n_b > 10
    assert "Prompts that are there (10 of 10)" in text
    assert "money does not count without a plan or --usd-per-point" in said(text)
    n_a = 20 - n_b
    assert n_a > 0 and n_b - 10 > 0
    new = f"{max(n_a, n_b - 10)} new prompts of open: {n_a} for a, {n_b - 10} for b; the same ones"
    assert new in said(text)


def test_more_prompts_than_fit_are_in_the_data() -> None:
    requests = tuple(Request(f"p{i}", "open", "b") for i in range(25))
    found = replace(advice(), requests=requests)
    assert "(10 of 25; 15 more with --json)" in written(lambda c: render_advice(found, c))
    data = json.loads(canonical_json(advice_data(found)))
    assert [r["prompt_id"] for r in data["requests"]] == [f"p{i}" for i in range(25)]
    assert sum(cell["n_labels"] for cell in data["cells"]) == 40


@pytest.mark.parametrize(("n", "worth", "is_open"), [(20, 4e-6, False), (100_000, 0.004, True)])
def test_no_choice_is_said_to_be_open_only_where_no_score_is_worth_any(
    n: int, worth: float, is_open: bool
) -> None:
    """However many are asked for: of 100,000 labels most do nothing but narrow."""
    first = np.array([[1, 0], [0, 0]])
    found = replace(advice(), allocation=Allocation(n * first, worth * first, 0.02, 0.01))
    text = said(written(lambda console: render_advice(found, console)))
    assert ("worth: points of quality" in text) == is_open
    assert ("no choice is open" in text) == (not is_open)


def test_what_the_choices_rest_on_is_said() -> None:
    found = advice(share=np.array([[1.0, 0.0], [0.5, 0.5]]), usd=0.02)
    text = said(written(lambda console: render_advice(found, console)))
    assert "the routes of the plan, a point of 1,000 answers at $0.200 (as somebody said)" in text


def test_routes_are_added_up_by_the_model_that_was_scored(
    demo_plan: Plan, demo_inputs: Inputs
) -> None:
    """The plan sends gsm to the 70B by six tenths and to the 8B by four, crux to the 70B alone."""
    models = ("llama-3.1-8b", "llama-3.1-70b", "llama-3.1-405b")
    scores = make_scores(("crux", "gsm", "other"), models, np.arange(3), np.full((3, 3), 0.5))
    found = shares_by_model(demo_plan, demo_inputs, scores)
    assert found == pytest.approx(np.array([[0, 1, 0], [0.4, 0.6, 0], [0, 0, 0]]))


def test_the_answers_of_a_cascade_are_those_of_the_model_that_gave_them(
    demo_plan: Plan, demo_inputs: Inputs
) -> None:
    """Half of gsm as before, 0.2 and 0.3; of the other half a quarter is answered by the 70B."""
    scores = make_scores(("gsm",), ("llama-3.1-8b", "llama-3.1-70b"), np.zeros(2, np.int64), ONES)
    found = shares_by_model(cascading(demo_plan, "gsm"), demo_inputs, scores)
    assert found == pytest.approx(np.array([[0.2 + 0.375, 0.3 + 0.125]]))


def test_dear_quality_asks_nothing_of_what_is_cheap_enough() -> None:
    """All models cost the same, so whatever a point is worth, the doubt stays where it is."""
    assert np.array_equal(advice(usd=5.0).allocation.n_labels, advice().allocation.n_labels)


# ---- eval ----------------------------------------------------------------------------------------


def evaluation(**changes: object) -> Evaluation:
    """An evaluation with one of everything."""
    worth = Worth(Interval(0.21, 0.15, 0.28), Interval(1.9, 1.4, 2.5))
    point = [
        CurvePoint(0.001 * (i + 1), Interval(0.5 + i / 100, 0.48, 0.8), 0.5, 0.9) for i in range(21)
    ]
    bins = (Bin(100, 0.25, 0.26, 0.04), Bin(200, 0.75, 0.74, 0.03))
    calibration = Calibration(0.0081, 0.0075, 0.1612, bins)
    why = "per-prompt terms change quality by +0.05 points: not proven to be a gain"
    found = Evaluation(
        n_prompts=400,
        n_distinct=397,
        missing_ratio=0.0625,
        ships_prompt_terms=False,
        curve=tuple(point),
        oracle_points=Interval(9.3, 8.8, 9.9),
        class_means=worth,
        per_prompt=Worth(Interval(0.23, 0.16, 0.29), Interval(2.1, 1.5, 2.6)),
        reference=None,
        inference=Inference(0.83, worth, Interval(0.9, 0.8, 1.0)),
        gate=GateResult(False, 0.05, -0.1, 0.2, 0.01, -0.015, 0.02, 397, 1000, why),
        class_calibration=calibration,
        prompt_calibration=replace(calibration, ece=0.0181),
        models=(
            ModelFit("small", 0.71, 0.73, LengthFit(1.003, 0.68, 120.4, 131.0)),
            ModelFit("big-model-with-a-name", NAN, NAN, LengthFit(0.99, NAN, 88.0, 90.0)),
        ),
        learning=(LearningPoint(100, NEVER), LearningPoint(300, Interval(0.15, 0.1, 0.2))),
        labels=(ClassLabels("chat", 150, 9.0, 6.4, "big"), ClassLabels("code", 99, 12.0, 8.6, "b")),
        splits=(Split("code", "n_lines", 2.5, 0.4, Interval(0.8, 0.2, 1.4)),),
    )
    return replace(found, **changes)


def judged(**changes: object) -> Judged:
    return replace(Judged(evaluation(), "fits", False, ()), **changes)


def test_what_a_router_is_worth() -> None:
    text = written(lambda console: render_judged(judged(), console))
    one = said(text)
    assert text.startswith("ships class means; judged on 400 prompts")
    assert "3 prompts repeat another one" in one
    assert "6.2% of the scores are missing" in one
    assert "the class +1.90 +1.40 +2.50 21% 15% 28%" in one
    assert "no: per-prompt terms change quality by +0.05 points" in one
    assert (
        "class means: off by 0.0081 on average (ECE), where by luck the truth itself would be by"
        in one
    )
    assert "per prompt: off by 0.0181 on average" in one
    assert "the prompt, too +2.10 +1.50 +2.60 23% 16% 29%" in one
    assert "small +0.30% 0.68 120 131 0.71 0.73" in one
    assert "AUC decides nothing" in one
    assert "of the gap, class means close 15.0% with 300 labelled prompts" in one
    assert "code: by n_lines above 2.5 (40% of its prompts) gains 0.80 points" in one
    assert "where the class is inferred, 83.0% are right and 90% (80% to 100%)" in one
    assert one.index("code 99 +-6.0 +-4.3 b") < one.index("chat 150 +-4.5 +-3.2 big")


def test_the_curve_has_both_ends_and_few_rows() -> None:
    text = written(lambda console: render_judged(judged(), console))
    rows = text.split("Quality that can be had for a cost")[1].split("mixing: ")[0].splitlines()
    money = [row.split()[0] for row in rows if row.strip().startswith("$") and "per" not in row]
    assert len(money) == 7 and money[0] == "$1.00" and money[-1] == "$21.00"


def test_the_calibration_in_full_is_that_of_what_ships() -> None:
    """Whatever the gate says today: the file decides."""
    by_prompt = replace(evaluation().class_calibration, bins=(Bin(7, 0.111, 0.122, 0.01),))
    found = evaluation(prompt_calibration=by_prompt)
    for ships in (True, False):
        text = written(
            lambda c, ships=ships: render_judged(
                judged(evaluation=found, ships_prompt_terms=ships), c
            )
        )
        assert ("0.111" in text, "0.250" in text) == (ships, not ships)


def test_what_is_not_there_is_not_shown() -> None:
    bare = evaluation(
        curve=(), per_prompt=None, inference=None, prompt_calibration=None, splits=(),
        missing_ratio=0.0, n_distinct=400,
    )  # fmt: skip
    text = written(lambda console: render_judged(judged(evaluation=bare), console))
    assert "there is nothing to route" in text
    for absent in ("over mixing single", "inferred", "splitting", "missing", "repeat"):
        assert absent not in text


def test_terms_that_change_nothing_are_no_second_router() -> None:
    """No class has enough labels for them: the row and the calibration would be the same again."""
    same = evaluation()
    same = replace(same, per_prompt=same.class_means, prompt_calibration=same.class_calibration)
    text = written(lambda console: render_judged(judged(evaluation=same), console))
    assert "the prompt, too" not in text and "per prompt:" not in text


def test_classes_that_gain_nothing_from_a_cut_are_said_to() -> None:
    cut = Split("code", "n_lines", 2.5, 0.4, Interval(0.8, -0.2, 1.4))
    text = written(lambda c: render_judged(judged(evaluation=evaluation(splits=(cut,))), c))
    assert "none: no cut of a class gains for certain" in said(text)


@pytest.mark.parametrize(
    ("fit", "ships", "low", "wanting"),
    [
        ("fits", False, -0.5, ()),  # class means cannot be worse than class means
        ("fits", True, -0.019, ()),
        ("fits", True, -0.021, ("may be worse than class means, by 0.021 of the gap",)),
        ("fits", True, NAN, ("may be worse than class means",)),
        ("missing", False, 0.0, ()),
        ("stale", False, 0.0, ("trained on other data",)),
        ("stale", True, -0.5, ("trained on other data", "may be worse")),
    ],
)
def test_what_is_found_wanting(fit: str, ships: bool, low: float, wanting: tuple[str]) -> None:
    gate = replace(evaluation().gate, gap_gain_low=low)
    found = judged(evaluation=evaluation(gate=gate), router=fit, ships_prompt_terms=ships)
    assert len(found.wanting) == len(wanting)
    for sentence, part in zip(found.wanting, wanting, strict=True):
        assert part in sentence
    text = said(written(lambda console: render_judged(found, console)))
    assert all(part in text for part in wanting)


def test_what_a_router_is_worth_as_data() -> None:
    data = json.loads(canonical_json(judged_data(judged(left_out=("huge",)))))
    assert data["router"] == "fits" and data["left_out"] == ["huge"] and data["wanting"] == []
    assert data["evaluation"]["class_means"]["gap"] == {"value": 0.21, "low": 0.15, "high": 0.28}
    assert data["evaluation"]["models"][1]["class_auc"] is None  # NaN is no number
