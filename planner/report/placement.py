"""Where replicas lie, for a person: which GPUs carry which pools, where a plan says so."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from planner.report.console import RenderableType, heading, indented
from planner.spec.plan import Plan


def placement_section(plan: Plan) -> Iterator[RenderableType]:
    """Yields the pools on each GPU, GPUs that carry the same together; nothing without places."""
    if not plan.placement:
        return
    kind = {row.pool: row.gpu or "" for row in plan.deployment}
    on: dict[tuple[str, int], list[str]] = defaultdict(list)
    for entry in plan.placement:
        for number in entry.gpus:
            on[kind.get(entry.pool, ""), number].append(entry.pool)
    alike: dict[tuple[str, tuple[str, ...]], list[int]] = defaultdict(list)
    for (gpu, number), carried in sorted(on.items()):
        alike[gpu, tuple(sorted(carried))].append(number)
    yield heading("What lies on which GPU (numbered node by node)")
    for (gpu, pools), numbers in alike.items():
        yield indented(f"{gpu} {ranges(numbers)}: {', '.join(pools)}")


def ranges(numbers: Sequence[int]) -> str:
    """Returns ascending numbers with neighbours drawn together, e.g. '0-3, 5'."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ", ".join("-".join(map(str, part)) for part in parts)
