"""An engine with a known law, as a profile run would have measured it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from planner.profile.load.options import SessionSettings
from planner.profile.load.ramp import Measured
from planner.profile.load.session import Next, Stop, next_step
from planner.spec.pool import Point
from planner.spec.run import LevelRecord, Step


@dataclass(frozen=True)
class KnownEngine:
    """One step takes base + sequence n + root sqrt(n) ms with n sequences, plus prefills.

    A closed loop of N keeps min(N, cap) running and the rest waiting.
    """

    base_ms: float = 10.0
    sequence_ms: float = 0.1
    root_ms: float = 0.0
    prompt_token_ms: float = 0.02
    cap: int = 64
    shows_queue: bool = True
    noise_ratio: float = 0.0

    def measure(self, step: Step, seed: int = 0) -> Measured:
        rng = np.random.default_rng([seed, int(step.load * 1000), int(step.input_tokens)])
        noise = float(np.exp(self.noise_ratio * rng.standard_normal()))
        n = step.load if step.mode == "closed" else self._open_n(step)
        running, waiting = min(n, self.cap), max(n - self.cap, 0.0)
        p, o = step.input_tokens, step.output_tokens
        tpot_ms = self._step_ms(running, p, o) * noise
        first_ms = self._step_ms(running, p, o) + p * self.prompt_token_ms
        rps = 1000.0 * running / (first_ms + tpot_ms * (o - 1))
        if step.mode == "open":
            rps = min(step.load, rps)
        first_ms += 1000.0 * waiting / rps
        figures = {
            "input_tokens": float(p),
            "output_tokens": float(o),
            "mode": step.mode,
            "concurrency": step.load if step.mode == "closed" else None,
            "offered_rps": step.load if step.mode == "open" else None,
            "achieved_rps": rps,
            "output_tokens_per_s": rps * o,
            "ttft_mean_ms": first_ms,
            "tpot_mean_ms": tpot_ms,
            "e2e_mean_ms": first_ms + tpot_ms * (o - 1),
            "n_requests": 200,
            "n_failed": 0,
            "source": step.source,
        }
        level = LevelRecord(step=step, n_waiting=waiting if self.shows_queue else None)
        return Measured(level, Point.model_validate(figures))

    def _step_ms(self, n: float, p: float, o: float) -> float:
        decode = self.base_ms + self.sequence_ms * n + self.root_ms * n**0.5
        return decode + self.prompt_token_ms * p / o * max(n - 1.0, 0.0)

    def _open_n(self, step: Step) -> float:
        """The request itself and, by Little's law, the others that it sees; by fixed point."""
        p, o, n = step.input_tokens, step.output_tokens, 1.0
        for _ in range(500):
            others = step.load * o * self._step_ms(min(n, self.cap), p, o) / 1000.0
            n = 1.0 + others
        return n

    def max_rps(self, p: float, o: float) -> float:
        best = self.measure(Step(mode="closed", load=self.cap, input_tokens=p, output_tokens=o))
        assert best.point is not None and best.point.achieved_rps is not None
        return best.point.achieved_rps


def play(
    engine: KnownEngine,
    settings: SessionSettings,
    level_s: float = 10.0,
    kept: tuple[Measured, ...] = (),
    at_most: int = 60,
    change: Callable[[Measured], Measured] = lambda m: m,
) -> tuple[list[Measured], list[Next], Stop]:
    """Runs a session against the engine: what it measured, what it asked for, and how it ended."""
    measured, asked, elapsed_s = list(kept), [], 0.0
    while len(asked) < at_most:
        step = next_step(measured, settings, elapsed_s)
        if isinstance(step, Stop):
            return measured, asked, step
        asked.append(step)
        measured.append(change(engine.measure(step.step)))
        elapsed_s += level_s
    raise AssertionError(f"no end after {at_most} levels: {[a.step.load for a in asked]}")


def failing_from(load: float) -> Callable[[Measured], Measured]:
    """A server that answers nothing at a load and above."""

    def change(m: Measured) -> Measured:
        if m.step.mode == "closed" and m.step.load >= load:
            return replace(m, level=m.level.model_copy(update={"answered": False}), point=None)
        return m

    return change
