"""Floor 5: one file per command. Each reads, calls one pure function, writes or renders, and exits.

Solvers, numpy and pydantic are imported inside the commands, so that `rb --help` is instant.
"""
