"""Calibration: recordings that the simulator made itself, with noise, are recovered."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from planner.latency.physics import Prior
from planner.latency.steplaw import StepLaw
from planner.simulate.calibrate import Calibrated, calibrate, guess_of, with_law
from planner.simulate.engines import step_times
from planner.simulate.recording import Recording, play, statistics_ms
from planner.simulate.settings import EngineSettings, Prefill, Tokens
from planner.spec.arrays import FloatArray

TRUTH = StepLaw(12.0, 0.06, 1e-4, 0.05, 0.3, 4.0)
SEQS = 32
# The guess is wrong in everything, and not sure of anything.
GUESS = Prior(TRUTH.theta * np.array([1.4, 0.6, 1.5, 0.6, 1.5, 2.0]), np.ones(6), 0.0, True)
NOISE = 0.01


def engine(prefill: Prefill = "chunked", kv_blocks: int = 10**6) -> EngineSettings:
    """Returns an engine whose step times are still to be found."""
    return EngineSettings(
        steps=step_times(StepLaw(1.0, 0.0, 0.0, 0.0, 0.0), SEQS),
        max_num_seqs=SEQS,
        max_num_batched_tokens=512,
        kv_blocks=kv_blocks,
        prefill=prefill,
    )


def asked(n: int, rate_rps: float = 0.0, n_users: int = 0, seed: int = 0) -> Recording:
    """Returns requests that nobody has answered yet: Poisson arrivals, or users in a loop."""
    rng = np.random.default_rng(seed)
    prompt = rng.integers(20, 900, n).tolist()
    arrived_ms = np.cumsum(rng.exponential(1000.0 / rate_rps, n)) if rate_rps else np.zeros(n)
    return Recording(
        Tokens(prompt, prompt, rng.integers(1, 120, n).tolist()),
        arrived_ms,
        arrived_ms,
        arrived_ms,
        n_users=n_users,
    )


def recorded(asked: Recording, settings: EngineSettings, seed: int = 0) -> Recording:
    """Returns what the true engine answers, each time with a little noise of its own."""
    run = play(asked, with_law(settings, TRUTH), TRUTH.request_ms)
    rng = np.random.default_rng(seed)

    def noisy(span_ms: FloatArray) -> FloatArray:
        return span_ms * np.exp(NOISE * rng.standard_normal(span_ms.size))

    first_ms = run.arrived_ms + noisy(run.first_ms - run.arrived_ms)
    return replace(run, first_ms=first_ms, done_ms=first_ms + noisy(run.done_ms - run.first_ms))


def worst_error(fitted: Calibrated, run: Recording) -> float:
    """Returns the largest error of the 15 statistics of a run."""
    simulated = play(run, fitted.settings, fitted.law.request_ms)
    return float(np.max(np.abs(statistics_ms(simulated) / statistics_ms(run) - 1.0)))


def decode_step_ms(settings: EngineSettings, n: int, context_tokens: int) -> float:
    """Returns how long n sequences with so much context in all decode."""
    steps = settings.steps
    return (steps.decode_ps[n] + steps.context_ps[n] * context_tokens) / 1e9


class TestOpenLoop:
    def test_two_loads_give_the_steps_and_a_third_load(self) -> None:
        runs = [recorded(asked(80, rate, seed=i), engine(), i) for i, rate in enumerate((2, 20))]
        fitted = calibrate(runs, engine(), GUESS)
        truth = with_law(engine(), TRUTH)
        for n, context_tokens in ((1, 500), (8, 4000), (32, 16000)):
            expected = decode_step_ms(truth, n, context_tokens)
            assert decode_step_ms(fitted.settings, n, context_tokens) == pytest.approx(
                expected, rel=0.06
            )
        assert fitted.law.prompt_token_ms == pytest.approx(TRUTH.prompt_token_ms, rel=0.1)
        assert worst_error(fitted, play(asked(200, 8, seed=7), truth, TRUTH.request_ms)) < 0.06
        assert fitted.error_ratio < 2 * NOISE

    def test_an_overloaded_run_gives_the_full_step(self) -> None:
        run = recorded(asked(120, 200.0), engine())
        fitted = calibrate([run], engine(), GUESS)
        expected = decode_step_ms(with_law(engine(), TRUTH), SEQS, 16_000)
        assert decode_step_ms(fitted.settings, SEQS, 16_000) == pytest.approx(expected, rel=0.05)
        assert worst_error(fitted, run) < 0.05

    def test_a_tight_cache_with_preemptions(self) -> None:
        tight = engine(kv_blocks=400)
        run = recorded(asked(100, 12.0), tight)
        fitted = calibrate([run], tight, GUESS, slice(0, 50))
        simulated = play(run, fitted.settings, fitted.law.request_ms)
        second = slice(50, 100)
        ratio = statistics_ms(simulated, second) / statistics_ms(run, second)
        assert np.mean(np.abs(ratio - 1.0)) < 0.03

    def test_what_is_not_looked_at_changes_nothing(self) -> None:
        run = recorded(asked(60, 10.0), engine())
        late = np.where(np.arange(60) >= 30, 5000.0, 0.0)
        other = replace(run, first_ms=run.first_ms + late, done_ms=run.done_ms + 2 * late)
        half = slice(0, 30)
        assert calibrate([run], engine(), GUESS, half) == calibrate([other], engine(), GUESS, half)

    def test_without_a_guess(self) -> None:
        run = recorded(asked(100, 8.0), engine())
        assert worst_error(calibrate([run], engine()), run) < 0.05


class TestClosedLoop:
    @pytest.mark.parametrize("prefill", ["chunked", "pausing"])
    def test_other_users_than_recorded(self, prefill: Prefill) -> None:
        settings = engine(prefill)
        runs = [recorded(asked(40, n_users=n, seed=n), settings, n) for n in (1, 6, 24)]
        fitted = calibrate(runs, settings)
        truth = with_law(settings, TRUTH)
        held = play(asked(300, n_users=12, seed=5), truth, TRUTH.request_ms)
        simulated = play(held, fitted.settings, fitted.law.request_ms)
        means = statistics_ms(simulated)[:, 0] / statistics_ms(held)[:, 0]
        assert np.max(np.abs(means - 1.0)) < 0.06

    def test_the_duration_ends_it(self) -> None:
        run = replace(asked(500, n_users=3), duration_ms=2000.0)
        played = play(run, with_law(engine(), TRUTH), TRUTH.request_ms)
        assert 3 < played.n_requests < 500
        assert played.arrived_ms.max() < 2000.0 <= played.done_ms.max()

    def test_users_wait_for_their_answers(self) -> None:
        played = play(asked(40, n_users=1), with_law(engine(), TRUTH), 7.0)
        assert played.arrived_ms[1:] == pytest.approx(played.done_ms[:-1], abs=1e-6)


class TestPlay:
    def test_a_run_is_played_as_it_was(self) -> None:
        settings = with_law(engine(), TRUTH)
        once = play(asked(50, 10.0), settings, 4.0)
        again = play(once, settings, 4.0)
        assert (again.first_ms == once.first_ms).all()
        assert (again.done_ms == once.done_ms).all()

    def test_t0_delays_everything_alike(self) -> None:
        settings = with_law(engine(), TRUTH)
        without, late = (play(asked(50, 10.0), settings, t0) for t0 in (0.0, 25.0))
        assert late.first_ms - without.first_ms == pytest.approx(25.0)
        assert late.done_ms - without.done_ms == pytest.approx(25.0)

    def test_short_answers_have_no_tpot(self) -> None:
        run = play(asked(50, 10.0), with_law(engine(), TRUTH))
        n_long = sum(tokens >= 10 for tokens in run.tokens.output)
        assert replace(run, shortest_tokens=10).latency_ms("tpot").size == n_long

    @pytest.mark.parametrize("n_users", [0, 2])
    def test_a_request_that_never_fits(self, n_users: int) -> None:
        run = asked(20, 0.0 if n_users else 10.0, n_users)
        with pytest.raises(ValueError, match="KV cache"):
            play(run, with_law(engine(kv_blocks=5), TRUTH))


def test_a_recording_is_in_order() -> None:
    with pytest.raises(ValueError, match="arrives"):
        replace(asked(5, 1.0), first_ms=np.zeros(5))
    with pytest.raises(ValueError, match="entry"):
        replace(asked(5, 1.0), first_ms=np.zeros(4))


def test_nothing_to_calibrate_with() -> None:
    with pytest.raises(ValueError, match="got none"):
        calibrate([], engine())


def test_the_blind_guess_has_the_scale_of_the_run() -> None:
    run = play(asked(60, 8.0), with_law(engine(), TRUTH))
    assert 5.0 < guess_of([run]).centre_ms[0] < 20.0
