"""Class means where a request's class is what the router takes it for, right or wrong.

Notation (C classes)
    W_kc   share of true class c in what is taken for class k; rows sum to 1           (C, C)
    q_cm   mean score of model m on class c; nodes of its answer lengths there

What is taken for class k is a mixture of true classes, so its mean score is sum_c W_kc q_cm and its
lengths are drawn from those of the true classes. A true class on which a model was never scored has
no figures to mix: of that model the mixture is over the others, as long as they are nearly all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from planner.quality.lengths import Nodes, mixed_nodes
from planner.quality.means import ClassModel
from planner.spec.arrays import FloatArray
from planner.spec.base import worst_origin

NEARLY_ALL = 0.95
"""Of what is taken for a class, a model must have been scored on this much to be offered."""

LEAST_PART = 1e-6


@dataclass(frozen=True)
class _Part:
    weight: float
    model: ClassModel


def mixed_models(
    models: Mapping[tuple[str, str], ClassModel],
    class_names: Sequence[str],
    mixture: FloatArray,
    nodes: Nodes,
) -> dict[tuple[str, str], ClassModel]:
    """Returns, by (inferred class, model name), mean scores and token counts.

    Args:
        models: of the true classes, by (class name, model name).
        class_names: of the question, (C,).
        mixture: true classes (columns) in what is taken for a class (rows), (C, C).
        nodes: how finely the distributions of lengths are cut.
    """
    found = {}
    for k, taken_for in enumerate(class_names):
        for model_name in sorted({model for _, model in models}):
            parts = [
                _Part(float(mixture[k, c]), models[name, model_name])
                for c, name in enumerate(class_names)
                if mixture[k, c] > LEAST_PART and (name, model_name) in models
            ]
            if sum(part.weight for part in parts) >= NEARLY_ALL:
                found[taken_for, model_name] = _mixed(parts, nodes)
    return found


def _mixed(parts: Sequence[_Part], nodes: Nodes) -> ClassModel:
    weight = np.array([part.weight for part in parts])
    weight = weight / weight.sum()
    weights = weight.tolist()

    def mean(figures: Sequence[float]) -> float:
        return float(weight @ np.array(figures))

    return ClassModel(
        score=mean([part.model.score for part in parts]),
        low=mean([part.model.low for part in parts]),
        high=mean([part.model.high for part in parts]),
        input_tokens=mixed_nodes([p.model.input_tokens for p in parts], weights, nodes.n_input),
        output_tokens=mixed_nodes([p.model.output_tokens for p in parts], weights, nodes.n_output),
        origin=worst_origin(*(part.model.origin for part in parts)),
    )
