"""Points of a pool that nobody measured: its closed loop at every load that it can hold.

    measured pools of the same engine  ->  Transfer  ->  step times at (load, request shape)
    its own measured loads, if any     ->  Estimator    drawn through them
    pools left out one by one          ->  Band         how far off that is

A closed loop of n requests has X = 1000 n / (o t(n)) requests per second, E2E o t(n) (Little's
law), TTFT 1.5 steps, its own prefill and those that start in the same step, and TPOT what is left.
Two request shapes are written: from one alone nobody could tell what prefills and what the cache
costs (LatencyModel), and the plan's requests have their own lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from planner.errors import Fault, InputError
from planner.latency.memory import ACTIVATION_GIB, USABLE_RATIO, Memory
from planner.latency.observation import Observation, load_groups, observations
from planner.profile.left_out import Band, error_band, lack_of
from planner.profile.transfer import Estimator, PoolFacts, fit_transfer
from planner.spec.hardware import Gpu, ModelFacts
from planner.spec.pool import Point, Pool, PoolSettings, Profile

OPTIONS = "options"
DEFAULT_ENGINE = "vllm"
SETTINGS_OF_ROWS = (
    "model_name",
    "gpu",
    "tensor_parallel",
    "pipeline_parallel",
    "weight_precision",
    "engine",
)
LONGER = 4  # the second shape's prompt, in first ones
LARGEST_LOAD = 256  # where neither the engine's setting nor a measurement bounds it
BEYOND_MEASURED = 2.0  # loads of the measured pools that an estimate may go beyond them by (§8)
SAME_SHAPE_RATIO = 1.1
MOST_NAMED = 6
_MEASURED_ROWS = " Measured rows: "  # in a source, before that of the rows that were there


@dataclass(frozen=True)
class Shape:
    """The tokens of one request."""

    input_tokens: float
    output_tokens: float

    @property
    def tokens(self) -> float:
        """Returns what a request holds in the KV cache at its end."""
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True)
class Estimate:
    """The pool as it is to be written, its points (ms, tokens/s), and what to know of them."""

    pool: Pool
    points: tuple[Point, ...]
    band: Band
    notes: tuple[str, ...]


def estimate(
    pool: Pool,
    gpu: Gpu,
    facts: ModelFacts,
    others: Sequence[Profile],
    shape: Shape,
    own: Sequence[Point] = (),
) -> Estimate:
    """Returns the estimate of a pool from measured pools of its engine.

    Args:
        pool: what is to be estimated; its origin is made anew, its source that of measured rows.
        gpu: the facts of its GPU.
        facts: the facts of its model.
        others: the profiles at hand; those of other engines or without measurements are left out.
        shape: of the requests.
        own: rows of the pool itself; measured ones are kept and correct the estimate.

    Raises:
        InputError: the model does not fit, or no request of the shape does.
    """
    check_fits(pool, gpu, facts, shape)
    measured = [p for p in own if p.origin == "measured"]
    target = PoolFacts.of(Profile(pool, gpu, facts, tuple(measured))) or PoolFacts(pool, gpu, facts)
    siblings = _siblings(target, others)
    transfer = fit_transfer(siblings)
    lack = lack_of(transfer, target)
    n_probes = len(load_groups(target.steps)) if target.steps else 0
    band = error_band(siblings, lack, n_probes)
    loads = _loads(target, siblings)
    estimator = Estimator.of(transfer, target)
    source = with_rows_source(_source(target, siblings, band, n_probes), pool, measured)
    label = _label(pool, siblings, n_probes)
    rows = [
        _point(estimator, one, n, label)
        for one in shapes_of(shape, facts)
        for n in fitting_loads(pool, gpu, facts, one, loads)
        if not _is_measured(measured, one, n)
    ]
    made = pool.model_copy(
        update={
            "origin": "estimated",
            "source": source,
            "error_ratio": round(band.ratio, 2),
            "max_num_seqs": pool.max_num_seqs or int(loads[-1]),
        }
    )
    engines = {p.pool.engine for p in others if p.pool.engine}
    notes = _notes(target, siblings, band, loads, sorted(engines))
    return Estimate(made, (*measured, *rows), band, notes)


def settled_pool(said: PoolSettings, there: Pool | None, own: Sequence[Point]) -> Pool:
    """Returns the pool to estimate: what is said, then what its pool.yaml says, then defaults.

    Raises:
        InputError: it is a hosted API, or its measured rows were made with another setting than
            what is said.
    """
    if there is not None and there.price is not None:
        what = f"must be a pool on GPUs, got the hosted API {there.name}"
        raise InputError.single(OPTIONS, "--pool", what, "name another pool")
    old = {} if there is None else there.model_dump(exclude_none=True, exclude_unset=True)
    options = said.said()
    if any(point.origin == "measured" for point in own):
        faults = [
            Fault(
                OPTIONS,
                f"--{'model' if key == 'model_name' else key.replace('_', '-')}",
                f"the pool's measured rows were made with {old[key]}, got {options[key]}",
                "name another pool",
            )
            for key in SETTINGS_OF_ROWS
            if key in old and key in options and old[key] != options[key]
        ]
        if faults:
            raise InputError(faults)
    merged = {"engine": DEFAULT_ENGINE, "source": "rb profile estimate", **old, **options}
    # Made anew with every estimate; what a person has set stays.
    return Pool.model_validate(
        {k: v for k, v in merged.items() if k not in ("error_ratio", "origin")}
    )


def check_fits(pool: Pool, gpu: Gpu, facts: ModelFacts, shape: Shape) -> None:
    """Returns nothing; raises InputError where weights or one request do not fit the GPUs."""
    faults: list[Fault] = []
    if pool.tensor_parallel > gpu.gpus_per_node and not pool.spans_nodes:
        what = f"must be at most {gpu.gpus_per_node}, a node of {gpu.name}"
        what += f", got {pool.tensor_parallel}"
        faults.append(Fault(OPTIONS, "--tensor-parallel", what, "use more stages instead"))
    if facts.n_heads % pool.tensor_parallel:
        what = f"must divide the {facts.n_heads} heads of {facts.name}, got {pool.tensor_parallel}"
        faults.append(Fault(OPTIONS, "--tensor-parallel", what, "use a power of two"))
    if shape.tokens > facts.max_context_tokens:
        what = f"input and output must be at most {facts.max_context_tokens} tokens together"
        what += f", the context of {facts.name}, got {shape.tokens:g}"
        faults.append(Fault(OPTIONS, "--input-tokens", what, "give a shorter request"))
    if faults:
        raise InputError(faults)
    memory = Memory.of(Profile(pool, gpu, facts))
    room_gib = USABLE_RATIO * gpu.memory_gib - ACTIVATION_GIB
    if not memory.fits:
        what = f"{facts.name} does not fit: its weights take {memory.weights_gib_per_gpu:.1f} GiB"
        what += f" of each {gpu.name}, which has {room_gib:.1f} GiB for them"
        raise InputError.single(
            OPTIONS,
            "--tensor-parallel",
            f"{what}, got {pool.tensor_parallel}",
            _fix(pool, gpu, facts, shape),
        )
    if memory.kv_capacity_tokens < shape.tokens:
        what = f"the cache beside the weights holds {memory.kv_capacity_tokens:.0f} tokens, not one"
        what += f" request of {shape.tokens:g}, got {pool.tensor_parallel}"
        raise InputError.single(OPTIONS, "--tensor-parallel", what, _fix(pool, gpu, facts, shape))


def _fix(pool: Pool, gpu: Gpu, facts: ModelFacts, shape: Shape) -> str:
    """Returns how many GPUs would do, or that no node of them does."""
    n = pool.tensor_parallel * 2
    while n <= gpu.gpus_per_node and facts.n_heads % n == 0:
        wider = pool.model_copy(update={"tensor_parallel": n, "kv_capacity_tokens": None})
        memory = Memory.of(Profile(wider, gpu, facts))
        if memory.fits and memory.kv_capacity_tokens >= shape.tokens:
            return f"give --tensor-parallel {n}"
        n *= 2
    return "use a larger GPU, --pipeline-parallel, or narrower weights with --weight-precision"


def shapes_of(shape: Shape, facts: ModelFacts) -> list[Shape]:
    """Returns the shape, and one with a longer prompt as far as the model's context goes."""
    longest = facts.max_context_tokens - shape.output_tokens
    longer = Shape(min(LONGER * shape.input_tokens, longest), shape.output_tokens)
    far = longer.input_tokens > 1.5 * shape.input_tokens
    return [shape, longer] if far else [shape]


