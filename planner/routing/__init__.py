"""Routing room: which share of each class goes to which pool, for a fixed deployment."""
