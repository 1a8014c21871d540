"""How far apart two figures may be that are the same, as the file rounds them (§6)."""

from __future__ import annotations

from planner.spec.plan import MS_STEP

USD_STEP = 1e-4
"""Money in the file is whole hundredths of a cent: so far may it be from a figure not rounded."""

USD_ROUNDING = 2 * USD_STEP  # where both are rounded
MS_ROUNDING = 2 * MS_STEP
