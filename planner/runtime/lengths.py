"""How long requests are: what the plan expects, and what answers turn out to be.

Notation
    m, c     model, class of requests
    n        answers that the request asks for
    p        tokens of a prompt by its characters (body.py)
    f_m      realised over estimated input tokens of a model
    g_mc     realised over expected output tokens of a model's answers to a class

    input    f_m p                     fresh     input (1 - what the class finds in a prefix cache)
    output   n g_mc min(L, limit), each at most the limit of the request; L is the router's where it
             read the prompt, else the plan's for the class and the pool

An f starts at 1 and counts for 20 requests, as a g does; then older requests weigh exponentially
less. Both stay within a factor of 4, beyond which something else is wrong than the lengths. With
another plan a g is kept where L is: else what it corrects would be corrected twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import exp
from typing import TYPE_CHECKING

from planner.runtime.ask import Ask, Size

if TYPE_CHECKING:
    from planner.runtime.setup import Setup
    from planner.spec.router import Router
    from planner.spec.sheet import ServingSheet

UNKNOWN_OUTPUT_TOKENS = 256.0
"""Of an answer of which the plan says nothing; what is realised soon tells better."""
_MEMORY, _PRIOR, _LARGEST = 500.0, 20.0, 4.0
_KEEP = exp(-1.0 / _MEMORY)


class RunningRatio:
    """Realised over predicted, older observations weighing exponentially less.

    It is what quality.correction.RealisedRatio is for one model, for a process without numpy.
    """

    __slots__ = ("_predicted", "_realised", "_weight", "ratio")

    def __init__(self) -> None:
        self._weight = self._predicted = self._realised = 0.0
        self.ratio = 1.0
        """The factor by which predictions are to be multiplied."""

    def observe(self, predicted: float, realised: float) -> None:
        """Takes in what was predicted and what came."""
        self._weight = _KEEP * self._weight + 1.0
        self._predicted = _KEEP * self._predicted + predicted
        self._realised = _KEEP * self._realised + realised
        prior = _PRIOR * self._predicted / self._weight
        ratio = (self._realised + prior) / max(self._predicted + prior, 1e-9)
        self.ratio = min(max(ratio, 1.0 / _LARGEST), _LARGEST)


class Lengths:
    """Expected tokens of requests by class and pool, corrected by what comes."""

    def __init__(self, setup: Setup) -> None:
        self._input: dict[str, RunningRatio] = {}
        self._output: dict[tuple[str, str | None], RunningRatio] = {}
        self._answers: dict[str | None, Mapping[str, float]] = {}
        self._router: Router | None = None
        self.renew(setup)

    def renew(self, setup: Setup) -> None:
        """Takes another plan; what was learned of models and answers that it keeps stays known."""
        sheet, before, router = setup.sheet, self._answers, self._router
        self._model_of = {pool: setup.model_of(pool) for pool in setup.pools}
        self._scored_as = {pool: setup.scored_as(pool) for pool in setup.pools}
        self._fresh_ratio: dict[str | None, float] = {}
        self._answers, self._router = {}, setup.router
        if sheet is not None:
            for name, each in sheet.classes.items():
                self._fresh_ratio[name] = 1.0 - each.cached_input_ratio
                self._answers[name] = {p: a.output_tokens for p, a in each.answers.items()}
            self._fresh_ratio[None], self._answers[None] = _mean_class(sheet)
        if setup.router is not router:
            self._output.clear()
        for key in [(m, c) for m, c in self._output if self._answers.get(c) != before.get(c)]:
            del self._output[key]

    def size(self, ask: Ask, pool: str) -> Size:
        """Returns what is expected of a request on a pool, in tokens."""
        model, name = self._model_of.get(pool, pool), ask.class_name
        known = self._input.get(model)
        tokens = max(ask.prompt_tokens if known is None else known.ratio * ask.prompt_tokens, 1.0)
        output = self._expected_output(ask, pool)
        corrected = self._output.get((model, name))
        if corrected is not None:
            output *= corrected.ratio
            if ask.max_tokens is not None and output > ask.max_tokens:
                output = float(ask.max_tokens)
        output = max(output, 1.0) * ask.n_answers
        return Size(tokens, tokens * self._fresh_ratio.get(name, 1.0), output)

    def _expected_output(self, ask: Ask, pool: str) -> float:
        """Returns the output tokens of one answer by router or plan, before any correction."""
        tokens = None
        if ask.answer_tokens is not None:
            tokens = ask.answer_tokens.get(self._scored_as.get(pool, pool))
        if tokens is None:
            tokens = self._answers.get(ask.class_name, {}).get(pool, UNKNOWN_OUTPUT_TOKENS)
        return tokens if ask.max_tokens is None else min(tokens, float(ask.max_tokens))

    def learn(self, ask: Ask, pool: str, n_input: int, n_output: int) -> None:
        """Takes in the tokens of an answer that came whole."""
        model = self._model_of.get(pool, pool)
        if ask.prompt_tokens > 0.0 and n_input > 0:
            self._input.setdefault(model, RunningRatio()).observe(ask.prompt_tokens, n_input)
        if n_output > 0:  # embeddings have none, and say nothing of answers
            known = self._output.setdefault((model, ask.class_name), RunningRatio())
            known.observe(self._expected_output(ask, pool), n_output / ask.n_answers)


def _mean_class(sheet: ServingSheet) -> tuple[float, dict[str, float]]:
    """Returns the fresh share and the output tokens by pool of requests whose class is unknown."""
    rates = {name: each.rate_rps for name, each in sheet.classes.items()}
    total = sum(rates.values())
    weight = {name: rate / total if total else 1.0 / len(rates) for name, rate in rates.items()}
    fresh = sum(weight[n] * (1.0 - each.cached_input_ratio) for n, each in sheet.classes.items())
    answers: dict[str, float] = {}
    for pool in sheet.pools:
        known = [
            (weight[name], each.answers[pool].output_tokens)
            for name, each in sheet.classes.items()
            if pool in each.answers
        ]
        share = sum(w for w, _ in known)
        if share > 0.0:
            answers[pool] = sum(w * tokens for w, tokens in known) / share
    return fresh, answers
