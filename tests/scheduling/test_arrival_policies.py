"""Each arrival policy against its definition, over random states with dead workers."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.scheduling.balance import POLICIES, Workers, make_policy
from planner.scheduling.draws import Draws

SCORES = {
    "fewest_requests": lambda w, g: w.n_running[g] + w.n_waiting[g],
    "least_kv": lambda w, g: w.kv_tokens[g],
    "vllm": lambda w, g: 4 * w.n_waiting[g] + w.n_running[g],
}


@st.composite
def some_workers(draw):
    """One to nine workers, often alike, at least one of them up."""
    n = draw(st.integers(1, 9))

    def column(most):
        return draw(st.lists(st.integers(0, most), min_size=n, max_size=n))

    is_up = draw(st.lists(st.booleans(), min_size=n, max_size=n).filter(any))
    return Workers(column(4), column(2), [100 * t for t in column(3)], is_up)


def alike(n, is_up=None):
    return Workers([0] * n, [0] * n, [0] * n, is_up or [True] * n)


@pytest.mark.parametrize("name", POLICIES)
@given(some_workers(), st.integers(0, 99))
def test_a_dead_worker_is_never_chosen(name, workers, seed):
    policy = make_policy(name, seed)
    for _ in range(20):
        assert workers.is_up[policy.pick(700, workers)]


@pytest.mark.parametrize("name", POLICIES)
def test_nobody_up_is_said(name):
    with pytest.raises(ValueError, match="no worker is up"):
        make_policy(name, 0).pick(700, alike(3, [False] * 3))


@pytest.mark.parametrize("name", SCORES)
@given(some_workers())
def test_the_least_score_wins(name, workers):
    policy, score = make_policy(name, 0), SCORES[name]
    up = [g for g, each in enumerate(workers.is_up) if each]
    least = min(score(workers, g) for g in up)
    ties = [g for g in up if score(workers, g) == least]
    picks = [policy.pick(700, workers) for _ in range(3 * len(ties))]
    if name == "vllm":
        assert picks == [ties[0]] * len(picks)  # a fixed start of search
    else:
        assert picks == ties * 3  # each in turn


@given(some_workers())
def test_round_robin_gives_everyone_the_same(workers):
    policy = make_policy("round_robin", 0)
    up = [g for g, each in enumerate(workers.is_up) if each]
    assert [policy.pick(700, workers) for _ in range(2 * len(up))] == up * 2


def test_round_robin_skips_the_dead_and_takes_them_back():
    policy, workers = make_policy("round_robin", 0), alike(3)
    assert [policy.pick(1, workers) for _ in range(2)] == [0, 1]
    workers.is_up[2] = False
    assert [policy.pick(1, workers) for _ in range(3)] == [0, 1, 0]
    workers.is_up[2] = True
    assert [policy.pick(1, workers) for _ in range(3)] == [1, 2, 0]


@given(some_workers())
def test_power_of_two_never_takes_the_worst_alone(workers):
    """The single busiest worker loses to whoever is drawn with it."""
    policy = make_policy("power_of_two", 3)
    up = [g for g, each in enumerate(workers.is_up) if each]
    n_requests = {g: workers.n_running[g] + workers.n_waiting[g] for g in up}
    busiest = max(up, key=n_requests.__getitem__)
    alone = list(n_requests.values()).count(n_requests[busiest]) == 1 and len(up) > 1
    picks = {policy.pick(700, workers) for _ in range(50)}
    assert (busiest in picks) <= (not alone)


def test_power_of_two_meets_every_pair_equally_often():
    """With strictly ordered workers, rank r wins against the n - 1 - r busier ones."""
    n, draws = 5, 20_000
    workers = Workers([3, 0, 4, 1, 2], [0] * n, [0] * n, [True] * n)
    policy = make_policy("power_of_two", 1)
    wins = Counter(policy.pick(700, workers) for _ in range(draws))
    for g, n_running in enumerate(workers.n_running):
        expected = draws * (n - 1 - n_running) / (n * (n - 1) / 2)
        assert abs(wins[g] - expected) <= 4 * (draws * 0.25) ** 0.5


def test_power_of_two_keeps_the_first_drawn_in_a_tie():
    policy, draws = make_policy("power_of_two", 9), Draws(9)
    for _ in range(50):
        first = draws.below(6)
        draws.below(5)  # the other one
        assert policy.pick(700, alike(6)) == first


def test_random_is_even_over_those_that_are_up():
    n_draws = 30_000
    policy = make_policy("random", 5)
    workers = alike(4, [True, False, True, True])
    counts = Counter(policy.pick(700, workers) for _ in range(n_draws))
    assert counts.keys() == {0, 2, 3}
    for count in counts.values():
        assert abs(count - n_draws / 3) <= 4 * (n_draws * 2 / 9) ** 0.5


@pytest.mark.parametrize("name", ["random", "power_of_two"])
def test_the_seed_decides(name):
    def picks(seed):
        policy, workers = make_policy(name, seed), alike(50)
        return [policy.pick(700, workers) for _ in range(40)]

    assert picks(1) == picks(1)
    assert picks(1) != picks(2)


def test_only_these_do_not_look():
    blind = {name for name in POLICIES if not make_policy(name, 0).reads_state}
    assert blind == {"random", "round_robin"}


def test_an_idle_cluster_is_used_evenly():
    """At light load every request finds all workers alike; vLLM's fixed start is its own."""
    for name in ("fewest_requests", "least_kv", "round_robin"):
        policy, workers = make_policy(name, 0), alike(4)
        assert Counter(policy.pick(700, workers) for _ in range(40)) == dict.fromkeys(range(4), 10)


# ---- The numbers ---------------------------------------------------------------------------------


def test_draws_against_splitmix64():
    """The sequence of the published generator from state 1234567, first five numbers."""
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    draws = Draws(0)
    draws._state = 1234567
    assert [draws.below(1 << 64) for _ in range(5)] == published


@given(st.integers(0, 1 << 70), st.integers(1, 1000))
def test_draws_stay_below_their_bound(seed, n):
    draws = Draws(seed)
    assert all(0 <= draws.below(n) < n for _ in range(20))


def test_seeds_share_no_numbers():
    """Not even seeds that lie one step of the generator apart."""
    golden = 0x9E3779B97F4A7C15
    sequences = [Draws(seed) for seed in (0, 1, 2, golden, 2 * golden)]
    drawn = [draws.below(1 << 64) for draws in sequences for _ in range(100)]
    assert len(set(drawn)) == 500
