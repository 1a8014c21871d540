"""Time inside the simulator: whole picoseconds, so that equal runs are equal to the last bit.

2**63 ps are 106 days, which is far beyond any run: arrays of times are int64.
"""

PS_PER_MS = 10**9
PS_PER_S = 10**12
