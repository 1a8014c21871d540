"""Where a plan is tried: the question with lengths as fine as requests are drawn, and the engines.

Made once per question, for as many plans of it as are to be tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.case import make_case
from planner.errors import Fault, InputError
from planner.latency.model import LatencyModel
from planner.offered import offered
from planner.quality.cascade import CascadeOption
from planner.simulate.demand import drawn_workload
from planner.simulate.engines import engine_of, request_ps
from planner.simulate.hosted import HostedSettings
from planner.simulate.settings import EngineSettings
from planner.spec.inputs import Inputs, QuestionFiles
from planner.spec.plan import CascadeEntry, Plan, Routes, WeightedPool
from planner.spec.pool import Profile
from planner.spec.question import Bursty, Poisson
from planner.spec.workload import Cascade, Workload

PLAN, ROUTES = "plan.json", "routes.json"
PLAN_AGAIN = "plan again: rb plan DIR"
SHARE_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Scene:
    """A question, and the pools that may answer it, by name."""

    files: QuestionFiles
    workload: Workload  # one column per pool
    profiles: Mapping[str, Profile]
    engines: Mapping[str, EngineSettings | HostedSettings]
    request_ps: Mapping[str, int]  # what a request takes beside any step

    @property
    def mean_rps(self) -> float:
        """Returns the mean rate at which requests arrive, in requests/s."""
        return float(self.workload.mean_rate_rps[: self.workload.n_classes].sum())

    @property
    def changes_rate(self) -> bool:
        """Returns whether the question's rate of arrivals changes by plan."""
        return not isinstance(self.files.question.arrivals, Poisson | Bursty)

    def of_plan(self, plan: Plan, routes: Routes) -> Scene:
        """Returns the scene with the pools and the cascades of a plan alone, in its order.

        Raises:
            InputError: a pool or a cascade of the plan is not here, a class has no route, or a
                route leads to a pool without replicas, or to one that the class may not use.
        """
        names = tuple(entry.pool for entry in plan.deployment)
        index = {name: p for p, name in enumerate(self.workload.pool_names)}
        found = {
            place: self._cascade_of(place.class_name, place.entry, index)
            for place in _places(routes, self.workload.class_names)
        }
        faults = [*_unknown_pools(names, index), *self._misrouted(routes, names, index)]
        for place, cascade in found.items():
            faults += self._miscascaded(place, cascade, names, index)
        if faults:
            raise InputError(faults)
        cascades = [cascade for cascade in found.values() if cascade is not None]
        columns = [index[name] for name in names]
        return replace(self, workload=_part(self.workload, columns, cascades))

    def _cascade_of(
        self, class_name: str, entry: CascadeEntry, index: Mapping[str, int]
    ) -> Cascade | None:
        """Returns the cascade that an entry of the routes means; None: it is none of ours."""
        asked = [
            {self.profiles[p.pool].pool.scored_as for p in stage if p.pool in index}
            for stage in (entry.first, entry.second)
        ]
        for known in self.workload.cascades:
            models = [{known.first_model}, {known.second_model}]
            means = (known.class_name, known.signal, known.below)
            if means == (class_name, entry.signal, entry.below) and asked == models:
                return known
        return None

    def _miscascaded(
        self,
        place: _Place,
        cascade: Cascade | None,
        names: Sequence[str],
        index: Mapping[str, int],
    ) -> Iterator[Fault]:
        """Yields what is wrong with where a cascade would lead."""
        if cascade is None:
            what = "is a cascade that the scores of the question do not prove"
            yield Fault(ROUTES, place.where, what, PLAN_AGAIN)
            return
        stages = (place.entry.first, cascade.first_row), (place.entry.second, cascade.second_row)
        for name, (pools, row) in zip(("first", "second"), stages, strict=True):
            where, total = f"{place.where}.{name}", sum(each.share for each in pools)
            if abs(total - 1.0) > SHARE_TOLERANCE:
                what = f"has shares that do not sum to 1, got {total:g}"
                yield Fault(ROUTES, where, what, PLAN_AGAIN)
            yield from self._misled(where, row, pools, names, index)

    def _misled(
        self,
        where: str,
        row: int,
        pools: Sequence[WeightedPool],
        names: Sequence[str],
        index: Mapping[str, int],
    ) -> Iterator[Fault]:
        """Yields what is wrong with the pools that requests of a row would go to."""
        for entry in pools:
            if entry.pool not in names:
                what = f"leads to a pool without replicas, got {entry.pool}"
                yield Fault(ROUTES, where, what, PLAN_AGAIN)
            elif entry.pool in index and not self.workload.allowed[row, index[entry.pool]]:
                what = f"leads to a pool that the class may not use, got {entry.pool}"
                yield Fault(ROUTES, where, what, PLAN_AGAIN)

    def _misrouted(
        self, routes: Routes, names: Sequence[str], index: Mapping[str, int]
    ) -> Iterator[Fault]:
        """Yields what is wrong with where requests would go."""
        for class_name, entries in routes.classes.items():
            asked = routes.cascades.get(class_name, ())
            total = sum(entry.share for entry in entries) + sum(entry.share for entry in asked)
            if abs(total - 1.0) > SHARE_TOLERANCE:
                what = f"has shares that do not sum to 1, got {total:g}"
                yield Fault(ROUTES, f"classes.{class_name}", what, PLAN_AGAIN)
        for c, class_name in enumerate(self.workload.class_names):
            where = f"classes.{class_name}"
            if class_name not in routes.classes:
                yield Fault(ROUTES, where, "is missing, requests of it go nowhere", PLAN_AGAIN)
            yield from self._misled(where, c, routes.classes.get(class_name, ()), names, index)


