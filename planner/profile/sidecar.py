"""What was measured: each fact of a pool from whoever may say it, and who said it.

options  >  rb-pool.yaml  >  the pool.yaml that is there already  >  the result files
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from planner.errors import Fault, InputError
from planner.files.faults import build
from planner.files.results import SIDECAR_FILE
from planner.profile.fields import base_name, shown
from planner.profile.gpu_names import matching_gpus
from planner.profile.runs import Run
from planner.spec.pool import Pool, PoolSettings

OPTIONS = "options"
FROM_FILES = {  # the keys of pool.yaml that a result file may say, and the option that says it
    "model_name": "--model-name",
    "gpu": "--gpu",
    "tensor_parallel": "--tensor-parallel",
    "engine": "--engine",
    "engine_version": "--engine-version",
}
_OF_ROWS = ("origin", "source")  # what pool.yaml says of its rows, not of the pool


@dataclass(frozen=True)
class Fact:
    """One thing that is known of a pool, and who says it."""

    key: str
    value: object
    said_by: str

    @property
    def said_now(self) -> bool:
        """Returns whether a person says it with this import, by option or in rb-pool.yaml."""
        return self.said_by.startswith("--") or self.said_by.endswith(SIDECAR_FILE)


_UNCLEAR = Fact("", "", "")  # stands for what a fault was kept of: one is enough


@dataclass(frozen=True)
class Known:
    """What the profiles folder says already: the ids of GPUs, and pools by name."""

    gpus: Sequence[str] = ()
    pools: Mapping[str, Pool] = field(default_factory=dict)
    folder: str = "profiles"


def pool_settings(options: Mapping[str, object]) -> PoolSettings:
    """Returns what the options say; raises InputError with every option that is wrong."""
    faults: list[Fault] = []
    said = {key: value for key, value in options.items() if value is not None}
    settings = build(PoolSettings, said, OPTIONS, faults)
    if settings is None:
        raise InputError([replace(fault, field=option_of(fault.field)) for fault in faults])
    return settings


def settle(
    flags: PoolSettings, sidecar: tuple[str, PoolSettings] | None, runs: Sequence[Run], known: Known
) -> tuple[tuple[Fact, ...], list[str]]:
    """Returns the facts of the pool that some runs measured, and remarks where sources differ.

    Raises:
        InputError: with everything that nobody says, that the files contradict each other in, or
            that fits no GPU.
    """
    where = sidecar[0] if sidecar else OPTIONS
    facts = {key: Fact(key, value, option_of(key)) for key, value in flags.said().items()}
    if sidecar is not None:
        for key, value in sidecar[1].said().items():
            facts.setdefault(key, Fact(key, value, sidecar[0]))
    name = str(facts["name"].value) if "name" in facts else None
    there = known.pools.get(name) if name is not None else None
    if there is not None:
        path = f"{known.folder}/{there.name}/pool.yaml"
        for key, value in there.model_dump(exclude_none=True, exclude_unset=True).items():
            if key not in _OF_ROWS:
                facts.setdefault(key, Fact(key, value, path))
    faults: list[Fault] = []
    notes: list[str] = []
    for key in FROM_FILES:
        if key == "gpu" and "price" in facts:
            continue  # a hosted API runs on no GPU that anybody could plan with
        _from_files(key, facts, runs, known, (faults, notes))
    facts.setdefault("tensor_parallel", Fact("tensor_parallel", 1, "assumed"))
    faults += _missing(facts, where)
    if faults:
        raise InputError(faults)
    return tuple(facts.values()), notes


def _from_files(
    key: str,
    facts: dict[str, Fact],
    runs: Sequence[Run],
    known: Known,
    said: tuple[list[Fault], list[str]],
) -> None:
    """Returns nothing; adds the fact that the files agree on, or what stands against it."""
    faults, notes = said
    values = [(run.files[0], value) for run in runs if (value := _value(key, run)) is not None]
    kinds = list(dict.fromkeys(value for _, value in values))
    if key in facts:
        notes += _differing(facts[key], kinds, known)
        return
    if len(kinds) > 1:
        first = values[0]
        name, other = next(entry for entry in values if entry[1] != first[1])
        what = f"{base_name(first[0])} says {shown(first[1])}, got {shown(other)}"
        fix = f"import them apart, or say which it is with {FROM_FILES[key]}"
        faults.append(Fault(name, key, what, fix))
        facts[key] = _UNCLEAR
    elif kinds and key == "gpu":
        ids = matching_gpus(str(kinds[0]), known.gpus)
        if len(ids) == 1:
            facts[key] = Fact(key, ids[0], f"files ({kinds[0]})")
        else:
            faults.append(_unclear_gpu(values[0][0], str(kinds[0]), ids, known))
            facts[key] = _UNCLEAR
    elif kinds:
        facts[key] = Fact(key, kinds[0], "files")


def _value(key: str, run: Run) -> object:
    """Returns what a run says under a key of pool.yaml, None where it says nothing."""
    if key != "model_name":
        return getattr(run.reading, key)
    return None if run.reading.model_id is None else base_name(run.reading.model_id)


def _differing(fact: Fact, kinds: Sequence[object], known: Known) -> Iterator[str]:
    """Yields a remark for each value of the files that is not the one that wins."""
    for value in kinds:
        same = str(value).lower() == str(fact.value).lower()
        if fact.key == "gpu":
            same = same or str(fact.value) in matching_gpus(
                str(value), {*known.gpus, str(fact.value)}
            )
        if fact.key == "model_name" and fact.said_now:
            same = True  # an id of models.yaml is rarely what a server calls itself
        if not same:
            yield f"{fact.key}: files say {value}, {fact.value} counts ({fact.said_by})"


def _missing(facts: Mapping[str, Fact], where: str) -> Iterator[Fault]:
    """Yields a fault for each thing without which there is no pool."""
    in_file = where != OPTIONS
    if "model_name" not in facts:
        fix = "say which it is with --model-name"
        yield Fault(where, "model_name", "no file names the model, got nothing", fix)
    if "gpu" not in facts and "price" not in facts:
        what = "neither an option, rb-pool.yaml nor a file says on which GPU, got nothing"
        fix = "add it, e.g. gpu: h100-sxm-80g" if in_file else "give --gpu, or write rb-pool.yaml"
        yield Fault(where, "gpu", what, fix)
    if "name" not in facts:
        what = "neither --pool nor rb-pool.yaml names the pool, got nothing"
        example = _suggested(facts)
        fix = f"add it, e.g. name: {example}" if in_file else f"give it, e.g. --pool {example}"
        yield Fault(where, "name", what, fix)


def _suggested(facts: Mapping[str, Fact]) -> str:
    """Returns a name for a pool made of what is known of it."""
    parts = [str(facts[key].value) for key in ("model_name", "gpu") if key in facts]
    n_gpus = facts["tensor_parallel"].value if "tensor_parallel" in facts else 1
    name = "-".join([part.lower() for part in parts if part] or ["my-pool"])
    return name if n_gpus in (None, 1) else f"{name}-tp{n_gpus}"


def _unclear_gpu(file: str, named: str, ids: Sequence[str], known: Known) -> Fault:
    """Returns the fault of a GPU name that fits several ids, or none."""
    if ids:
        what = f"may be {' or '.join(ids)}, got {shown(named)}"
        return Fault(file, "gpu", what, "say which it is with --gpu")
    what = f"is no GPU of {known.folder}/gpus.yaml, got {shown(named)}"
    listed = ", ".join(sorted(known.gpus)) or "none yet"
    return Fault(file, "gpu", what, f"say which it is with --gpu; known: {listed}")


def option_of(key: str) -> str:
    """Returns the option that says a key of pool.yaml."""
    return "--pool" if key == "name" else f"--{key.replace('_', '-')}"
