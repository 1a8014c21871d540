"""The rules of a policy: their table, and what judges each of them."""
