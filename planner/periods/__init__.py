"""Periods room: a deployment for every period of a day or a week, changes between them paid."""
