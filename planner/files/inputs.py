"""Everything that a plan is made of, read and checked against each other, all faults at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from planner.errors import Fault, InputError
from planner.files.faults import unknown_name
from planner.files.profiles import GPUS_FILE, find_profiles, pool_names, read_profiles
from planner.files.question import read_question
from planner.files.router import ROUTER_FILE, read_router, router_hash
from planner.files.text import is_there
from planner.spec.inputs import InferredClasses, Inputs, QuestionFiles
from planner.spec.pool import Profile

LEAST_PART = 1e-9
"""Of the traffic: a class that nothing is taken for still has a rate."""


def read_inputs(
    folder: Path, profiles_folder: Path | None = None, with_router: bool = True
) -> Inputs:
    """Returns the inputs of a plan folder.

    Args:
        folder: with question.yaml.
        profiles_folder: with the pools; by default one that lies near the folder.
        with_router: read the trained router, and count classes as it infers them if the question
            asks for that; without, classes are those of the scores.

    Raises:
        InputError: with every fault of every file at once.
    """
    faults: list[Fault] = []
    files = read_question(folder, faults)
    if files is not None and with_router:
        files = _with_router(files, folder, faults)
    found = find_profiles(folder, profiles_folder, faults)
    profiles = None
    if found is not None:
        only = files.question.pools if files is not None else None
        profiles = read_profiles(found, faults, only)
        if files is not None:
            _check_pool_names(files, pool_names(found), faults)
    if files is None or profiles is None or faults:
        raise InputError(faults)
    inputs = Inputs(files, profiles, ())
    faults += _cross_faults(inputs)
    if faults:
        raise InputError(faults)
    inputs = replace(inputs, candidates=_candidates(inputs))
    _check_answerable(inputs, faults)
    if faults:
        raise InputError(faults)
    return inputs


def _with_router(files: QuestionFiles, folder: Path, faults: list[Fault]) -> QuestionFiles:
    """Returns the question with its trained router, if there is one, and what that infers."""
    path = folder / ROUTER_FILE
    if is_there(path):
        router = read_router(path, faults)
        if router is None:
            return files
        hashes = {**files.hashes, ROUTER_FILE: router_hash(router)}
        files = replace(files, router=router, hashes=hashes)
    if files.question.router.classes == "declared":
        return files
    faults += _uninferable(files)
    return files if faults else _as_inferred(files)


def _uninferable(files: QuestionFiles) -> Iterator[Fault]:
    """Yields why the classes of a question cannot be those that its router infers."""
    router, where = files.router, "router.classes"
    if router is None or router.bayes is None:
        what = "inferred needs a router that has learned the classes from prompts"
        yield Fault(files.name, where, what, "train it: rb router train DIR (prompts: names them)")
        return
    for cls in files.question.classes:
        if cls.name not in router.class_names:
            what = f"inferred, but the router has never seen {cls.name}"
            yield Fault(files.name, where, what, "add prompts of it, and: rb router train DIR")
        if cls.pools is not None or cls.not_pools:
            at = f"classes.{cls.name}.{'not_pools' if cls.pools is None else 'pools'}"
            what = "cannot be kept where the class is only inferred, and sometimes wrongly"
            yield Fault(files.name, at, what, "declare the class, or allow every pool")


def _as_inferred(files: QuestionFiles) -> QuestionFiles:
    """Returns the question about the classes that requests are taken for.

    What a trace or a schedule says of classes is what they truly are; what they are taken for is
    drawn by the mix.
    """
    router, classes = files.router, files.question.classes
    assert router is not None  # see _uninferable
    at = [router.class_names.index(c.name) for c in classes]
    confusion = router.confusion[np.ix_(at, at)]
    confusion = confusion / confusion.sum(axis=1, keepdims=True)
    rate_rps = np.array([c.rate_rps for c in classes])
    inferred = InferredClasses(rate_rps, confusion)
    taken_for = np.maximum(rate_rps @ confusion, LEAST_PART * rate_rps.sum()).tolist()
    cached = (inferred.mixture @ np.array([c.cached_input_ratio for c in classes])).tolist()
    changed = tuple(
        c.model_copy(update={"rate_rps": rate, "cached_input_ratio": ratio})
        for c, rate, ratio in zip(classes, taken_for, cached, strict=True)
    )
    return replace(
        files,
        question=files.question.model_copy(update={"classes": changed}),
        trace=tuple(row.model_copy(update={"class_name": None}) for row in files.trace),
        inferred=inferred,
    )


def scored_models(files: QuestionFiles) -> dict[str, set[str]]:
    """Returns, for each class, the model names that have scores."""
    scored: dict[str, set[str]] = {c.name: set() for c in files.question.classes}
    for row in files.class_scores:
        scored.setdefault(row.class_name, set()).add(row.model_name)
    table = files.prompts
    if table is not None:
        for code in set(zip(table.class_code.tolist(), table.model_code.tolist(), strict=True)):
            scored.setdefault(table.classes[code[0]], set()).add(table.model_names[code[1]])
    return scored


def _check_pool_names(files: QuestionFiles, known: tuple[str, ...], faults: list[Fault]) -> None:
    question = files.question
    named = [("pools", name) for name in question.pools or ()]
    named += [(f"replicas.{name}", name) for name in question.replicas]
    for cls in question.classes:
        named += [(f"classes.{cls.name}.pools", name) for name in cls.pools or ()]
        named += [(f"classes.{cls.name}.not_pools", name) for name in cls.not_pools]
    for field, name in named:
        if name not in known:
            faults.append(unknown_name(files.name, field, name, known, "pool"))


def _cross_faults(inputs: Inputs) -> list[Fault]:
    """Returns the faults between the files: GPUs and prices that the profiles do not know."""
    faults: list[Fault] = []
    question, name = inputs.question, inputs.files.name
    gpus = {gpu.name: gpu for gpu in inputs.profiles.gpus}
    for field, names in (
        ("stock", question.stock or {}),
        ("prices", question.prices),
        ("supply", {entry.gpu: 0 for entry in question.supply}),
    ):
        faults += [
            unknown_name(name, f"{field}.{gpu}", gpu, gpus, "GPU")
            for gpu in names
            if gpu not in gpus
        ]
    for gpu in question.stock or {}:
        if gpu in gpus and gpus[gpu].usd_per_h is None and gpu not in question.prices:
            where = f"{inputs.profiles.folder}/{GPUS_FILE}"
            what = f"has no price, {gpu} cannot be planned with"
            faults.append(
                Fault(where, f"[{gpu}].usd_per_h", what, f"give it, or prices: in {name}")
            )
    for pool, bounds in question.replicas.items():
        profile = inputs.profiles.by_name().get(pool)
        if profile is not None and profile.pool.gpu is None and (bounds.max or 0) > 1:
            what = f"a hosted pool has one replica, got {bounds.max}"
            faults.append(Fault(name, f"replicas.{pool}.max", what, "set it to 1"))
    return faults


def _candidates(inputs: Inputs) -> tuple[Profile, ...]:
    """Returns the pools that may be planned with: listed, scored, and on a GPU that exists."""
    question = inputs.question
    exist = set(question.stock or {}) | {entry.gpu for entry in question.supply}
    scored = set().union(*scored_models(inputs.files).values())
    return tuple(
        profile
        for profile in inputs.profiles.profiles
        if (question.pools is None or profile.name in question.pools)
        and profile.pool.scored_as in scored
        and (profile.pool.gpu is None or profile.pool.gpu in exist)
    )


def _check_answerable(inputs: Inputs, faults: list[Fault]) -> None:
    """Adds faults where a class can be served by no pool, or a fixed pool cannot be planned."""
    question, name = inputs.question, inputs.files.name
    scored = scored_models(inputs.files)
    for cls in question.classes:
        usable = [
            p
            for p in inputs.candidates
            if p.pool.scored_as in scored[cls.name]
            and (cls.pools is None or p.name in cls.pools)
            and p.name not in cls.not_pools
        ]
        if not usable:
            what = "no pool may serve it: none is allowed, scored and on a GPU in stock"
            fix = f"models with scores: {', '.join(sorted(scored[cls.name])) or 'none'}"
            faults.append(Fault(name, f"classes.{cls.name}", what, fix))
    planned = {p.name for p in inputs.candidates}
    for pool, bounds in question.replicas.items():
        if bounds.min > 0 and pool not in planned:
            what = f"asks for {bounds.min} replicas of a pool without scores or without stock"
            fix = "add scores for its model and stock for its GPU"
            faults.append(Fault(name, f"replicas.{pool}", what, fix))
