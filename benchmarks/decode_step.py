"""Decode steps predicted from measured kernels, against steps of random models timed in torch.

    python benchmarks/decode_step.py [--device auto|cuda|cpu] [--quick]

Measures the device as `rb profile gpu` does, predicts the step of models of the Llama form at
several batch sizes and contexts, builds them with random weights and times them on the same clock:
a CUDA graph on a GPU, eager on a processor. Of a model spread over several GPUs it is the part of
one GPU, without its all-reduces. Where not all layers fit, those that do are timed and scaled. On a
processor times are CPU seconds of one thread, so that other processes disturb them less.
"""

from __future__ import annotations

import argparse
import datetime
import os
import time

import numpy as np
import torch

from planner.profile.device.calibrate import calibrate
from planner.profile.device.clock import Clock, HostClock, clock_for
from planner.profile.device.machine import Machine, find
from planner.profile.device.measure import measure
from planner.profile.device.model_step import make_weights, n_layers_that_fit, step_ms
from planner.profile.device.plan import sizes_for
from planner.profile.device.predict import StepShape, decode_step
from planner.spec.hardware import GpuMeasured, KernelPrecision

ON_GPU = {
    "8B": StepShape(4096, 32, 8, 128, 14336, 32, 128256),
    "70B, one GPU of 8": StepShape(8192, 64, 8, 128, 28672, 80, 128256, tensor_parallel=8),
}
ON_CPU = {
    "4 layers of 12M": StepShape(1024, 16, 8, 64, 2816, 4, 8192),
}
BATCHES_ON_GPU, CONTEXTS_ON_GPU = (1, 8, 32, 128), (512, 4096)
BATCHES_ON_CPU, CONTEXTS_ON_CPU = (1, 4, 16), (128, 1024)


def errors_of(
    name: str, shape: StepShape, machine: Machine, measured: GpuMeasured, clock: Clock
) -> list[float]:
    """Prints a row per batch size and context; returns the relative errors."""
    precision: KernelPrecision = "bfloat16" if machine.on_gpu else "fp32"
    batches = BATCHES_ON_GPU if machine.on_gpu else BATCHES_ON_CPU
    contexts = CONTEXTS_ON_GPU if machine.on_gpu else CONTEXTS_ON_CPU
    most_tokens = max(batches) * max(contexts)
    n_layers = n_layers_that_fit(shape, precision, most_tokens, 0.8 * machine.n_free_bytes)
    if n_layers == 0:
        print(f"| {name} | does not fit |")
        return []
    weights = make_weights(shape, precision, machine.device, n_layers)
    found = []
    for context in contexts:
        for n in batches:
            true_ms = step_ms(weights, n, context, clock)
            said = decode_step(measured, shape, n, context, precision)
            found.append(said.total_ms / true_ms - 1.0)
            print(
                f"| {name} | {n_layers} | {n} | {context} | {true_ms:.3f} | {said.total_ms:.3f} "
                f"| {found[-1]:+.1%} | {said.products_ms:.3f} + {said.attention_ms:.3f} "
                f"+ {said.rest_ms:.3f} |",
                flush=True,
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=["auto", "cuda", "cpu"], default="auto")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    memory_gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2.0**30
    torch.set_num_threads(1)
    machine = find(options.device, memory_gib)
    clock = (
        clock_for(machine.on_gpu, options.quick)
        if machine.on_gpu
        else HostClock(max_s=1.0, now_s=time.process_time)
    )
    results = measure(machine, sizes_for(machine.on_gpu, options.quick), clock).results
    measured = calibrate(results, (), machine, datetime.date(2000, 1, 1))
    print(f"{machine.name}, torch {machine.torch_version}\n")
    print(
        "| model | layers timed | sequences | context | measured ms | predicted ms | error | ",
        end="",
    )
    print("products + attention + rest |\n|---|--:|--:|--:|--:|--:|--:|---|")
    errors: list[float] = []
    for name, shape in (ON_GPU if machine.on_gpu else ON_CPU).items():
        errors += errors_of(name, shape, machine, measured, clock)
    sizes = np.abs(errors)
    print(f"\nmedian {np.median(sizes):.1%}, largest {sizes.max():.1%}, n = {len(sizes)}")


if __name__ == "__main__":
    main()
