"""AIConfigurator as a source of estimates: operator times measured by its makers, put together.

The optional extra `aic` pins the one version whose low-level session this speaks to; it exists for
x86-64 Linux only. A session answers in a fraction of a millisecond per load, after a second to
load its tables. It knows closed loops and means, no percentiles and no arrivals.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from planner.errors import Fault, InputError, MissingExtra, PlannerError
from planner.files.faults import unknown_name
from planner.profile.estimate import (
    OPTIONS,
    Estimate,
    Shape,
    check_fits,
    doubling_loads,
    fitting_loads,
    rounded,
    shapes_of,
    with_rows_source,
)
from planner.profile.left_out import Band
from planner.spec.hardware import Gpu, ModelFacts
from planner.spec.pool import Point, Pool, Precision

EXTRA = "aic"
VERSION = "0.12.0"
# On 1,158 measured points that its own package carries (Llama 3.1, Qwen 3; one step of at most 2048
# tokens): 9 in 10 E2E within a factor of 1.5; TPOT 13 % off in the median, TTFT 42 %.
ERROR_RATIO = 0.5
LARGEST_LOAD = 256
TOKENS_PER_STEP = 2048  # max_num_batched_tokens where the pool does not say

SYSTEMS = {
    "a100-sxm-80g": "a100_sxm",
    "b200-sxm-180g": "b200_sxm",
    "h100-sxm-80g": "h100_sxm",
    "h200-sxm-141g": "h200_sxm",
    "l40s-48g": "l40s",
}
BACKENDS = {"vllm": "vllm", "sglang": "sglang", "tensorrt-llm": "trtllm", "trtllm": "trtllm"}
QUANTISATION: dict[Precision, str] = {"fp8": "fp8", "fp16": "bfloat16", "bfloat16": "bfloat16"}


@dataclass(frozen=True)
class ClosedLoop:
    """What a session says of a closed loop; None where it does not fit into memory."""

    ttft_ms: float
    tpot_ms: float
    e2e_ms: float


class Session(Protocol):
    """A model on GPUs of which closed loops can be asked."""

    @property
    def source(self) -> str:
        """Returns what the figures come from, with versions."""
        ...

    def closed_loop(self, shape: Shape, n: int) -> ClosedLoop | None:
        """Returns the means (ms) of a loop of n requests, None where it does not fit."""
        ...


def estimate_with(
    session: Session,
    pool: Pool,
    gpu: Gpu,
    facts: ModelFacts,
    shape: Shape,
    own: Sequence[Point] = (),
) -> Estimate:
    """Returns the estimate of a pool by a session; measured rows of the pool are kept as they are.

    Raises:
        InputError: the model does not fit, or the session knows no load of it.
    """
    check_fits(pool, gpu, facts, shape)
    loads = doubling_loads(pool.max_num_seqs or LARGEST_LOAD)
    rows = [
        point
        for one in shapes_of(shape, facts)
        for n in fitting_loads(pool, gpu, facts, one, loads)
        if (point := _point(session, one, n)) is not None
    ]
    if not rows:
        what = f"{session.source} says that no load fits, got {pool.tensor_parallel} GPUs"
        raise InputError.single(OPTIONS, "--tensor-parallel", what, "give more GPUs")
    note = (
        f"figures of {session.source}: half of its TTFT are off by more than 40 %, of its TPOT by "
        "more than 13 %; 9 in 10 E2E lie within a factor of 1.5; measure before you rely on them"
    )
    measured = [p for p in own if p.origin == "measured"]
    source = f"ESTIMATED by rb profile estimate: {note}."
    made = pool.model_copy(
        update={
            "origin": "estimated",
            "source": with_rows_source(source, pool, measured),
            "error_ratio": ERROR_RATIO,
            "max_num_seqs": pool.max_num_seqs or loads[-1],
        }
    )
    band = Band(ERROR_RATIO, "configuration", 0)
    return Estimate(made, (*measured, *rows), band, (note,))


def open_session(pool: Pool, facts: ModelFacts) -> Session:
    """Returns AIConfigurator's session of a pool.

    Raises:
        MissingExtra: AIConfigurator is not installed, or another version of it.
        InputError: it does not know the GPU, engine, model or precision.
    """
    _require()
    _check_known(pool)
    with _as_input_error(pool):
        return _Aic.of(pool, facts)


def _require() -> None:
    """Raises MissingExtra unless the one supported version is there."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        installed = version("aiconfigurator")
    except PackageNotFoundError:
        installed = ""
    if installed != VERSION:
        raise MissingExtra(EXTRA, "--source aic")


def _check_known(pool: Pool) -> None:
    faults = []
    if pool.gpu not in SYSTEMS:
        faults.append(_unknown("--gpu", pool.gpu, SYSTEMS))
    if (pool.engine or "") not in BACKENDS:
        faults.append(_unknown("--engine", pool.engine, BACKENDS))
    if pool.weight_precision is not None and pool.weight_precision not in QUANTISATION:
        faults.append(_unknown("--weight-precision", pool.weight_precision, QUANTISATION))
    if pool.data_parallel > 1:
        what = f"must be 1 with --source aic, got {pool.data_parallel}"
        faults.append(Fault(OPTIONS, "data_parallel", what, "use --source roofline"))
    if faults:
        raise InputError(faults)