def fitting_loads(
    pool: Pool, gpu: Gpu, facts: ModelFacts, shape: Shape, loads: Sequence[int]
) -> list[int]:
    """Returns the loads whose requests fit into the KV cache together, at least one."""
    room = Memory.of(Profile(pool, gpu, facts)).kv_capacity_tokens
    return [n for n in loads if n == 1 or n * shape.tokens <= room]


def doubling_loads(most: int) -> list[int]:
    """Returns 1, 2, 4, ... and `most`."""
    loads = [1]
    while 2 * loads[-1] <= most:
        loads.append(2 * loads[-1])
    return loads if loads[-1] == most else [*loads, most]


def _siblings(target: PoolFacts, others: Sequence[Profile]) -> list[PoolFacts]:
    """Returns the measured pools of the same engine, the target itself left out."""
    named = sorted((p for p in others if p.name != target.pool.name), key=lambda p: p.name)
    known = [PoolFacts.of(profile) for profile in named]
    return [pool for pool in known if pool is not None and pool.family == target.family]


def _loads(target: PoolFacts, siblings: Sequence[PoolFacts]) -> list[int]:
    rows = [r for pool in (target, *siblings) for r in pool.steps]
    most = target.pool.max_num_seqs or LARGEST_LOAD
    if rows:
        most = min(most, int(BEYOND_MEASURED * max(r.n for r in rows)))
    return doubling_loads(max(most, 1))


