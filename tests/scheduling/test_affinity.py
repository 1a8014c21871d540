"""What is remembered of sessions."""

from planner.scheduling.affinity import Affinity


def test_a_session_is_at_home_where_it_went_last():
    affinity = Affinity(share=0.9)
    affinity.went("a", 2, 1000)
    assert affinity.home("a") == (2, 900.0)
    affinity.went("a", 1, 200)
    assert affinity.home("a") == (1, 180.0)
    assert affinity.home("b") is None


def test_those_used_longest_ago_are_forgotten_first():
    affinity = Affinity(most_sessions=2, share=1.0)
    for k, session in enumerate(("a", "b", "a", "c")):
        affinity.went(session, k, 100)
    assert [affinity.home(s) for s in "abc"] == [(2, 100.0), None, (3, 100.0)]


def test_only_so_many_are_remembered():
    affinity = Affinity(most_sessions=10)
    for session in range(1000):
        affinity.went(session % 300, 0, 1)
    assert sum(affinity.home(session) is not None for session in range(300)) == 10