def _unknown(option: str, got: str | None, known: Iterable[str]) -> Fault:
    """Returns the fault of something that AIConfigurator has no tables of, with the nearest one."""
    what = f"{option.strip('-')} of AIConfigurator {VERSION}"
    return unknown_name(OPTIONS, option, got or "nothing", known, what)


def _point(session: Session, shape: Shape, n: int) -> Point | None:
    found = session.closed_loop(shape, n)
    if found is None:
        return None
    return Point(
        input_tokens=shape.input_tokens,
        output_tokens=shape.output_tokens,
        mode="closed",
        concurrency=float(n),
        achieved_rps=rounded(1000.0 * n / found.e2e_ms),
        output_tokens_per_s=rounded(1000.0 * n * shape.output_tokens / found.e2e_ms),
        ttft_mean_ms=rounded(found.ttft_ms),
        tpot_mean_ms=rounded(found.tpot_ms) if found.tpot_ms > 0 else None,
        e2e_mean_ms=rounded(found.e2e_ms),
        origin="estimated",
        source=session.source,
    )


class _Summary(Protocol):
    """The part of AIConfigurator's result that is read."""

    def check_oom(self) -> bool: ...

    def get_result_dict(self) -> dict[str, float] | None: ...


class _InferenceSession(Protocol):
    """The part of AIConfigurator's session that is called."""

    def run_agg(self, runtime_config: object, *, ctx_tokens: int) -> _Summary: ...


@dataclass(frozen=True)
class _Aic:
    """AIConfigurator's low-level session behind the two questions asked of it."""

    session: _InferenceSession
    source: str
    pool: Pool
    tokens_per_step: int

    @classmethod
    def of(cls, pool: Pool, facts: ModelFacts) -> _Aic:
        from aiconfigurator.sdk import common, config, models
        from aiconfigurator.sdk.backends.factory import get_backend
        from aiconfigurator.sdk.inference_session import InferenceSession
        from aiconfigurator.sdk.perf_database import get_database, get_latest_database_version

        model_path = matching_model(facts.name, common.DefaultHFModels)
        system, backend = SYSTEMS[pool.gpu or ""], BACKENDS[pool.engine or ""]
        version = get_latest_database_version(system=system, backend=backend)
        database = get_database(system, backend, version) if version else None
        if database is None:
            raise InputError([_unknown("--gpu", f"{pool.gpu} with {pool.engine}", SYSTEMS)])
        settings = {"tp_size": pool.tensor_parallel, "pp_size": pool.pipeline_parallel}
        if pool.weight_precision is not None:
            mode = QUANTISATION[pool.weight_precision]
            settings["gemm_quant_mode"] = common.GEMMQuantMode[mode]
            settings["moe_quant_mode"] = common.MoEQuantMode[mode]
        if facts.n_active_parameters < facts.n_parameters:
            settings |= {"moe_tp_size": pool.tensor_parallel, "moe_ep_size": 1}
        model = models.get_model(model_path, config.ModelConfig(**settings), backend)
        return cls(
            InferenceSession(model, database, get_backend(backend)),
            f"AIConfigurator {VERSION}, {model_path} on {system}, {backend} {version}",
            pool,
            pool.max_num_batched_tokens or TOKENS_PER_STEP,
        )

    def closed_loop(self, shape: Shape, n: int) -> ClosedLoop | None:
        """Returns the means (ms) of a loop of n requests, None where it does not fit."""
        from aiconfigurator.sdk import config

        asked = config.RuntimeConfig(
            batch_size=n, isl=round(shape.input_tokens), osl=round(shape.output_tokens)
        )
        prompts = n * round(shape.input_tokens)
        with _as_input_error(self.pool):
            summary = self.session.run_agg(asked, ctx_tokens=min(self.tokens_per_step, prompts))
            result = summary.get_result_dict()
        if summary.check_oom() or not result:
            return None
        return ClosedLoop(
            float(result["ttft"]), float(result["tpot"]), float(result["request_latency"])
        )


@contextmanager
def _as_input_error(pool: Pool) -> Iterator[None]:
    """Runs AIConfigurator without its remarks; what it cannot answer becomes an InputError."""
    loggers = [logging.getLogger(name) for name in ("aiconfigurator", "aiconfigurator_core")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is deprecated in favour of a later package
            yield
    except PlannerError:
        raise
    except Exception as error:  # its errors have no common type
        what = f"AIConfigurator {VERSION} cannot estimate {pool.name}: {str(error)[:200]}"
        raise InputError.single(OPTIONS, "--source", what, "use --source roofline") from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def matching_model(name: str, known: Iterable[str]) -> str:
    """Returns the Hugging Face id that a model of models.yaml has; raises InputError where none."""
    found = [path for path in sorted(known) if _plain(path) == _plain(name)]
    if not found:
        raise InputError([_unknown("--model", name, (_plain(path) for path in known))])
    return found[0]


def _plain(name: str) -> str:
    """Returns a model's name without its maker and the words that change no speed."""
    return name.rsplit("/", 1)[-1].lower().removeprefix("meta-").removesuffix("-instruct")
