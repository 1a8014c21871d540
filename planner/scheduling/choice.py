"""Which model takes a request, given what each is worth to it and what its work costs.

Notation
    n     requests decided at once            M     models, m
    q_nm  predicted quality of model m on request n; -inf: not offered         (n, M)
    w_nm  predicted work, e.g. output tokens x tokens' cost; any unit, finite  (n, M)
    mu_m  price of a unit of that work, in quality                             (M,)

    choice_n = argmax_m q_nm - mu_m w_nm; of equals the one of least work, then the first

This is the rule that the prices of a plan belong to: for each request alone it reaches what the
linear program over all requests reaches (its complementary slackness), but for the few that are
indifferent.
"""

from __future__ import annotations

import numpy as np

from planner.spec.arrays import FloatArray, IntArray


def best_model(quality: FloatArray, work: FloatArray, price: FloatArray) -> IntArray:
    """Returns the model of each request, (n,), by the largest worth after the price of its work.

    Shapes: quality and work (n, M); price (M,) or (n, M).
    """
    worth = quality - price * work
    tied = worth == worth.max(axis=1, keepdims=True)
    chosen: IntArray = np.where(tied, work, np.inf).argmin(axis=1)
    return chosen
