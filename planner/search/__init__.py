"""Multi-objective search over integer points: domain-blind, integers in, vectors out.

    problem.py        Box, Problem, Prior, Outcome, Trials: what is searched and what was found
    pareto.py         non-dominated points, their order, the knee of a front
    hypervolume.py    exact dominated volume, and its running form
    sampling.py       sparse and uniform points of a box, repair, neighbours
    trial_log.py      the one loop that spends evaluations; every method only proposes points
    random_search.py  local_search.py  enumeration.py  mobo.py        the methods
    calibration.py    what trials teach a prior
    lens.py           how mobo.py sees a problem: features, gains, what the prior expects
    surrogate.py      Gaussian processes of mobo.py (torch)
    acquisition.py    the batch that promises most, by samples
    boute.py          boute_kernel.py      BOute's own optimiser, as published (torch)

Every method has the signature
`search(problem, n_evaluations, seed, start=None, on_trial=None) -> Trials`; BOute's also asks which
part of a point is routing and which deployment.
"""
