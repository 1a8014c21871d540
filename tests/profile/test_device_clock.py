"""The CUDA clock on a made-up CUDA: order of events, blocks long enough, time per run."""

import contextlib
from importlib.util import find_spec

import pytest

from planner.profile.device.clock import CudaClock, HostClock, clock_for
from planner.profile.device.measure import Result
from planner.profile.device.plan import Launch

needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")


class FakeCuda:
    """As much of torch.cuda as the clock uses; a replay takes a known time on its own clock."""

    def __init__(self, replay_s: float, first_extra_s: float = 0.0) -> None:
        self.now_s = 0.0
        self.replay_s = replay_s
        self.extra_s = first_extra_s
        self.log: list[str] = []
        self.capturing = False

    def Stream(self):
        return self

    def current_stream(self):
        return self

    def wait_stream(self, other):
        self.log.append("wait")

    @contextlib.contextmanager
    def stream(self, side):
        self.log.append("side")
        yield

    def CUDAGraph(self):
        return FakeGraph(self)

    @contextlib.contextmanager
    def graph(self, graph):
        self.capturing = True
        yield
        self.capturing = False

    def Event(self, enable_timing):
        assert enable_timing
        return FakeEvent(self)


class FakeGraph:
    def __init__(self, cuda):
        self.cuda = cuda

    def replay(self):
        assert "capture" in self.cuda.log
        self.cuda.now_s += self.cuda.replay_s + self.cuda.extra_s
        self.cuda.extra_s = 0.0
        self.cuda.log.append("replay")

    def reset(self):
        self.cuda.log.append("reset")


class FakeEvent:
    def __init__(self, cuda):
        self.cuda = cuda
        self.synchronized = False

    def record(self):
        self.at_s = self.cuda.now_s

    def synchronize(self):
        self.synchronized = True

    def elapsed_time(self, end):
        assert end.synchronized  # else the figure is not there yet
        return (end.at_s - self.at_s) * 1e3


def timed(cuda: FakeCuda, block_s: float = 0.02, n_repeats: int = 7) -> list[float]:
    def run() -> None:
        cuda.log.append("capture" if cuda.capturing else "warm")

    return CudaClock(cuda, HostClock(0.1), n_repeats, block_s).device_s(run)


@pytest.mark.parametrize("replay_s", [1e-5, 1e-3, 0.5])
def test_the_time_of_one_run_comes_back(replay_s):
    assert timed(FakeCuda(replay_s)) == pytest.approx([replay_s] * 7)


def test_a_slow_first_replay_is_not_in_the_figures():
    assert timed(FakeCuda(1e-3, first_extra_s=1.0)) == pytest.approx([1e-3] * 7)


def test_warm_up_then_capture_once_then_replays_then_free():
    cuda = FakeCuda(1e-3)
    timed(cuda, block_s=0.01, n_repeats=3)
    assert cuda.log[:6] == ["wait", "side", "warm", "warm", "warm", "wait"]
    assert cuda.log[6] == "capture" and cuda.log.count("capture") == 1
    # Two to learn the length, ten to warm up, three blocks of ten.
    assert cuda.log[7:] == ["replay"] * (2 + 10 + 30) + ["reset"]


def test_a_run_longer_than_a_block_is_replayed_once_per_block():
    cuda = FakeCuda(0.5)
    timed(cuda, block_s=0.01, n_repeats=3)
    assert cuda.log.count("replay") == 2 + 1 + 3


@needs_torch
def test_the_host_clock_repeats():
    calls = []
    times_s = HostClock(1.0).device_s(lambda: calls.append(1))
    assert len(times_s) >= 4 and min(times_s) > 0
    assert len(calls) > len(times_s)  # blocks of many


@needs_torch
def test_the_host_clock_takes_another_clock():
    ticks = iter(range(10**9))
    times_s = HostClock(1.0, lambda: float(next(ticks))).device_s(lambda: None)
    assert min(times_s) == max(times_s) <= 1.0  # one tick per block


@needs_torch
def test_a_processor_has_the_host_clock():
    assert clock_for(False, True) == HostClock(0.2)
    assert clock_for(True, False).n_repeats > clock_for(True, True).n_repeats


def test_the_middle_of_repeats_and_their_spread():
    result = Result(Launch(False), (1.0, 2.0, 3.0, 4.0, 100.0))
    assert (result.median_s, result.spread_ratio) == (3.0, (4.0 - 2.0) / 3.0)
