"""Measuring a served model: when to send what, the requests themselves, one load level after another."""
