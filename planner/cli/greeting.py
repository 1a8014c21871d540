"""What `rb` says when it is called without a command: the three that matter, and where to go on."""

from __future__ import annotations

GREETING = """\
rb {version}: which LLMs on which GPUs, how many replicas, which requests go where

  rb init plans/mine    write down what you serve: requests, limits, GPUs
  rb plan plans/mine    find the plan, try it, and prove how good it is
  rb check plans/mine   judge it again in CI, on every change of it

Everything else: rb --help. Each command explains itself: rb plan --help.
"""


def greeting(version: str) -> str:
    """Returns the greeting, in lines of at most 80 columns."""
    return GREETING.format(version=version)
