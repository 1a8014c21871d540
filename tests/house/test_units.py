"""Every number in the types that cross rooms says its unit in its name."""

import dataclasses
import importlib
import types
import typing
from collections.abc import Iterator

import numpy as np
import pytest
from pydantic import BaseModel

SUFFIXES = (
    "_ms", "_s", "_rps", "_tokens", "_usd", "_usd_per_h", "_gib", "_ratio", "_tflops", "_cv",
    "_gb_per_s", "_tokens_per_s", "_usd_per_replica_change", "_h",
)  # fmt: skip
PREFIXES = ("n_", "usd_per_", "rate_factor")  # counts, prices, a multiple of all rates
STATISTIC = ("mean", "cv", "max", "p10", "p25", "p50", "p75", "p90", "p95", "p99")

# Dimensionless, or the unit cannot be in the name; each for a reason.
ALLOWED: dict[str, str] = {
    "RoutingProblem.start_loads": "replica-seconds per second, dimensionless",
    "Lengths.mean": "tokens: stands below input_tokens or output_tokens in a file",
    "Lengths.cv": "stands below input_tokens or output_tokens in a file",
    "Lengths.max": "tokens: stands below input_tokens or output_tokens in a file",
    "Bursty.cv": "the whole word is the suffix",
    "LatencyFigure.ms": "the whole word is the suffix",
    "Question.quality_at_least": "a mean score in [0, 1]",
    "RequestClass.quality_at_least": "a mean score in [0, 1]",
    "Question.score_scale": "what a full score is, in the unit of the scores file",
    "Question.prices": "USD per hour by GPU, as in FILES; the key of the file is fixed",
    "ClassScore.score": "in the unit of the scores file",
    "PromptScore.score": "in the unit of the scores file",
    "PromptTable.score": "in the unit of the scores file",
    "PromptTable.signals": "whatever their maker counts in: they are only compared",
    "Workload.quality": "a mean score in [0, 1]",
    "Workload.quality_at_least": "a mean score in [0, 1]",
    "Workload.class_quality_at_least": "a mean score in [0, 1]",
    "Workload.priority": "an order, no unit",
    "Predicted.quality": "a mean score in [0, 1]",
    "Predicted.class_quality": "a mean score in [0, 1]",
    "SimulatedFigure.ms": "the whole word is the suffix",
    "Simulated.quality": "a mean score in [0, 1]",
    "Simulated.class_quality": "a mean score in [0, 1]",
    "FrontPoint.quality": "a mean score in [0, 1]",
    "FrontPoint.best_possible": "a mean score, or a rate factor where that is maximised",
    "Survived.quality": "a mean score in [0, 1]",
    "QualityEstimate.quality": "a mean score in [0, 1]",
    "QualityEstimate.low": "a mean score in [0, 1]",
    "QualityEstimate.high": "a mean score in [0, 1]",
    "QualityBasis.gain_low": "a difference of mean scores",
    "QualityBasis.gain_high": "a difference of mean scores",
    "QualityBasis.oracle": "a mean score in [0, 1]",
    "QualityBasis.model_prices": "quality per replica-second, by model",
    "InferredClasses.confusion": "shares of classes",
    "Route.share": "a ratio by definition (§1)",
    "WeightedPool.share": "a ratio by definition (§1)",
    "CascadeEntry.share": "a ratio by definition (§1)",
    "CascadeEntry.below": "in the unit of the signal beside it",
    "CascadeEntry.quality": "a mean score in [0, 1]",
    "CascadeRoute.share": "a ratio by definition (§1)",
    "CascadeRoute.below": "in the unit of the signal beside it",
    "CascadeRoute.quality": "a mean score in [0, 1]",
    "Cascade.below": "in the unit of the signal beside it",
    "Cascade.quality": "a mean score in [0, 1]",
    "StagePart.weight": "a factor of a figure, dimensionless",
    "ToMeasure.concurrency": "requests in flight, a mean and so no count",
    "ToMeasure.worth": "its unit is the field `unit` beside it",
    "Price.value": "its unit is the field `unit` beside it",
    "Bound.value": "its unit is that of the field `objective` beside it",
    "Bound.best_possible": "its unit is that of the field `objective` beside it",
    "Routes.model_prices": "quality per replica-second, by model",
    "Routes.load_prices": "objective per unit of load, as in plan.json",
    "PeriodRoutes.load_prices": "objective per unit of load, as in plan.json",
    "QuestionFiles.lengths": "tokens by file name",
    "PoolTable.mix": "shares of classes",
    "PoolTable.loads": "replica-seconds per second, dimensionless",
    "PoolTable.survival": "probabilities",
    "Score.quality": "a mean score in [0, 1]",
    "Score.class_quality": "a mean score in [0, 1]",
    "Score.utilisation": "replica-seconds per second, dimensionless",
    "ModelFacts.bytes_per_parameter": "the unit is the name",
    "Point.concurrency": "requests in flight, a mean and so no count",
    "Figure.ms": "the whole word is the suffix",
    "Score.loads": "replica-seconds per second, dimensionless",
    "Routing.shares": "ratios by definition (§1)",
    "Routing.unserved": "ratios by definition (§3)",
    "Routing.loads": "replica-seconds per second, dimensionless",
    "Routing.tier_loads": "replica-seconds per second, dimensionless",
    "Routing.quality": "a mean score in [0, 1]",
    "Routing.bound": "its unit is that of the objective of its problem",
}  # fmt: skip

