"""Predicted delays against what the simulated engine then does, from random moments on.

The prediction knows no phase of the running step and no length but the sum of them, so it cannot be
exact: what is asserted is a little above what it reaches.
"""

import numpy as np
import pytest
from replica_states import ENGINES, MEAN_OUTPUT, moments

from planner.scheduling.delay import predict_delay
from planner.scheduling.ledger import Ledger

KINDS = ("exponential", "lognormal", "even")
BELOW_CAPACITY, ABOVE = (0.3, 0.7), (0.95, 1.3)


def predicted(engine, moment, load):
    n = sum(what == 0 for _, what, _ in moment.events)
    prompt, output = moment.input_tokens[n], moment.output_tokens[n]
    return predict_delay(ENGINES[engine].curve, load, prompt, prompt, output)


def recorded(engine, moment, *, length_cv, expected=None, streams=True):
    """The load that a ledger has at the moment, told of the events before it."""
    ledger, tickets = Ledger([ENGINES[engine].curve], length_cv=length_cv), {}
    for ms, what, i in moment.events:
        if what == 0:
            output = expected or moment.output_tokens[i]
            tickets[i] = ledger.sent(0, moment.input_tokens[i], output, ms / 1e3)
        elif what == 1 and streams:
            ledger.first_token(tickets[i], ms / 1e3)
        elif what == 2:
            ledger.ended(tickets[i], ms / 1e3, moment.output_tokens[i])
    return ledger.load(0, moment.at_ms / 1e3)


def errors(name, found, of):
    """Median of the relative error, error of the sum, and mean error over mean, of one figure."""
    guess = np.array([getattr(of(m), name) for m in found])
    truth = np.array([getattr(m, name) for m in found])
    relative = np.abs(guess - truth) / np.maximum(truth, 1e-9)
    mean = np.abs(guess - truth).sum() / truth.sum()
    return np.median(relative), guess.sum() / truth.sum() - 1.0, mean


@pytest.mark.parametrize(
    ("engine", "utilisations", "median", "mean"),
    [
        ("roomy", BELOW_CAPACITY, 0.02, 0.025),
        ("roomy", ABOVE, 0.05, 0.06),
        ("few places", BELOW_CAPACITY, 0.01, 0.02),
        ("few places", ABOVE, 0.075, 0.085),
        ("little cache", BELOW_CAPACITY, 0.015, 0.03),
        ("little cache", ABOVE, 0.13, 0.14),
    ],
)
def test_time_to_the_end(engine, utilisations, median, mean):
    found = [m for kind in KINDS for m in moments(engine, kind, utilisations, 8)]
    found_median, bias, found_mean = errors("e2e_ms", found, lambda m: predicted(engine, m, m.load))
    assert found_median <= median
    assert found_mean <= mean
    assert abs(bias) <= 0.06


@pytest.mark.parametrize("engine", ENGINES)
def test_time_to_the_first_token(engine):
    """Most of what is wrong is where in the running step the request comes."""
    found = [m for kind in KINDS for m in moments(engine, kind, (0.3, 0.7, 0.95, 1.3), 8)]
    median, bias, mean = errors("ttft_ms", found, lambda m: predicted(engine, m, m.load))
    assert median <= 0.15
    assert mean <= 0.18
    assert abs(bias) <= 0.07


@pytest.mark.parametrize(
    ("engine", "mean"), [("roomy", 0.09), ("few places", 0.08), ("little cache", 0.22)]
)
def test_what_it_adds_to_the_others(engine, mean):
    """The replica with the request and without it."""
    found = [m for kind in KINDS for m in moments(engine, kind, (0.3, 0.7, 0.95, 1.3), 8)]
    delays = [predicted(engine, m, m.load).added_ms for m in found]
    _, bias, found_mean = errors("added_ms", found, lambda m: predicted(engine, m, m.load))
    assert found_mean <= mean
    assert abs(bias) <= 0.08
    assert np.corrcoef(delays, [m.added_ms for m in found])[0, 1] >= 0.88


@pytest.mark.parametrize(
    ("length_cv", "expected", "streams", "median", "bias"),
    [
        (0.0, None, True, 0.025, 0.04),  # lengths are known
        (0.0, None, False, 0.03, 0.07),  # and no first token is seen
        (1.0, MEAN_OUTPUT, True, 0.04, 0.04),  # nothing but their mean is
    ],
    ids=["lengths known", "not streamed", "mean known"],
)
def test_what_a_ledger_knows_is_nearly_as_good(length_cv, expected, streams, median, bias):
    found = [
        (engine, m)
        for engine in ENGINES
        for m in moments(engine, "exponential", (0.3, 0.7, 0.95, 1.3), 8)
    ]
    guess, truth = [], []
    for engine, moment in found:
        load = recorded(engine, moment, length_cv=length_cv, expected=expected, streams=streams)
        load.usual_running = load.prefill_ratio = 0.0  # nobody comes later here
        guess.append(predicted(engine, moment, load).e2e_ms)
        truth.append(moment.e2e_ms)
    assert np.median(np.abs(np.array(guess) / truth - 1.0)) <= median
    assert abs(sum(guess) / sum(truth) - 1.0) <= bias


def test_those_who_come_later_are_expected_as_usual():
    """Without them the prediction would be too low, by a third on an engine that they slow down."""
    found = moments("roomy", "exponential", (0.7, 0.95), 10, n_later=250)
    usual, nobody = [], []
    for moment in found:
        load = recorded("roomy", moment, length_cv=1.0, expected=MEAN_OUTPUT)
        usual.append(predicted("roomy", moment, load).e2e_ms)
        load.usual_running = load.prefill_ratio = 0.0
        nobody.append(predicted("roomy", moment, load).e2e_ms)
    truth = np.array([m.e2e_ms for m in found])
    assert abs(sum(usual) / truth.sum() - 1.0) <= 0.06
    assert np.median(np.abs(usual / truth - 1.0)) <= 0.04
    assert sum(nobody) / truth.sum() <= 0.75
