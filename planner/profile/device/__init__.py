"""Micro-benchmarks of this machine's accelerator: what it reaches, beside its data sheet."""
