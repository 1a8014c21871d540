"""Multi-objective search over integer points: domain-blind, integers in, vectors out.

    problem.py        Box, Problem, Outcome, Trials: what is searched and what was found
    pareto.py         non-dominated points, their order, the knee of a front
    hypervolume.py    exact dominated volume, and its running form
    sampling.py       sparse and uniform points of a box, repair, neighbours
    trial_log.py      the one loop that spends evaluations; every method only proposes points
    random_search.py  local_search.py  enumeration.py  mobo.py        the methods
    surrogate.py      Gaussian processes and acquisition of mobo.py (the only torch code)

Every method has the signature
`search(problem, n_evaluations, seed, start=None, on_trial=None) -> Trials`.
"""
