"""Evaluations on a real Ray cluster of two machines, both started here."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import parallel_work
import pytest

from planner.errors import InputError, MissingExtra
from planner.parallel import ray_cluster
from planner.parallel.local import LocalWorkers
from planner.parallel.workers import Workers, open_workers

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
    # A busy machine answers late, and is not dead.
    monkeypatch.setenv("RAY_health_check_failure_threshold", "60")
    cluster = cluster_utils.Cluster(
        initialize_head=True, head_node_args={**MACHINE, "include_dashboard": False}
    )
    yield cluster
    cluster.shutdown()


def test_a_cluster_answers_like_this_machine_and_does_again_what_was_lost(
    cluster, tmp_path, monkeypatch
):
    """In one test: two clusters at a time starve each other on few cores."""
    with open_workers(ray_address=cluster.address) as far:
        same_answers_in_the_same_order(far)
        nobody_waits_for_what_nobody_wants(far)
        lost_process(far, tmp_path / "process")
        lost_machine(far, cluster, tmp_path / "machine")
    machines_without_the_package(cluster, monkeypatch)


def same_answers_in_the_same_order(far: Workers) -> None:
    seeds = [5, 1, 4, 1, 3]
    with LocalWorkers(2) as near:
        expected = list(near.run(parallel_work.sum_of_draws, seeds))
    assert list(far.run(parallel_work.sum_of_draws, seeds)) == expected
    results = far.run(parallel_work.broken_at_three, range(5))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="no result for seed 3"):
        next(results)


def nobody_waits_for_what_nobody_wants(far: Workers) -> None:
    """The cluster has one core: calls that went on would keep it from the next ones."""
    results = far.run(parallel_work.first_at_once, range(4))
    assert next(results) == 0
    began_s = time.monotonic()
    results.close()
    assert list(far.run(parallel_work.sum_of_draws, [1])) == [parallel_work.sum_of_draws(1)]
    assert time.monotonic() - began_s < 60.0


def lost_process(far: Workers, folder: Path) -> None:
    folder.mkdir()
    found = far.run(parallel_work.killed_once, [(folder, n) for n in range(4)])
    assert list(found) == [0, 1, 4, 9]
    assert (folder / "was-here").exists()


def lost_machine(far: Workers, cluster: Any, folder: Path) -> None:
    folder.mkdir()
    machine = cluster.add_node(**MACHINE)

    def lose_it_once_both_work() -> None:
        while len({path.name.split("-")[2] for path in folder.iterdir()}) < 2:
            time.sleep(0.01)  # one process on each: every machine has one core
        cluster.remove_node(machine, allow_graceful=False)

    loser = threading.Thread(target=lose_it_once_both_work)
    loser.start()
    found = list(far.run(parallel_work.slow_square, [(folder, n) for n in range(8)]))
    loser.join()
    assert found == [n * n for n in range(8)]
    begun = [int(path.name.split("-")[1]) for path in folder.iterdir()]
    assert len(begun) > len(set(begun)) == 8  # one was begun twice


def machines_without_the_package(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def version_there(_: None) -> str:
        return ""

    version_there.__module__, version_there.__qualname__ = "only_here", "version_there"
    only_here = ModuleType("only_here")  # importable here, and on no machine of the cluster
    monkeypatch.setattr(only_here, "version_there", version_there, raising=False)
    monkeypatch.setitem(sys.modules, "only_here", only_here)
    monkeypatch.setattr(ray_cluster, "_version_there", version_there)
    with (
        pytest.raises(InputError, match="have version none"),
        open_workers(ray_address=cluster.address),
    ):
        pass


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
