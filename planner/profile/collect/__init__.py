"""Collecting scores: prompts through the team's own models, answers kept, graded, agreed upon."""
