"""The feasible box of deployments: how many replicas there can be, where they lie, their rent."""

from planner.space.box import (
    MOST_PLACED_GPUS,
    Offer,
    Space,
    make_space,
    part_of,
    replica_faults,
)
from planner.space.packing import Packing

__all__ = [
    "MOST_PLACED_GPUS",
    "Offer",
    "Packing",
    "Space",
    "make_space",
    "part_of",
    "replica_faults",
]
