"""Exact room: the joint program over replicas and shares, for seeds and for bounds."""
