"""What to score next: against closed forms, drawn futures, and asking everywhere alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from planner.quality.active import (
    Beliefs,
    Request,
    allocate,
    choose_prompts,
    distances,
    label_variance,
    learned,
)
from planner.quality.scores import Scores, make_scores


def beliefs(
    mean: list[list[float]],
    sd: float = 0.05,
    price: list[list[float]] | None = None,
    weight: list[float] | None = None,
) -> Beliefs:
    """Beliefs that are equally sure of every cell; prices zero, classes equal where not given."""
    m = np.array(mean)
    return Beliefs(
        mean=m,
        variance=np.full(m.shape, sd**2),
        label_variance=m * (1.0 - m),
        price=np.zeros(m.shape) if price is None else np.array(price),
        weight=np.full(len(m), 1.0 / len(m)) if weight is None else np.array(weight),
    )


def scores_of(score: list[list[float]], text: list[str] | None = None) -> Scores:
    """Scores of the models a, b, ... on the prompts of one class."""
    grid = np.array(score, dtype=np.float64)
    models = [chr(97 + m) for m in range(grid.shape[1])]
    return make_scores(("one",), models, np.zeros(len(grid), np.int64), grid, text=text)


# ---- Which cells ---------------------------------------------------------------------------------


def test_the_worth_of_labels_is_what_choosing_again_gains() -> None:
    """Against 100,000 equally likely futures: learn, choose again, compare."""
    believed = beliefs([[0.60, 0.57]], sd=0.06)
    sure = replace(believed, variance=np.array([[0.06**2, 0.0]]))
    found = allocate(sure, 32)
    assert found.n_labels.tolist() == [[32, 0]]
    spread = np.sqrt(0.06**2 - learned(0.06**2, 0.24, 32))
    futures = 0.60 + spread * stats.norm.ppf((np.arange(100_000) + 0.5) / 100_000)
    gained = np.maximum(futures, 0.57).mean() - 0.60
    assert found.worth[0, 0] == pytest.approx(gained, rel=1e-4)


def test_it_is_the_closed_form() -> None:
    z = 0.03 / (spread := np.sqrt(0.06**2 - learned(0.06**2, 0.24, 10)))
    expected = spread * (stats.norm.pdf(z) - z * stats.norm.sf(z))
    sure = replace(beliefs([[0.60, 0.57]]), variance=np.array([[0.06**2, 0.0]]))
    assert allocate(sure, 10).worth[0, 0] == pytest.approx(expected, rel=1e-9)


def test_with_one_uncertain_cell_all_labels_go_there() -> None:
    believed = beliefs([[0.6, 0.58, 0.5], [0.7, 0.65, 0.3]])
    variance = np.zeros((2, 3))
    variance[1, 1] = 0.02
    found = allocate(replace(believed, variance=variance), 100)
    assert found.n_labels.tolist() == [[0, 0, 0], [0, 100, 0]]


def test_a_choice_that_is_clear_gets_nothing_while_another_is_open() -> None:
    found = allocate(beliefs([[0.95, 0.30], [0.60, 0.59]], sd=0.04), 200)
    assert found.n_labels[0].sum() == 0 and found.n_labels[1].sum() == 200


def test_equal_doubts_share_the_labels() -> None:
    n_labels = allocate(beliefs([[0.6, 0.58], [0.6, 0.58]]), 256).n_labels
    assert abs(n_labels[0].sum() - n_labels[1].sum()) <= 16


def test_traffic_decides_between_equal_doubts() -> None:
    found = allocate(beliefs([[0.6, 0.58], [0.6, 0.58]], weight=[0.9, 0.1]), 60)
    assert found.n_labels[0].sum() > 3 * found.n_labels[1].sum()


def test_money_moves_the_doubt_to_where_models_are_worth_the_same() -> None:
    """The better model's price makes the two equal in the first class, not in the second."""
    price = [[0.2, 0.0], [0.2, 0.0]]
    found = allocate(beliefs([[0.80, 0.60], [0.80, 0.30]], sd=0.03, price=price), 50)
    assert found.n_labels[0].sum() == 50


def test_nobody_asks_for_a_model_that_cannot_be_chosen() -> None:
    price = [[0.0, 0.0, np.nan]]
    found = allocate(beliefs([[0.6, 0.58, 0.59]], price=price), 50)
    assert found.n_labels[0, 2] == 0 and found.n_labels.sum() == 50


def test_a_far_choice_is_worth_many_labels_at_once() -> None:
    """One label can change nothing here, but 64 can: they are not given one by one."""
    far = replace(beliefs([[0.60, 0.40]]), variance=np.array([[0.0, 0.01]]))
    assert allocate(far, 1).worth.sum() < 1e-12
    assert allocate(far, 256).worth.sum() > 1e-4


def test_where_nothing_is_open_the_stated_quality_is_narrowed() -> None:
    clear = beliefs([[0.9, 0.2], [0.9, 0.2]], sd=0.02, weight=[0.55, 0.45])
    found = allocate(clear, 80)
    assert found.n_labels[:, 1].sum() == 0  # of which the plan makes no use
    assert found.n_labels[0, 0] > found.n_labels[1, 0] > 0
    assert found.sd_after < found.sd_before
    part = np.array([0.55, 0.45]) ** 2
    ways = np.stack([np.arange(81), 80 - np.arange(81)])  # no other way narrows it more
    narrowed = part @ learned(np.full((2, 1), 0.02**2), np.full((2, 1), 0.09), ways)
    assert found.sd_after == pytest.approx(np.sqrt(narrowed.min()), rel=1e-9)
    assert found.sd_before == pytest.approx(0.02 * np.sqrt(part.sum()))
    after = learned(np.full(2, 0.02**2), np.full(2, 0.09), found.n_labels[:, 0])
    assert found.sd_after == pytest.approx(np.sqrt((part * after).sum()))


