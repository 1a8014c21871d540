"""The step times with which the simulator does what a real engine was recorded to do.

Notation
    theta  A, b, C, D, s, t0 of the step law (latency/steplaw.py), and E                  ms, (7,)
    E      per pair of a prompt token and one before it in its request                    ms
    r      log R(n) at n = 1, 4, 16, ...: how the decode step bends away from the law     (K,)
    y_j    log of the mean and of quantiles of ttft, tpot and e2e, recorded               (M,)
    x_j    the same of the recording's requests as the simulator answers them             (M,)

Program
    minimise over log theta and r   sum_j 2 (sqrt(1 + z_j^2) - 1) + sum_k q_k^2 + sum_k p_k^2
        z_j = (x_j(theta, r) - y_j) / SCALE      q_k = (log theta_k - log centre_k) / width_k
                                                 p_k = r_k / BEND_WIDTH
    by Levenberg-Marquardt (latency/regress.py); slopes by one more run per coefficient, over wide
    steps first: the figures are a rough surface, on which fine slopes lead nowhere

Whole distributions are compared, not request by request: one early step early in a run changes who
shares a batch with whom ever after, and which requests get lucky, but not how many of them do.

One run under one load tells only some combinations of the coefficients apart: of a replica that is
always full it is A + C K, the sum of what a step takes. The rest is what the guess says, so such a
fit holds for that load; a light load beside it, or a second request shape, settles the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.latency.pchip import Pchip
from planner.latency.physics import Prior, blind_prior
from planner.latency.regress import descend
from planner.latency.steplaw import StepLaw
from planner.simulate.engines import step_times
from planner.simulate.recording import EVERYTHING, Recording, play
from planner.simulate.settings import EngineSettings
from planner.simulate.units import PS_PER_MS
from planner.spec.arrays import FloatArray
from planner.spec.base import METRICS

LEVELS = np.array([*np.arange(0.05, 0.96, 0.05), 0.99])
SCALE = 0.02  # of a logarithm: what runs of one engine, and a law of this form, differ by
SLOPE_STEPS = (0.3, 0.1, 0.03)  # of a logarithm; too fine at first shows single steps, not trends
TOLERANCE = 1e-3
LEAST_MS = 1e-6  # where a clock was too coarse to see any time pass

N_COEFFICIENTS = 7

# Attention does 4 layers width operations for a pair of tokens where the products do 2 parameters
# for a token: about 3e-5 of it in Llama-3.1-8B and Qwen3-32B alike, at the same rate.
PAIR_RATIO = 3e-5
PAIR_WIDTH = 1.0

# The smooth law may be this wrong (a logarithm) at any number of sequences, one knot in four.
BEND_WIDTH = 0.3
BEND_RATIO = 4.0


@dataclass(frozen=True)
class Calibrated:
    """The step law of recorded runs, and what is left between them and the simulator."""

    law: StepLaw
    pair_ms: float  # E
    settings: EngineSettings
    error_ratio: float  # mean |log(simulated / recorded)| over all figures compared
    n_runs: int  # runs of the simulator that it took


def calibrate(
    recordings: Sequence[Recording],
    settings: EngineSettings,
    guess: Prior | None = None,
    part: slice = EVERYTHING,
) -> Calibrated:
    """Returns the step times for which the simulator comes nearest to recordings of one replica.

    Args:
        recordings: runs of the same engine, open or closed loops, at one or several loads.
        settings: how the engine batches; its step times are not looked at.
        guess: of the coefficients where the runs leave them open; from the runs if None.
        part: of every recording's requests, those whose answers may be looked at. All of them are
            played: what was asked is known, how it was answered is what a fit must not see.

    Raises:
        ValueError: no recordings, or a request that does not fit into the replica.
    """
    if not recordings:
        raise ValueError("need at least one recording, got none")
    match = _Match(recordings, settings, guess or guess_of(recordings, part), part)
    log_theta = match.start()
    for slope_step in SLOPE_STEPS:
        match.slope_step = slope_step
        log_theta, _ = descend(match, log_theta, TOLERANCE)
    law, pair_ms = match.law_of(log_theta)
    error = float(np.mean(np.abs(match.misfit(log_theta)))) * SCALE
    return Calibrated(law, pair_ms, with_law(settings, law, pair_ms), error, match.n_runs)


def with_law(settings: EngineSettings, law: StepLaw, pair_ms: float = 0.0) -> EngineSettings:
    """Returns the settings of an engine with the step times of a law and of attention, E in ms."""
    steps = step_times(law, settings.max_num_seqs, settings.n_ranks)
    return replace(settings, steps=replace(steps, attention_ps=round(pair_ms * PS_PER_MS)))


def guess_of(recordings: Sequence[Recording], part: slice = EVERYTHING) -> Prior:
    """Returns what the times per token alone say of an engine, roughly."""
    token_ms = [float(np.mean(r.latency_ms("tpot", part))) for r in recordings]
    in_flight = [_mean_in_flight(r, part) for r in recordings]
    return blind_prior(token_ms, in_flight)


def _mean_in_flight(recording: Recording, part: slice) -> float:
    """Returns the mean number of requests between first and last token, at least 1."""
    first, done = recording.first_ms[part], recording.done_ms[part]
    span_ms = float(done.max() - first.min())
    return max(float(np.sum(done - first)) / span_ms, 1.0) if span_ms > 0 else 1.0


def _figures(recording: Recording, part: slice = EVERYTHING) -> FloatArray:
    """Returns y: log means and quantiles, metric by metric, (M,)."""
    values = [recording.latency_ms(metric, part) for metric in METRICS]
    figures = [np.array([v.mean(), *np.quantile(v, LEVELS)]) for v in values if v.size]
    return np.asarray(np.log(np.maximum(np.concatenate(figures), LEAST_MS)))


class _Match:
    """How far the simulator is from recordings, over the logarithms of the coefficients."""

    def __init__(
        self, recordings: Sequence[Recording], settings: EngineSettings, guess: Prior, part: slice
    ) -> None:
        self._recordings, self._settings, self._part = recordings, settings, part
        self._recorded = [_figures(r, part) for r in recordings]
        pair_ms = PAIR_RATIO * guess.centre_ms[3]
        most = settings.max_num_seqs * settings.n_ranks
        n_knots = 1 + int(np.log(most) / np.log(BEND_RATIO))
        self._knots = np.log(BEND_RATIO) * np.arange(n_knots)
        self._centre = np.concatenate(
            [np.log(np.append(guess.centre_ms, pair_ms)), np.zeros(n_knots)]
        )
        self._width = np.concatenate([guess.width, [PAIR_WIDTH], np.full(n_knots, BEND_WIDTH)])
        self._last: tuple[bytes, FloatArray] = (b"", np.zeros(0))
        self.n_runs = 0
        self.slope_step = SLOPE_STEPS[0]

    def start(self) -> FloatArray:
        """Returns the guess, made as slow as a whole as the recordings are, (7,)."""
        pull = float(np.median(self.misfit(self._centre))) * SCALE
        start = self._centre.copy()
        start[:N_COEFFICIENTS] -= np.clip(pull, -1.0, 1.0)
        return start

    def law_of(self, log_theta: FloatArray) -> tuple[StepLaw, float]:
        """Returns the law and E of the logarithms."""
        a, b, c, d, s, t0, pair_ms = (float(v) for v in np.exp(log_theta[:N_COEFFICIENTS]))
        residual = Pchip.through(self._knots, log_theta[N_COEFFICIENTS:])
        return StepLaw(a, b, c, d, s, t0, residual), pair_ms

    def misfit(self, log_theta: FloatArray) -> FloatArray:
        """Returns z, all recordings together."""
        key = log_theta.tobytes()
        if self._last[0] != key:
            law, pair_ms = self.law_of(log_theta)
            settings = with_law(self._settings, law, pair_ms)
            self.n_runs += 1
            parts = [
                _figures(play(r, settings, law.request_ms), EVERYTHING if r.n_users else self._part)
                - recorded
                for r, recorded in zip(self._recordings, self._recorded, strict=True)
            ]
            self._last = key, np.concatenate(parts) / SCALE
        return self._last[1]

    def loss(self, log_theta: FloatArray) -> float:
        """Returns the value to be minimised."""
        z = self.misfit(log_theta)
        q = (log_theta - self._centre) / self._width
        return float(np.sum(2.0 * (np.sqrt(1.0 + z**2) - 1.0)) + np.sum(q**2))

    def normal_equations(self, log_theta: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Returns half the gradient (7,) and the reweighted Gauss-Newton matrix (7, 7)."""
        z = self.misfit(log_theta)
        steps = self.slope_step * np.eye(log_theta.size)
        slope = np.stack([self.misfit(log_theta + s) - z for s in steps], axis=1) / self.slope_step
        weight = 1.0 / np.sqrt(1.0 + z**2)
        prior = (log_theta - self._centre) / self._width**2
        matrix = slope.T @ (weight[:, None] * slope) + np.diag(1.0 / self._width**2)
        return slope.T @ (weight * z) + prior, matrix
