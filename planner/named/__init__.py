"""Published methods under their own names, to run beside the planner's: BOute and RouterWise.

    fractions.py    what load fractions and a deployment achieve, by the tables of the case
    candidates.py   BOute's candidate deployments of one model
    boute_space.py  the points that BOute searches, and what its kernel sees of them
    boute.py        explore_boute
    setups.py       RouterWise's set-ups: enumeration and pruning
    ascent.py       RouterWise's gradient ascent and bisection for one set-up
    routerwise.py   explore_routerwise

Each says in its first lines what the paper leaves open and what was chosen. Both return what every
search returns (Explored), so that the same stages settle, choose and check what they found.
"""