MODULES = (
    "spec.base", "spec.hardware", "spec.inputs", "spec.plan", "spec.pool", "spec.question",
    "spec.table", "spec.workload", "score", "routing.problem",
)  # fmt: skip


def has_unit(name: str) -> bool:
    """Whether a field's name ends in a unit, a statistic of one, or is a count."""
    for statistic in STATISTIC:
        name = name.removesuffix(f"_{statistic}")
    return name.endswith(SUFFIXES) or name.startswith(PREFIXES) or "_usd_per_million_" in f"_{name}"


def holds_float(annotation: object) -> bool:
    """Whether a type is, or is made of, floats or arrays of them; of a mapping, its values."""
    if annotation is float:
        return True
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is np.ndarray:
        return "float" in str(annotation)
    if origin in (typing.Union, types.UnionType, typing.Annotated, tuple):
        return any(holds_float(each) for each in inner)
    if isinstance(origin, type) and issubclass(origin, typing.Mapping):
        return holds_float(inner[1])
    return False


def float_fields(owner: type) -> Iterator[str]:
    """The names of the fields of a pydantic or a data class that hold floats."""
    if issubclass(owner, BaseModel):
        hints = {name: field.annotation for name, field in owner.model_fields.items()}
    else:
        known = {field.name for field in dataclasses.fields(owner)}
        hints = {n: h for n, h in typing.get_type_hints(owner).items() if n in known}
    yield from (name for name, hint in hints.items() if holds_float(hint))


def classes() -> Iterator[type]:
    for module in MODULES:
        loaded = importlib.import_module(f"planner.{module}")
        for owner in vars(loaded).values():
            if not isinstance(owner, type) or owner.__module__ != loaded.__name__:
                continue
            if issubclass(owner, BaseModel) or dataclasses.is_dataclass(owner):
                yield owner


OWNERS = list(classes())


@pytest.mark.parametrize("owner", OWNERS, ids=lambda owner: owner.__name__)
def test_every_float_says_its_unit(owner):
    nameless = {
        f"{owner.__name__}.{name}" for name in float_fields(owner) if not has_unit(name)
    } - ALLOWED.keys()
    assert nameless == set()


def test_the_exceptions_exist_and_need_to_be_exceptions():
    found = {f"{o.__name__}.{name}": name for o in OWNERS for name in float_fields(o)}
    assert ALLOWED.keys() - found.keys() == set()
    assert {place for place in ALLOWED if has_unit(found[place])} == set()


def test_there_is_something_to_look_at():
    names = {owner.__name__ for owner in OWNERS}
    assert {"Gpu", "Point", "Question", "PoolTable", "Plan", "Score", "Workload"} <= names
    assert sum(len(list(float_fields(owner))) for owner in OWNERS) > 80


@pytest.mark.parametrize(
    "name", ["latency", "cost", "speed", "memory", "rate", "usd", "tokens_max"]
)
def test_a_bare_name_has_no_unit(name):
    assert not has_unit(name)


@pytest.mark.parametrize(
    "name",
    ["ttft_p95_ms", "rate_rps", "usd_per_million_output_tokens", "n_parameters", "gap_ratio"],
)
def test_a_unit_is_seen(name):
    assert has_unit(name)


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (float, True),
        (float | None, True),
        (typing.Annotated[float, "positive"] | None, True),
        (np.ndarray[typing.Any, np.dtype[np.float64]], True),
        (np.ndarray[typing.Any, np.dtype[np.int64]], False),
        (dict[str, float], True),
        (tuple[float, ...], True),
        (int, False),
        (str | None, False),
        (dict[str, int], False),
    ],
    ids=str,
)
def test_floats_are_found_in_types(annotation, expected):
    assert holds_float(annotation) is expected
