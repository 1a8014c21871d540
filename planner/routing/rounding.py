"""Rounding of shares to 6 decimals by largest remainder (§6)."""

from __future__ import annotations

import numpy as np

from planner.spec.arrays import FloatArray

UNITS = 1_000_000  # one share is a whole number of millionths


def round_shares(shares: FloatArray) -> FloatArray:
    """Returns shares with 6 decimals whose rows sum to exactly 1 (counted in millionths), (C, P).

    Every share moves by less than one millionth times the row's size; a share of 0 stays 0, and
    ties go to the first pool. Rows are first scaled to sum to 1.

    Raises:
        ValueError: a share is negative or not finite, or a row is all zero.
    """
    if not np.isfinite(shares).all() or (shares < 0).any():
        raise ValueError("shares must be finite and not negative")
    totals = shares.sum(axis=1, keepdims=True)
    if (totals <= 0).any():
        raise ValueError("a class without any share cannot be rounded")
    exact = shares / totals * UNITS
    whole = np.floor(exact + 1e-9)
    missing = np.rint(UNITS - whole.sum(axis=1)).astype(np.int64)
    remainder = np.where(shares > 0, exact - whole, -np.inf)
    order = np.argsort(-remainder, axis=1, kind="stable")
    rank = np.argsort(order, axis=1, kind="stable")
    whole += (rank < missing[:, None]) & (shares > 0)
    return np.asarray(whole / UNITS, dtype=np.float64)
