"""Functions that run in other processes, for tests of planner.parallel, and a command of them."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from planner.parallel.local import over_seeds


def sum_of_draws(seed: int) -> float:
    return float(np.random.default_rng(seed).random(1000).sum())


def process_beside_another(folder: Path) -> int:
    """The number of this process, when a second one is here, too."""
    (folder / str(os.getpid())).touch()
    while len(list(folder.iterdir())) < 2:
        time.sleep(0.01)
    return os.getpid()


def broken_at_three(seed: int) -> int:
    if seed == 3:
        raise ValueError(f"no result for seed {seed}")
    return seed


def broken_by_much(data: bytes) -> int:
    raise ValueError(f"no result for {len(data)} bytes")


def first_at_once(seed: int) -> int:
    if seed:
        time.sleep(600.0)
    return seed


def killed_once(arguments: tuple[Path, int]) -> int:
    """The square of a number; the process of 2 is killed at its first try, with all it had."""
    folder, number = arguments
    if number == 2 and not (folder / "was-here").exists():
        (folder / "was-here").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def killed_always(seed: int) -> int:
    if seed == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return seed


def slow_square(arguments: tuple[Path, int]) -> int:
    """The square of a number; leaves a mark when it begins."""
    folder, number = arguments
    (folder / f"begun-{number}-{os.getpid()}").touch()
    time.sleep(1.0)
    return number * number


def forever(seed: int) -> int:
    sys.stdout.write(f"started {os.getpid()}\n")  # in one piece
    sys.stdout.flush()
    time.sleep(600.0)
    return seed


if __name__ == "__main__":
    try:
        print(list(over_seeds(forever, range(4), 2)))
    except KeyboardInterrupt:
        sys.exit("stopped")
