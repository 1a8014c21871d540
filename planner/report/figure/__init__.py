"""The figures of a plan: each a pure function from a plan to a drawing, None if it has none.

Every figure lays itself out for a width in px: WIDE for screens and slides, NARROW for phones.
"""
