"""The gate: judges a plan without solving (check) and says what changes between two (diff)."""