@dataclass(frozen=True)
class _Place:
    """A cascade of the routes, and where it stands there."""

    class_name: str
    where: str
    entry: CascadeEntry


def _places(routes: Routes, class_names: Sequence[str]) -> list[_Place]:
    """Returns the cascades of the routes, by class, in order."""
    return [
        _Place(name, f"cascades.{name}[{k}]", entry)
        for name in class_names
        for k, entry in enumerate(routes.cascades.get(name, ()))
    ]


def _part(workload: Workload, columns: Sequence[int], cascades: Sequence[Cascade]) -> Workload:
    """Returns a workload with some of its pools, by column, and some of its cascades."""
    n_classes = workload.n_classes
    rows = list(range(n_classes))
    for cascade in cascades:
        rows += [cascade.first_row, cascade.second_row]
    cells = np.ix_(rows, columns)
    first_rows = range(n_classes, len(rows), 2)
    return replace(
        workload,
        pool_names=tuple(workload.pool_names[p] for p in columns),
        rate_rps=workload.rate_rps[rows],
        mean_rate_rps=workload.mean_rate_rps[rows],
        quality=workload.quality[cells],
        allowed=workload.allowed[cells],
        request_usd=workload.request_usd[cells],
        shapes=tuple(tuple(workload.shapes[row][p] for p in columns) for row in rows),
        cascades=tuple(
            replace(cascade, first_row=row, second_row=row + 1)
            for row, cascade in zip(first_rows, cascades, strict=True)
        ),
    )


def _unknown_pools(names: Sequence[str], index: Mapping[str, int]) -> list[Fault]:
    what = "is no pool with a profile and scores"
    return [Fault(PLAN, f"deployment.{n}", what, PLAN_AGAIN) for n in names if n not in index]


def scene_of(inputs: Inputs, cascades: Sequence[CascadeOption] | None = None) -> Scene:
    """Returns the scene of a question with all pools that may answer it.

    Args:
        inputs: the question and its candidate pools.
        cascades: that plans of it may use; by default those that the scores prove.

    Raises:
        InputError: pools that cannot be fitted, or a class that never occurs in the trace.
    """
    case = make_case(inputs)
    options = offered(inputs, case) if cascades is None else cascades
    return make_scene(inputs.files, case.models, options)


def make_scene(
    files: QuestionFiles, models: Sequence[LatencyModel], cascades: Sequence[CascadeOption] = ()
) -> Scene:
    """Returns the scene of a question with these fitted pools and proven cascades.

    Raises:
        InputError: a class never occurs in the trace that the question names.
    """
    profiles = [model.profile for model in models]
    return Scene(
        files=files,
        workload=drawn_workload(files, profiles, cascades),
        profiles={profile.name: profile for profile in profiles},
        engines={model.profile.name: engine_of(model) for model in models},
        request_ps={model.profile.name: request_ps(model) for model in models},
    )
