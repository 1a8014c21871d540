"""The feasible box of deployments: how many replicas there can be, where they lie, their rent."""

from planner.space.box import Offer, Space, make_space, replica_faults
from planner.space.packing import Packing

__all__ = ["Offer", "Packing", "Space", "make_space", "replica_faults"]
