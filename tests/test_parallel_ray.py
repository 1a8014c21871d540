"""Evaluations on a real Ray cluster of two machines, both started here."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import parallel_work
import pytest

from planner.errors import InputError, MissingExtra
from planner.parallel.local import LocalWorkers
from planner.parallel.workers import open_workers

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # pipes of ray's own processes
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
MACHINE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


@pytest.fixture
def cluster(monkeypatch) -> Iterator[object]:
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    here = Path(__file__).parent
    monkeypatch.setenv("PYTHONPATH", f"{here.parent}{os.pathsep}{here}")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    cluster = cluster_utils.Cluster(
        initialize_head=True, head_node_args={**MACHINE, "include_dashboard": False}
    )
    yield cluster
    cluster.shutdown()


def test_the_cluster_gives_the_same_answers_in_the_same_order(cluster):
    seeds = [5, 1, 4, 1, 3]
    with open_workers(ray_address=cluster.address) as far, LocalWorkers(2) as near:
        assert list(far.run(parallel_work.sum_of_draws, seeds)) == list(
            near.run(parallel_work.sum_of_draws, seeds)
        )
        results = far.run(parallel_work.broken_at_three, range(5))
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(ValueError, match="no result for seed 3"):
            next(results)


def test_what_a_lost_process_had_is_done_again(cluster, tmp_path):
    with open_workers(ray_address=cluster.address) as workers:
        found = workers.run(parallel_work.killed_once, [(tmp_path, n) for n in range(4)])
        assert list(found) == [0, 1, 4, 9]
    assert (tmp_path / "was-here").exists()


def test_what_a_lost_machine_had_is_done_again(cluster, tmp_path):
    machine = cluster.add_node(**MACHINE)

    def lose_it_once_both_work() -> None:
        while len({path.name.split("-")[2] for path in tmp_path.iterdir()}) < 2:
            time.sleep(0.01)  # one process on each: every machine has one core
        cluster.remove_node(machine, allow_graceful=False)

    with open_workers(ray_address=cluster.address) as workers:
        loser = threading.Thread(target=lose_it_once_both_work)
        loser.start()
        found = list(workers.run(parallel_work.slow_square, [(tmp_path, n) for n in range(8)]))
        loser.join()
    assert found == [n * n for n in range(8)]
    begun = [int(path.name.split("-")[1]) for path in tmp_path.iterdir()]
    assert len(begun) > len(set(begun)) == 8  # one was begun twice


def test_no_cluster_is_the_users_to_know(monkeypatch, tmp_path):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))  # where Ray looks for a cluster of this machine
    with (
        pytest.raises(InputError, match="no Ray cluster answers there"),
        open_workers(ray_address="auto"),
    ):
        pass


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"rb-planner\[ray\]"):
        open_workers(ray_address="auto")
