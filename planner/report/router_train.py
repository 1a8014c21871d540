"""What a router has learned, how far it goes with that, and what to label next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from rich.console import Console

from planner.quality.calibration import LengthFit, length_fit_of
from planner.quality.gate import LABELS_FOR_TERMS
from planner.quality.scores import Scores
from planner.quality.train import LABELS_FOR_MEANS, CrossFit
from planner.report.console import RenderableType, bullet, heading, line, show, table
from planner.report.data import as_data
from planner.report.figures import count, listed, percent
from planner.spec.router import FLEET, PER_PROMPT, Router


@dataclass(frozen=True)
class Trained:
    """A router with what held-out prompts say about it."""

    router: Router
    accuracy: float | None  # of inferred classes; None without texts
    lengths: tuple[LengthFit, ...]  # (M,)
    left_out: tuple[str, ...]  # models that no pool serves
    n_bytes: int


def trained_of(
    router: Router, scores: Scores, crossfit: CrossFit, left_out: tuple[str, ...], n_bytes: int
) -> Trained:
    """Returns a router with what held-out prompts say about it.

    Args:
        router: as trained.
        scores: what it was trained on.
        crossfit: estimates of each prompt by what never saw it.
        left_out: models that were scored and that no pool serves.
        n_bytes: size of its file.
    """
    posterior = crossfit.class_posterior
    accuracy = None
    if posterior is not None:
        accuracy = float((posterior.argmax(axis=1) == scores.class_code).mean())
    columns = zip(
        crossfit.output_tokens.T, crossfit.class_tokens.T, scores.output_tokens.T, strict=True
    )
    lengths = tuple(length_fit_of(*each) for each in columns)
    return Trained(router, accuracy, lengths, left_out, n_bytes)


def render_trained(trained: Trained, console: Console) -> None:
    """Writes what a router has learned."""
    show(_sections(trained), console)


def _sections(trained: Trained) -> Iterator[RenderableType]:
    router = trained.router
    parts = [
        count(len(router.class_names), "class", "classes"),
        count(len(router.model_names), "model"),
        count(router.provenance.n_prompts, "prompt"),
        f"{max(1, round(trained.n_bytes / 1024)):,} KiB",
    ]
    yield line(", ".join(parts), "bold")
    if trained.left_out:
        yield bullet(
            f"left out, as no pool of the question serves them: {listed(trained.left_out)}"
        )
    yield heading("What each class goes by")
    yield _trust(router)
    yield heading("What held-out prompts say")
    yield bullet(_gate(router))
    yield bullet(_inference(trained))
    yield bullet(_lengths(trained))
    more = tuple(_to_label(router))
    if more:
        yield heading("What to label next")
        yield from (bullet(text) for text in more)


def _trust(router: Router) -> RenderableType:
    made = table(["class"], ["prompts"], ["goes by"])
    for c, name in enumerate(router.class_names):
        n = int(router.n_labels[c])
        made.add_row("", name, f"{n:,}", _basis(router, int(router.trust[c]), n))
    return made


def _basis(router: Router, trust: int, n_labels: int) -> str:
    if trust == PER_PROMPT:
        return "its own means and per-prompt terms"
    if trust == FLEET:
        return f"the means of all classes: fewer than {LABELS_FOR_MEANS} prompts"
    if n_labels < LABELS_FOR_TERMS:
        return f"its own means: fewer than {LABELS_FOR_TERMS} prompts for per-prompt terms"
    return "its own means: per-prompt terms have proven no gain"


def _gate(router: Router) -> str:
    used = "used" if router.gate.passed else "not used"
    return f"per-prompt terms are {used}: {router.gate.why.replace('per-prompt terms', 'they', 1)}"


def _inference(trained: Trained) -> str:
    if trained.accuracy is None:
        return "no texts of prompts (prompts:), so requests must declare their class"
    router = trained.router
    right = np.diag(router.confusion)
    text = f"the class of {percent(trained.accuracy)} of the prompts is told from the text alone"
    if trained.accuracy < 1.0:
        least = int(np.argmin(right))
        text += f", least of all {router.class_names[least]} ({percent(float(right[least]), 0)})"
    return text


def _lengths(trained: Trained) -> str:
    names, fits = trained.router.model_names, trained.lengths
    worst = max(range(len(fits)), key=lambda m: abs(fits[m].total_ratio - 1.0))
    rank = np.array([fit.spearman for fit in fits])
    text = f"answer lengths: all tokens of {names[worst]} are off by "
    text += f"{100 * (fits[worst].total_ratio - 1.0):+.2f} %, no model's by more"
    known = rank[np.isfinite(rank)]
    return f"{text}; rank correlation {known.mean():.2f}" if known.size else text


def _to_label(router: Router) -> Iterator[str]:
    """Yields what the classes with too few labels would gain from more."""
    for name, n in zip(router.class_names, router.n_labels.tolist(), strict=True):
        if n < LABELS_FOR_MEANS:
            yield f"{name}: {count(LABELS_FOR_MEANS - n, 'more prompt')} for means of its own"
    few = [n for n in router.n_labels.tolist() if LABELS_FOR_MEANS <= n < LABELS_FOR_TERMS]
    if few:
        yield (
            f"{count(len(few), 'class', 'classes')} with fewer than {LABELS_FOR_TERMS} prompts: "
            "rb router next says which scores are worth most"
        )


def trained_data(trained: Trained) -> dict[str, object]:
    """Returns what a router has learned as data."""
    router = trained.router
    words = {FLEET: "fleet", PER_PROMPT: "per prompt"}
    return {
        "classes": [
            {
                "class": name,
                "n_labels": int(router.n_labels[c]),
                "trust": words.get(int(router.trust[c]), "class means"),
            }
            for c, name in enumerate(router.class_names)
        ],
        "models": [
            {"model_name": name, "lengths": as_data(fit)}
            for name, fit in zip(router.model_names, trained.lengths, strict=True)
        ],
        "gate": as_data(router.gate),
        "inference_accuracy": trained.accuracy,
        "left_out": list(trained.left_out),
        "provenance": as_data(router.provenance),
        "n_bytes": trained.n_bytes,
    }
