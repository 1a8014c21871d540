"""What a trained router says of one request: its class, and what each model is worth to it.

Loaded only where there is a router: it needs numpy, and reading a prompt takes longer than all else
that is decided for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan
from typing import TYPE_CHECKING, NamedTuple

from planner.runtime.body import Call
from planner.runtime.worth import Estimates

if TYPE_CHECKING:
    from planner.quality.rules import Facts
    from planner.runtime.ask import Headers
    from planner.spec.router import Router

_BEARER = b"bearer "


class Reading(NamedTuple):
    """What was read in a request."""

    class_name: str | None  # None: one that the router has never seen
    estimates: Estimates | None = None


class Reader:
    """A router at work."""

    def __init__(self, router: Router) -> None:
        from planner.quality import router as at_work

        self._router, self._at_work = router, at_work
        self._needs_key = any(rule.kind == "api_key_sha256" for rule in router.rules)

    def class_of(self, call: Call, headers: Headers) -> str | None:
        """Returns the most likely class of a request that declares none."""
        texts, facts = [call.prompt.asked], [self._facts(call, headers, None)]
        return self._most_likely(self._at_work.classify(self._router, texts, facts)[0].tolist())

    def read(self, call: Call, headers: Headers, declared: str | None) -> Reading:
        """Returns the class of a request, and what is believed of each model's answer to it."""
        facts = [self._facts(call, headers, declared)]
        judged = self._at_work.judge(self._router, [call.prompt.asked], facts)
        names = self._router.model_names
        estimates = Estimates(
            dict(zip(names, judged.quality[0].tolist(), strict=True)),
            dict(zip(names, judged.output_tokens[0].tolist(), strict=True)),
        )
        return Reading(self._most_likely(judged.class_weight[0].tolist()), estimates)

    def _most_likely(self, weights: list[float]) -> str | None:
        if isnan(weights[0]):
            return None
        return self._router.class_names[weights.index(max(weights))]

    def _facts(self, call: Call, headers: Headers, declared: str | None) -> Facts:
        from planner.quality.rules import Facts, key_digest

        key = ""
        if self._needs_key:
            sent = next((value for name, value in headers if name == b"authorization"), b"")
            if sent[: len(_BEARER)].lower() == _BEARER:
                key = key_digest(sent[len(_BEARER) :].strip().decode("latin-1"))
        known = _headers(headers) if self._router.rules else {}
        return Facts(declared, known, call.prompt.system, key)


def _headers(headers: Headers) -> Mapping[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
