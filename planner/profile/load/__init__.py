"""Measuring a served model: when to send what, the requests themselves, load after load."""
