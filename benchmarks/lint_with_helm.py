"""Judges exported values of a chart by Helm's own linter: the chart's schema and its templates.

    rb export DIR --to helm-production-stack --out out
    python benchmarks/lint_with_helm.py CHART out/values.yaml [MORE.yaml ...]

CHART     the folder of the chart (vllm-stack: helm/ of vllm-project/production-stack)

Needs helm-sdkpy, which carries Helm 4 as a library (Python 3.12 or newer, so in an environment of
its own), and pyyaml. The charts that it depends on are left out: they are switched off and would be
downloaded. The judge is tried, too: values with a fault must not pass. Helm lints under the release
name test-release, ten letters longer than ours: it may warn of names that are long enough for ours.
Exit code 1: something is not valid.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import helm_sdkpy
import yaml

ERROR = 3
SEVERITIES = {1: "notes", 2: "warnings", ERROR: "errors"}


def merged(below: Any, above: Any) -> Any:
    """Returns the values of a chart under ours, as Helm puts one over the other."""
    if not isinstance(below, Mapping) or not isinstance(above, Mapping):
        return above
    return {**below, **{key: merged(below.get(key), value) for key, value in above.items()}}


async def linted(chart: Path, values: Mapping[str, Any]) -> Counter[tuple[int, str]]:
    """Returns how often Helm found something, by severity and file of the chart."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / chart.name
        shutil.copytree(chart, copy, ignore=shutil.ignore_patterns("tests", "Chart.lock"))
        about = yaml.safe_load((copy / "Chart.yaml").read_text())
        about.pop("dependencies", None)
        (copy / "Chart.yaml").write_text(yaml.safe_dump(about))
        defaults = yaml.safe_load((copy / "values.yaml").read_text())
        (copy / "values.yaml").write_text(yaml.safe_dump(merged(defaults, values)))
        said = await helm_sdkpy.Lint(helm_sdkpy.Configuration()).run(str(copy))
    return Counter((each["Severity"], each["Path"]) for each in said["Messages"])


def is_valid(found: Counter[tuple[int, str]]) -> bool:
    """Returns whether Helm would install it."""
    return not any(severity >= ERROR for severity, _ in found)


async def judged(chart: Path, files: list[Path]) -> bool:
    """Returns whether Helm takes all files, and refuses each with a fault in it."""
    right = True
    for path in files:
        values = yaml.safe_load(path.read_text())
        found = await linted(chart, values)
        right &= is_valid(found)
        said = [f"{n} {SEVERITIES[severity]} in {at}" for (severity, at), n in found.items()]
        print(
            f"{'valid  ' if is_valid(found) else 'INVALID'} {path}: {', '.join(said) or 'nothing'}"
        )
        (first, *others) = values["servingEngineSpec"]["modelSpec"]
        wrong = {"modelSpec": [{**first, "replicaCount": "two"}, *others]}
        if is_valid(await linted(chart, merged(values, {"servingEngineSpec": wrong}))):
            print(f"BLIND   {path}: replicaCount two passes as well")
            right = False
    return right


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chart", type=Path)
    parser.add_argument("values", type=Path, nargs="+")
    asked = parser.parse_args()
    return 0 if asyncio.run(judged(asked.chart, asked.values)) else 1


if __name__ == "__main__":
    sys.exit(main())
