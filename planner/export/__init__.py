"""Floor 4: a plan as the files of the tools that run it, one module per tool.

Every target is a pure function of one `Fleet` (fleet.py) to its files; targets.py names them all.
"""
