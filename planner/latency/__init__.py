"""Floor 1: from the measurements of one replica to its latency at any load."""
