"""A real, quick run on this machine's processor, and a real model step."""

import time

import pytest
from device_cases import DAY, H200, true_s

from planner.profile.device import measure as measuring
from planner.profile.device.calibrate import calibrate
from planner.profile.device.clock import HostClock
from planner.profile.device.collective import MESSAGE_BYTES, all_reduce
from planner.profile.device.machine import find
from planner.profile.device.measure import measure
from planner.profile.device.model_step import make_weights, n_layers_that_fit, step_ms
from planner.profile.device.plan import CPU_QUICK, Gemm, sizes_for, trials
from planner.profile.device.predict import StepShape

pytest.importorskip("torch")

TINY = StepShape(128, 4, 2, 32, 256, 4, 512)


@pytest.fixture(scope="module")
def quick():
    machine, told = find("cpu", 8), []
    clock = HostClock(0.1, time.process_time)  # other processes may be at work
    found = measure(machine, CPU_QUICK, clock, lambda n, n_all: told.append((n, n_all)))
    return machine, found, told


def test_every_trial_has_times_and_progress_is_told(quick):
    machine, found, told = quick
    planned = list(trials(CPU_QUICK, False, machine.n_free_bytes))
    assert [result.trial for result in found.results] == planned
    assert all(min(result.times_s) > 0 for result in found.results)
    assert told == [(n, len(planned)) for n in range(1, len(planned) + 1)]
    assert found.notes == ()


def test_figures_of_a_processor_are_plausible(quick):
    machine, found, _ = quick
    measured = calibrate(found.results, (), machine, DAY)
    assert 0.1 < measured.memory_copy_gb_per_s < 2000
    assert 0.1 < measured.memory_triad_gb_per_s < 2000
    assert 1e-4 < measured.launch_ms < 1 and measured.graph_launch_ms is None
    (products,) = measured.gemm
    assert products.reached_tflops[-1] > products.reached_tflops[0] > 0  # weights are read once
    assert measured.prefill_attention_tflops > 0
    assert min(measured.decode_attention.reached_gb_per_s) > 0


class KnownClock:
    """A clock that knows how long the made-up machine takes, and runs nothing."""

    def __init__(self, planned):
        self.planned = iter(planned)

    def device_s(self, _run):
        return [true_s(next(self.planned))]

    host_s = device_s


def test_what_a_device_cannot_do_is_a_note_and_the_rest_is_measured(monkeypatch):
    def build(trial, _device, n_copies):
        if isinstance(trial, Gemm) and trial.precision == "fp8":
            raise RuntimeError("torch._scaled_mm needs compute capability 8.9\nand more lines")
        return measuring_work(n_copies)

    def measuring_work(n_copies):
        from planner.profile.device.kernels import Work

        return Work(lambda: None, n_copies)

    monkeypatch.setattr(measuring, "build", build)
    monkeypatch.setattr(measuring, "launches", lambda _device: measuring_work(1))
    sizes = sizes_for(True, True)
    able = [
        t for t in trials(sizes, True, H200.n_free_bytes) if getattr(t, "precision", "") != "fp8"
    ]
    found = measure(H200, sizes, KnownClock(able))
    assert [result.trial for result in found.results] == able
    assert found.notes == (
        "matrix product in fp8 could not be measured in every shape: "
        "torch._scaled_mm needs compute capability 8.9",
    )


def test_the_model_does_the_products_that_are_predicted():
    from torch.utils.flop_counter import FlopCounterMode

    counts = []

    class Counter:
        def device_s(self, run):
            with FlopCounterMode(display=False) as counter:
                run()
            counts.append(counter.get_total_flops())
            return [1e-3]

    n = 3
    ms = step_ms(make_weights(TINY, "fp32", "cpu", 2), n, 16, Counter())
    layer = sum(2 * n * n_in * n_out for n_in, n_out in TINY.matrices)
    assert counts == [2 * layer, 2 * n * TINY.head[0] * TINY.head[1]]
    assert ms == pytest.approx(4 / 2 + 1)  # 1 ms for two of four layers, and one for the head


def test_layers_that_fit():
    layer = 4 * (sum(a * b for a, b in TINY.matrices) + 2 * 2 * 32 * 100)
    head = 4 * 128 * 512
    for n_layers in (0, 1, 3, 4):
        assert n_layers_that_fit(TINY, "fp32", 100, head + n_layers * layer + 10) == n_layers
    assert n_layers_that_fit(TINY, "fp32", 100, 1e12) == 4
    assert n_layers_that_fit(TINY, "fp32", 100, 10) == 0


def test_one_device_sums_nothing():
    assert all_reduce("gloo", 1) == ((), None)


def test_a_backend_that_is_not_built_in_is_a_note(monkeypatch):
    import torch.distributed as dist

    monkeypatch.setattr(dist, "is_nccl_available", lambda: False)
    times, note = all_reduce("nccl", 2)
    assert times == () and note is not None and "no nccl" in note


@pytest.mark.slow
def test_two_processes_sum_over_the_loopback():
    times, note = all_reduce("gloo", 3)
    assert note is None
    assert [(t.n_gpus, t.n_bytes) for t in times] == [(2, n_bytes) for n_bytes in MESSAGE_BYTES]
    assert times[1].time_s > times[0].time_s > 0
