"""The rules that every plan is held to, and what judges them."""
