"""Why this plan: what binds, what more would buy, the rival, the ranges, and why there is none."""
