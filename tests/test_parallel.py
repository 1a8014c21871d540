"""One function over many seeds: what comes back, in which order, and what Ctrl-C leaves."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import parallel_work
import pytest

from planner.errors import InputError
from planner.parallel.local import LocalWorkers, over_seeds


@pytest.mark.parametrize("n_processes", [1, 2])
def test_results_come_in_order_whatever_the_number_of_processes(n_processes):
    seeds = [5, 1, 4, 1, 3]
    expected = [parallel_work.sum_of_draws(seed) for seed in seeds]
    assert list(over_seeds(parallel_work.sum_of_draws, seeds, n_processes)) == expected


def test_two_processes_work_at_the_same_time(tmp_path):
    found = set(over_seeds(parallel_work.process_beside_another, [tmp_path, tmp_path], 2))
    assert len(found) == 2 and os.getpid() not in found


@pytest.mark.parametrize(("n_arguments", "n_processes"), [(1, 8), (3, 1)])
def test_one_call_or_one_process_stays_here(n_arguments, n_processes):
    here = over_seeds(lambda _: os.getpid(), range(n_arguments), n_processes)
    assert list(here) == [os.getpid()] * n_arguments


def test_no_arguments_no_results():
    assert list(over_seeds(parallel_work.sum_of_draws, [], 2)) == []


@pytest.mark.parametrize("n_processes", [1, 2])
def test_an_exception_comes_after_the_results_before_it(n_processes):
    results = over_seeds(parallel_work.broken_at_three, range(6), n_processes)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="no result for seed 3"):
        next(results)


def test_an_exception_comes_while_more_than_a_pipe_holds_is_on_its_way():
    """Each argument fills the pipe to the processes, which are ended at the first exception."""
    results = over_seeds(parallel_work.broken_by_much, [bytes(3_000_000)] * 8, 2)
    with pytest.raises(ValueError, match="no result for 3000000 bytes"):
        next(results)


def test_who_wants_no_more_results_does_not_wait_for_them():
    results = over_seeds(parallel_work.first_at_once, range(4), 2)
    assert next(results) == 0
    began_s = time.monotonic()
    results.close()
    assert time.monotonic() - began_s < 60.0


def test_what_a_killed_process_had_is_done_again(tmp_path):
    with LocalWorkers(2) as workers:
        found = workers.run(parallel_work.killed_once, [(tmp_path, n) for n in range(6)])
        assert list(found) == [0, 1, 4, 9, 16, 25]
    assert (tmp_path / "was-here").exists()


def test_processes_that_always_die_are_the_users_to_know():
    with LocalWorkers(2) as workers, pytest.raises(InputError, match="want of memory"):
        list(workers.run(parallel_work.killed_always, range(4)))


def test_a_script_without_main_is_told_what_it_needs(tmp_path):
    """Each process imports the script, would start processes itself, and is refused that."""
    script = tmp_path / "script.py"
    script.write_text(
        "import math\n"
        "from planner.parallel.local import over_seeds\n"
        "print(list(over_seeds(math.sqrt, [1, 4, 9], 2)))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "processes that evaluate ended with an error (see above)" in done.stderr
    assert "below if __name__ == '__main__':" in done.stderr
    assert "memory" not in done.stderr


def test_processes_are_kept_between_two_lists(tmp_path):
    with LocalWorkers(2) as workers:
        (tmp_path / "a").mkdir()
        (tmp_path / "b").mkdir()
        first = set(workers.run(parallel_work.process_beside_another, [tmp_path / "a"] * 2))
        assert first == set(workers.run(parallel_work.process_beside_another, [tmp_path / "b"] * 2))


def test_processes_that_are_killed_between_two_lists_are_replaced():
    with LocalWorkers(2) as workers:
        assert list(workers.run(parallel_work.sum_of_draws, [1, 2]))
        for child in multiprocessing.active_children():
            child.kill()
            child.join()
        again = list(workers.run(parallel_work.sum_of_draws, [3, 4]))
    assert again == [parallel_work.sum_of_draws(seed) for seed in (3, 4)]


def started() -> tuple[subprocess.Popen[str], list[int]]:
    """A command whose two processes are at work, and their numbers."""
    running = subprocess.Popen(
        [sys.executable, parallel_work.__file__],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        start_new_session=True,
    )
    return running, [int(running.stdout.readline().split()[1]) for _ in range(2)]


def test_ctrl_c_in_the_terminal_ends_all_processes_and_says_nothing():
    """As a terminal does it: the signal goes to every process of the group."""
    running, children = started()
    os.killpg(running.pid, signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert (running.returncode, out, err) == (1, "", "stopped\n")
    for child in children:
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="Linux tells who still runs")
def test_processes_end_when_the_command_is_killed():
    running, children = started()
    running.kill()
    running.wait()
    until_s = time.monotonic() + 30.0
    while any(is_running(child) for child in children):
        assert time.monotonic() < until_s, "processes are left behind"
        time.sleep(0.02)
    running.communicate()


def is_running(process: int) -> bool:
    """Whether a process is there, other than as one that has ended and nobody asked after."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
