"""Drift room: whether real traffic is still what a plan was made for, and what that means."""
