"""The thin runtime that enforces a plan: one OpenAI-compatible endpoint in front of all pools."""