def test_a_plan_is_indifferent_between_the_models_that_it_uses() -> None:
    believed = beliefs([[0.9, 0.6, 0.5], [0.9, 0.6, 0.5]])
    share = np.array([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]])
    distance, _ = distances(replace(believed, share=share))
    assert distance[0] == pytest.approx([0.0, 0.0, 0.4])
    assert distance[1] == pytest.approx([0.0, 0.0, 0.1])  # the plan passes a better model over


def test_one_model_alone_is_no_choice() -> None:
    distance, share = distances(beliefs([[0.5], [0.7]]))
    assert np.isnan(distance).all() and share.tolist() == [[1.0], [1.0]]
    assert allocate(beliefs([[0.5], [0.7]]), 10).n_labels.sum() == 10  # for the stated quality


@pytest.mark.parametrize("n_labels", [1, 7, 100])
def test_as_many_labels_as_asked_for(n_labels: int) -> None:
    assert allocate(beliefs([[0.6, 0.5], [0.3, 0.4]]), n_labels).n_labels.sum() == n_labels


def test_certainty_asks_for_nothing() -> None:
    assert allocate(beliefs([[0.6, 0.5]], sd=0.0), 10).n_labels.sum() == 0


# ---- Against asking everywhere alike -------------------------------------------------------------


def regret_after(n_rounds: int, active: bool, seed: int) -> float:
    """What the choices lose, on average over traffic, after rounds of 24 labels."""
    rng = np.random.default_rng(seed)
    truth = np.clip(rng.uniform(0.2, 0.9, (6, 1)) + rng.normal(0.0, 0.12, (6, 4)), 0.02, 0.98)
    price = rng.uniform(0.0, 0.15, (6, 4))
    weight = rng.dirichlet(np.full(6, 1.0))
    n = np.full((6, 4), 6)
    right = rng.binomial(n, truth)
    for _ in range(n_rounds):
        mean, variance = posterior(right, n)
        more = np.ones((6, 4), dtype=np.int64)
        if active:
            believed = Beliefs(mean, variance, mean * (1.0 - mean), price, weight)
            more = allocate(believed, 24).n_labels
        right, n = right + rng.binomial(more, truth), n + more
    value = truth - price
    chosen = np.argmax(posterior(right, n)[0] - price, axis=1)
    return float(weight @ (value.max(axis=1) - value[np.arange(6), chosen]))


def posterior(right: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A Beta belief that starts from (3, 3)."""
    mean = (right + 3.0) / (n + 6.0)
    return mean, mean * (1.0 - mean) / (n + 7.0)


def test_asking_where_it_matters_loses_less_than_asking_everywhere() -> None:
    """Paired over 150 worlds: less regret after 6 rounds, and by more than chance."""
    asked = np.array([regret_after(6, True, seed) for seed in range(150)])
    everywhere = np.array([regret_after(6, False, seed) for seed in range(150)])
    gain = everywhere - asked
    assert gain.mean() > 3.0 * gain.std() / np.sqrt(gain.size)
    assert asked.mean() < 0.75 * everywhere.mean()


# ---- Which prompts -------------------------------------------------------------------------------


def test_prompts_that_rivals_answered_come_first() -> None:
    nan = np.nan
    grid = [[nan, nan, nan], [nan, 1, 0], [nan, 1, nan], [1, 0, 1], [nan, nan, 1], [nan, 0, 0]]
    found, missing = choose_prompts(scores_of(grid), np.array([[5, 0, 0]]))
    ids = [int(r.prompt_id[1:]) for r in found]
    assert set(ids[:2]) == {1, 5} and set(ids[2:4]) == {2, 4} and ids[4] == 0
    assert {(r.class_name, r.model_name) for r in found} == {("one", "a")}
    assert missing.tolist() == [[0, 0, 0]]


def test_what_no_prompt_is_left_for_is_counted() -> None:
    found, missing = choose_prompts(scores_of([[1, np.nan], [1, 0]]), np.array([[3, 4]]))
    assert found == (Request("p000000", "one", "b"),)
    assert missing.tolist() == [[3, 3]]


def test_a_duplicate_is_not_asked_again() -> None:
    grid = [[np.nan, 1], [1, 1], [np.nan, 0], [np.nan, 0]]
    scores = scores_of(grid, text=["Hello  there", "hello there", "new", "NEW"])
    found, missing = choose_prompts(scores, np.array([[4, 0]]))
    assert len(found) == 1 and found[0].prompt_id in ("p000002", "p000003")
    assert missing.tolist() == [[3, 0]]


def test_the_order_of_rows_does_not_matter() -> None:
    scores = scores_of([[np.nan, 1.0]] * 30)
    turned = scores.take(np.arange(30)[::-1])
    n_labels = np.array([[10, 0]])
    assert choose_prompts(scores, n_labels)[0] == choose_prompts(turned, n_labels)[0]


# ---- How much a label tells ----------------------------------------------------------------------


def test_labels_of_graded_scores_tell_more_than_right_or_wrong() -> None:
    rng = np.random.default_rng(0)
    mean = np.array([[0.6, 0.3]])
    binary = (rng.random((4000, 2)) < mean).astype(float)
    graded = np.clip(mean + rng.normal(0.0, 0.1, (4000, 2)), 0.0, 1.0)
    assert label_variance(scores_of(binary.tolist()), mean)[0] == pytest.approx(
        [0.24, 0.21], rel=0.05
    )
    assert label_variance(scores_of(graded.tolist()), mean)[0] == pytest.approx(
        [0.0106, 0.0093], rel=0.1
    )
