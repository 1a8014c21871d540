"""Whether a server may be sent requests: what its answers and failures have told so far.

    UP          it answers
    SUSPECTED   it failed, but fewer than FAILURES times in a row: it is sent fewer requests
    EJECTED     it refused a connection, or failed FAILURES times in a row: it is sent none
    HALF_OPEN   its time out is over: one probe at a time may try it
    RETURNING   a probe was answered: its share of the requests grows from FIRST_SHARE to all of it;
                its first request ejects it again if it fails, since the probe may have asked less

An instance that does not answer is not idle: without this it would have the shortest queue of all.

Notation
    n        failures in a row, while up or suspected
    k        ejections in a row: without SLOW_START_S of answers between them
    u        a number from 0 to 1, drawn anew for each ejection
    t        time since a probe was answered                                              s
    share    requests it may be sent, over an even share of the pool's                    1

Program
    time out after the k-th ejection   min(FIRST_OUT_S 2^(k-1), MOST_OUT_S) (1 - JITTER u)
    share while SUSPECTED              2^-n
    share while RETURNING              2^-n (FIRST_SHARE + (1 - FIRST_SHARE) t / SLOW_START_S)

A request that was sent before an ejection says nothing of what came after it: its failure is one
more of those that were counted, and a stream that is still read may come from a server that takes
no new ones. Every ejection and every return start a new epoch; what belongs to an older one is not
heard.

Jitter keeps servers that went down together, and the proxies in front of them, from being probed
all at the same moment.
"""

from __future__ import annotations

from enum import Enum
from typing import Literal

from planner.scheduling.draws import Draws

FAILURES = 3  # in a row
FIRST_OUT_S = 1.0
MOST_OUT_S = 30.0
JITTER = 0.25
SLOW_START_S = 10.0
FIRST_SHARE = 0.1
PROBE_EXPIRES_S = 30.0  # of which nobody said what became of it

FailureKind = Literal["connect", "timeout", "reset", "status"]
"""No connection; no answer in time; the connection broke; an answer of 500 or above."""

_STEPS = 1 << 20  # of the numbers drawn


class State(Enum):
    """What may be done with a server."""

    UP = "up"
    SUSPECTED = "suspected"
    EJECTED = "ejected"
    HALF_OPEN = "half-open"
    RETURNING = "slow start"


class Health:
    """The state of one server; every call brings the time, which never goes back."""

    __slots__ = (
        "_draws",
        "_ejected",
        "_is_proven",
        "_n_ejections",
        "_probe_since_s",
        "_retry_at_s",
        "_returned_s",
        "answered_s",
        "epoch",
        "failed_s",
        "is_clear",
        "n_failed",
        "n_in_a_row",
    )

    def __init__(self, seed: int) -> None:
        self._draws = Draws(seed)
        self._ejected = False
        self._n_ejections = 0
        self._retry_at_s = 0.0
        self._probe_since_s: float | None = None
        self._returned_s: float | None = None
        self._is_proven = True  # it has answered a request since it came back
        self.is_clear = True
        """Whether nothing is held against it: it is up, and will be without anybody's word."""
        self.epoch = 0
        """How often it was ejected or came back; given with what is said of a request."""
        self.n_in_a_row = 0
        self.n_failed = 0
        """All failures ever, for show."""
        self.failed_s = float("-inf")
        """When it failed last."""
        self.answered_s = float("-inf")
        """When it answered last."""

    @property
    def retry_at_s(self) -> float | None:
        """Returns from when on it may be probed; None: it is not ejected."""
        return self._retry_at_s if self._ejected else None

    def state(self, now_s: float) -> State:
        """Returns what the server is now."""
        if self._ejected:
            return State.HALF_OPEN if now_s >= self._retry_at_s else State.EJECTED
        if self._returned_s is not None:
            if now_s < self._returned_s + SLOW_START_S:
                return State.RETURNING
            self._returned_s = None
            self._is_proven = True
            self._n_ejections = 0
            self.is_clear = not self.n_in_a_row
        return State.SUSPECTED if self.n_in_a_row else State.UP

    def share_ratio(self, now_s: float) -> float:
        """Returns what it may be sent, over an even share of the requests: 0 to 1."""
        if self.is_clear:
            return 1.0
        if self.state(now_s) in (State.EJECTED, State.HALF_OPEN):
            return 0.0
        share = 1.0
        if self._returned_s is not None:
            share = FIRST_SHARE + (1.0 - FIRST_SHARE) * (now_s - self._returned_s) / SLOW_START_S
        return 0.5**self.n_in_a_row * share

    def may_probe(self, now_s: float) -> bool:
        """Returns whether a probe may start now: it is half-open, and none is on its way."""
        return self._ejected and now_s >= self._retry_at_s and not self._is_probed(now_s)

    def probe(self, now_s: float) -> bool:
        """Returns whether the caller may probe; if so it has the only place until it reports."""
        if not self.may_probe(now_s):
            return False
        self._probe_since_s = now_s
        return True

    def give_up_probe(self) -> None:
        """Frees the place of a probe that told nothing: it was cancelled."""
        self._probe_since_s = None

    def succeeded(self, now_s: float, epoch: int | None = None) -> None:
        """Notes an answer: to a request of that epoch, or to a probe."""
        if epoch is not None and epoch != self.epoch:
            return
        self.answered_s = now_s
        if self.is_clear:
            return
        self.state(now_s)
        self.n_in_a_row = 0
        self._is_proven = not self._ejected
        if self._ejected:
            self._ejected = False
            self._probe_since_s = None
            self._returned_s = now_s
            self.epoch += 1
        self.is_clear = self._returned_s is None

    def failed(self, now_s: float, kind: FailureKind, epoch: int | None = None) -> None:
        """Notes that no answer came: to a request of that epoch, or to a probe."""
        self.n_failed += 1
        if epoch is not None and epoch != self.epoch:
            return
        self.failed_s = now_s
        if self._ejected:
            if self._probe_since_s is not None and now_s >= self._retry_at_s:
                self._eject(now_s)
            return
        self.n_in_a_row += 1
        self.is_clear = False
        self.state(now_s)
        if kind != "connect" and self._is_proven and self.n_in_a_row < FAILURES:
            return
        self._eject(now_s)

    def _eject(self, now_s: float) -> None:
        self._ejected = True
        self.is_clear = False
        self._returned_s = self._probe_since_s = None
        self.n_in_a_row = 0
        self.epoch += 1
        self._n_ejections += 1
        doublings = min(self._n_ejections - 1, 10)
        out_s = min(FIRST_OUT_S * 2.0**doublings, MOST_OUT_S)
        part = self._draws.below(_STEPS) / _STEPS
        self._retry_at_s = now_s + out_s * (1.0 - JITTER * part)

    def _is_probed(self, now_s: float) -> bool:
        since_s = self._probe_since_s
        return since_s is not None and now_s < since_s + PROBE_EXPIRES_S