def _is_measured(measured: Sequence[Point], shape: Shape, n: int) -> bool:
    """Returns whether a load of about this shape and size was measured."""

    def near(a: float, b: float) -> bool:
        return max(a, b) <= SAME_SHAPE_RATIO * min(a, b)

    return any(
        point.concurrency is not None
        and near(point.concurrency, n)
        and near(point.input_tokens, shape.input_tokens)
        and near(point.output_tokens, shape.output_tokens)
        for point in measured
    )


def _point(estimator: Estimator, shape: Shape, n: int, label: str) -> Point:
    """Returns the row of a closed loop of n requests; the figures obey Little's law exactly."""
    step, first = _rows_of(shape, n)
    token_ms, ttft_ms = (float(v) for v in estimator.time_ms([step, first]))
    e2e_ms = shape.output_tokens * token_ms
    decoding_ms = e2e_ms - ttft_ms
    tpot_ms = decoding_ms / (shape.output_tokens - 1.0) if shape.output_tokens >= 2 else None
    return Point(
        input_tokens=shape.input_tokens,
        output_tokens=shape.output_tokens,
        mode="closed",
        concurrency=float(n),
        achieved_rps=rounded(1000.0 * n / e2e_ms),
        output_tokens_per_s=rounded(1000.0 * n / token_ms),
        ttft_mean_ms=rounded(min(ttft_ms, e2e_ms)),
        tpot_mean_ms=rounded(tpot_ms) if tpot_ms is not None and tpot_ms > 0 else None,
        e2e_mean_ms=rounded(e2e_ms),
        origin="estimated",
        source=label,
    )


def with_rows_source(source: str, pool: Pool, measured: Sequence[Point]) -> str:
    """Returns the source of an estimate, and after it that of the measured rows which it keeps."""
    if not measured:
        return source
    return source + _MEASURED_ROWS + pool.source.rpartition(_MEASURED_ROWS)[-1]


