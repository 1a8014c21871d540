"""What is remembered of sessions."""

from planner.scheduling.affinity import Affinity


def test_only_where_a_session_was_is_its_prompt_cached():
    affinity = Affinity(share=0.9)
    affinity.went("a", 2, 1000)
    assert affinity.fresh_tokens("a", 2, 1500) == 600.0
    assert affinity.fresh_tokens("a", 1, 1500) == 1500
    assert affinity.fresh_tokens("b", 2, 1500) == 1500
    assert affinity.home("a") == (2, 900.0)
    assert affinity.home("b") is None


def test_one_token_at_least_is_prefilled():
    affinity = Affinity(share=1.0)
    affinity.went("a", 0, 1000)
    assert affinity.fresh_tokens("a", 0, 800) == 1.0
    assert affinity.fresh_tokens("a", 0, 0) == 0


def test_the_last_answer_counts():
    affinity = Affinity(share=1.0)
    affinity.went("a", 0, 100)
    affinity.went("a", 1, 200)
    assert [affinity.fresh_tokens("a", g, 500) for g in (0, 1)] == [500, 300.0]


def test_those_used_longest_ago_are_forgotten_first():
    affinity = Affinity(most_sessions=2, share=1.0)
    for session in ("a", "b", "a", "c"):
        affinity.went(session, 0, 100)
    assert [affinity.fresh_tokens(s, 0, 500) for s in "abc"] == [400.0, 500, 400.0]


def test_sessions_of_kept_instances_follow_them():
    affinity = Affinity(share=1.0)
    affinity.went("a", 0, 100)
    affinity.went("b", 1, 100)
    affinity.renewed({1: 0})
    assert [affinity.fresh_tokens(s, 0, 500) for s in "ab"] == [500, 400.0]
