"""Text files that the package brings along: a style sheet, a script."""

from __future__ import annotations

from importlib.resources import files


def package_text(package: str, name: str) -> str:
    """Returns the text of a file that lies inside a package, e.g. of `planner.report.page`."""
    return files(package).joinpath(name).read_text(encoding="utf-8")