def rounded(value: float) -> float:
    """Returns a figure with the digits that an estimate has, and a few more."""
    return float(f"{value:.5g}")


def _rows_of(shape: Shape, n: int) -> tuple[Observation, Observation]:
    """Returns the rows that a measured load would give: its step time and its TTFT."""
    asked = Point(
        input_tokens=shape.input_tokens,
        output_tokens=shape.output_tokens,
        mode="closed",
        concurrency=float(n),
        output_tokens_per_s=1.0,
        ttft_mean_ms=1.0,
        source="asked",
    )
    (step, first), _ = observations([asked])
    together = 1.0 + (n - 1.0) / shape.output_tokens
    weights = list(first.weights)
    weights[3] *= together  # prompts whose prefill falls into the same step
    return step, replace(first, weights=tuple(weights))


def _label(pool: Pool, siblings: Sequence[PoolFacts], n_probes: int) -> str:
    """Returns the source of an estimated row."""
    made_of = (
        f"{len(siblings)} measured pools of {pool.engine}" if siblings else "data sheets alone"
    )
    if not n_probes:
        return f"estimated from {made_of}, not from this pool"
    return f"estimated from {made_of}, corrected at {_loads_words(n_probes)} of this one"


def _loads_words(n_probes: int) -> str:
    return f"{n_probes} measured {'load' if n_probes == 1 else 'loads'}"


def _source(target: PoolFacts, siblings: Sequence[PoolFacts], band: Band, n_probes: int) -> str:
    """Returns the source of pool.yaml: what the estimate was made of, and how sure it is."""
    names = sorted(pool.pool.name for pool in siblings)
    listed = ", ".join(names[:MOST_NAMED])
    if len(names) > MOST_NAMED:
        listed += f" and {len(names) - MOST_NAMED} more"
    if not names:
        listed = "data sheets alone"
    probed = f", corrected at {_loads_words(n_probes)} of this pool" if n_probes else ""
    return f"ESTIMATED by rb profile estimate from {listed}{probed}. {band_words(band, target)}"


def band_words(band: Band, target: PoolFacts) -> str:
    """Returns one sentence: how far off the figures may be, and what that is known from."""
    lacks = {
        "configuration": "left out in turn",
        "parallel": "each number of GPUs left out in turn",
        "model": "each model left out in turn",
        "gpu": "each type of GPU left out in turn",
    }
    known = (
        f"{band.n_pools} measured pools, {lacks[band.lack]}"
        if band.n_pools
        else "a guess: there was no pool to try it on"
    )
    within = (
        f"9 in 10 figures should lie within a factor of {1.0 + band.ratio:.2f} of these ({known})"
    )
    if band.lack == "gpu" and not target.steps:
        return (
            f"A RANGE, not a point: no {target.gpu.name} was measured with this engine. {within}."
        )
    return f"{within}."


def _notes(
    target: PoolFacts,
    siblings: Sequence[PoolFacts],
    band: Band,
    loads: Sequence[int],
    engines: Sequence[str],
) -> tuple[str, ...]:
    """Returns remarks for the user: what is known, what is not, what to measure."""
    engine = target.pool.engine or "an engine without a name"
    notes = [band_words(band, target)]
    if not siblings:
        known = f"; there are pools of {', '.join(engines)}" if engines else ""
        notes.append(f"no pool of {engine} with facts was measured: data sheets alone{known}")
    elif band.lack == "model":
        notes.append(
            f"no pool with the architecture of {target.facts.name} was measured on {engine}"
        )
    elif band.lack == "parallel":
        notes.append(f"no pool on {target.n_parallel} GPUs was measured on {engine}")
    staged = [p for p in siblings if p.pool.pipeline_parallel > 1]
    if target.pool.pipeline_parallel > 1 and not staged:
        notes.append("no pool with pipeline stages was measured: their cost is arithmetic alone")
    if not target.steps:
        probes = f"{loads[0]}, {loads[len(loads) // 2]} and {loads[-1]}"
        notes.append(f"measure concurrency {probes}, and run this again to draw it through them")
    return tuple(notes)
