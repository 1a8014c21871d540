"""rb: which LLMs on which GPUs, how many replicas, and which share of requests goes where."""

__version__ = "0.1.0"
