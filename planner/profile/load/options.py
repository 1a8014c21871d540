"""What a user asks of a profile run, as the plan of measurement reads it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SessionSettings:
    """The request shape, when to stop, and which loads where the user names them."""

    input_tokens: float  # means, where a workload file says the lengths
    output_tokens: float
    max_error_ratio: float = 0.1
    time_budget_s: float = 1800.0
    max_num_seqs: int | None = None
    n_repeats: int = 1
    loads: tuple[float, ...] = ()  # closed-loop loads; with rates_rps they replace the plan
    rates_rps: tuple[float, ...] = ()
