"""Where a plan is tried: the question with lengths as fine as requests are drawn, and the engines.

Made once per question, for as many plans of it as are to be tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from planner.case import make_case
from planner.errors import Fault, InputError
from planner.latency.model import LatencyModel
from planner.simulate.demand import drawn_workload
from planner.simulate.engines import engine_of, request_ps
from planner.simulate.hosted import HostedSettings
from planner.simulate.settings import EngineSettings
from planner.spec.inputs import Inputs, QuestionFiles
from planner.spec.plan import Plan, Routes
from planner.spec.pool import Profile
from planner.spec.question import Bursty, Poisson
from planner.spec.workload import Workload

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
    def changes_rate(self) -> bool:
        """Returns whether the question's rate of arrivals changes by plan."""
        return not isinstance(self.files.question.arrivals, Poisson | Bursty)

    def of_plan(self, plan: Plan, routes: Routes) -> Scene:
        """Returns the scene with the pools of a plan alone, in its order.

        Raises:
            InputError: a pool of the plan is not here, a class has no route, or a route leads to a
                pool without replicas, or to one that the class may not use.
        """
        names = tuple(entry.pool for entry in plan.deployment)
        index = {name: p for p, name in enumerate(self.workload.pool_names)}
        faults = [*_unknown_pools(names, index), *self._misrouted(routes, names, index)]
        if faults:
            raise InputError(faults)
        columns = [index[name] for name in names]
        workload = replace(
            self.workload,
            pool_names=names,
            quality=self.workload.quality[:, columns],
            allowed=self.workload.allowed[:, columns],
            request_usd=self.workload.request_usd[:, columns],
            shapes=tuple(tuple(row[p] for p in columns) for row in self.workload.shapes),
        )
        return replace(self, workload=workload)

    def _misrouted(
        self, routes: Routes, names: Sequence[str], index: Mapping[str, int]
    ) -> Iterator[Fault]:
        """Yields what is wrong with where requests would go."""
        for class_name, entries in routes.classes.items():
            total = sum(entry.share for entry in entries)
            if abs(total - 1.0) > SHARE_TOLERANCE:
                what = f"has shares that do not sum to 1, got {total:g}"
                yield Fault(ROUTES, f"classes.{class_name}", what, PLAN_AGAIN)
        for c, class_name in enumerate(self.workload.class_names):
            where = f"classes.{class_name}"
            if class_name not in routes.classes:
                yield Fault(ROUTES, where, "is missing, requests of it go nowhere", PLAN_AGAIN)
            for entry in routes.classes.get(class_name, ()):
                if entry.pool not in names:
                    what = f"leads to a pool without replicas, got {entry.pool}"
                    yield Fault(ROUTES, where, what, PLAN_AGAIN)
                elif entry.pool in index and not self.workload.allowed[c, index[entry.pool]]:
                    what = f"leads to a pool that the class may not use, got {entry.pool}"
                    yield Fault(ROUTES, where, what, PLAN_AGAIN)


def _unknown_pools(names: Sequence[str], index: Mapping[str, int]) -> list[Fault]:
    what = "is no pool with a profile and scores"
    return [Fault(PLAN, f"deployment.{n}", what, PLAN_AGAIN) for n in names if n not in index]


def scene_of(inputs: Inputs) -> Scene:
    """Returns the scene of a question with all pools that may answer it.

    Raises:
        InputError: pools that cannot be fitted, or a class that never occurs in the trace.
    """
    return make_scene(inputs.files, make_case(inputs).models)


def make_scene(files: QuestionFiles, models: Sequence[LatencyModel]) -> Scene:
    """Returns the scene of a question with these fitted pools.

    Raises:
        InputError: a class never occurs in the trace that the question names.
    """
    profiles = [model.profile for model in models]
    return Scene(
        files=files,
        workload=drawn_workload(files, profiles),
        profiles={profile.name: profile for profile in profiles},
        engines={model.profile.name: engine_of(model) for model in models},
        request_ps={model.profile.name: request_ps(model) for model in models},
    )
