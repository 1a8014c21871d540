"""Where traffic goes: from classes on the left to pools on the right, by requests per second.

A ribbon is as thick as its requests per second, and so is a bar: everything that a class asks
leaves it, everything that a pool answers arrives. A cascade sends a class to its first pools, and
again, paler, to its second ones where the first answer was not sure enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from planner.report.drawing.legend import Entry, legend
from planner.report.drawing.marks import SERIES, Anchor, Drawing, Group, Mark, Rect, Ribbon, Role
from planner.report.drawing.text import label
from planner.report.figure.words import WIDE, is_roomy, percent, rate
from planner.spec.plan import CascadeEntry, Plan, WeightedPool

MOST = 12  # nodes on a side; the smallest beyond them are drawn as one
HEIGHT, CLOSE_HEIGHT = 280.0, 240.0  # of the busier side, gaps apart
MOST_PER_NODE = 100.0  # on average, so that a few nodes are no walls
BAR = 10.0
GAP = 10.0
LINES = 34.0  # px that two lines of words take
LEFT, RIGHT = 150.0, 230.0  # columns of words
NAME, VALUE = 13.0, 12.0  # font sizes
OPACITY, AGAIN_OPACITY = 0.42, 0.18
LEAST_LABELLED = 15.0  # px of a ribbon that says its share
LEAST_BAR = 1.5  # px of a bar, so that every class and pool is seen


@dataclass(frozen=True)
class Flow:
    """Requests per second of one class to one pool."""

    source: str
    target: str
    rate_rps: float
    again: bool = False  # second stage of a cascade


@dataclass(frozen=True)
class _Node:
    """A class or a pool at its place."""

    name: str
    rate_rps: float
    x: float
    top: float  # of its bar
    thickness: float
    words_top: float


def flow(plan: Plan, width: float = WIDE) -> Drawing | None:
    """Returns the flows of all traffic, None where nothing is served."""
    known = flows(plan)
    total = sum(f.rate_rps for f in known)
    if total <= 0:
        return None
    merged = _merged(known)
    classes = list(dict.fromkeys(f.source for f in merged))
    pools = _untangled(merged, classes)
    has_again = any(f.again for f in merged)
    key = legend(_entries() if has_again else [], 0.0, 0.0, width)
    top = key.height + (8.0 if has_again else 0.0)
    roomy = is_roomy(width)
    most = HEIGHT if roomy else CLOSE_HEIGHT
    per_rps = min(most, MOST_PER_NODE * max(len(classes), len(pools))) / total
    left_x, right_x = (LEFT, width - RIGHT - BAR) if roomy else (0.0, width - BAR)
    out, into = _sums(merged, "source"), _sums(merged, "target")
    high = max(_height(out, classes, per_rps, roomy), _height(into, pools, per_rps, roomy))
    left = _column(classes, out, left_x, top, high, per_rps, roomy)
    right = _column(pools, into, right_x, top, high, per_rps, roomy)
    roles = _roles(plan, classes)
    marks: list[Mark] = [*key.marks, *_ribbons(plan, merged, left, right, roles)]
    marks += _class_nodes(plan, left.values(), roles, width)
    marks += _pool_nodes(plan, right.values(), width)
    return Drawing(width, top + high + 4.0, "Where traffic goes", _described(plan), tuple(marks))


def flows(plan: Plan) -> tuple[Flow, ...]:
    """Returns what every class sends to every pool, in requests per second."""
    rates = plan.predicted.class_rps
    found: dict[tuple[str, str, bool], float] = {}

    def add(source: str, target: str, rate_rps: float, again: bool) -> None:
        if rate_rps > 0:
            key = (source, target, again)
            found[key] = found.get(key, 0.0) + rate_rps

    for route in plan.routing:
        rate_rps = route.share * rates.get(route.class_name, 0.0)
        add(route.class_name, route.pool, rate_rps, again=False)
    for cascade in plan.cascades:
        asked = cascade.share * rates.get(cascade.class_name, 0.0)
        for stage, again, factor in _stages(cascade):
            for entry in stage:
                add(cascade.class_name, entry.pool, asked * entry.share * factor, again)
    order = {name: k for k, name in enumerate(rates)}
    ordered = sorted(found.items(), key=lambda item: order.get(item[0][0], len(order)))
    return tuple(Flow(s, t, rate_rps, again) for (s, t, again), rate_rps in ordered)


def _stages(cascade: CascadeEntry) -> Iterator[tuple[Sequence[WeightedPool], bool, float]]:
    """Yields the pools of both stages, whether they are asked again, and how often."""
    yield cascade.first, False, 1.0
    yield cascade.second, True, cascade.escalated_ratio


def _merged(known: Sequence[Flow]) -> list[Flow]:
    """Returns the flows with the smallest classes, and the smallest pools, as one each."""
    sources = _short(_sums(known, "source"), "classes")
    targets = _short(_sums(known, "target"), "pools")
    found: dict[tuple[str, str, bool], float] = {}
    for f in known:
        key = sources.get(f.source, f.source), targets.get(f.target, f.target), f.again
        found[key] = found.get(key, 0.0) + f.rate_rps
    made = [Flow(s, t, rate_rps, again) for (s, t, again), rate_rps in found.items()]
    return sorted(made, key=lambda f: f.source in sources.values())  # what is merged comes last


def _short(sums: Mapping[str, float], what: str) -> dict[str, str]:
    """Returns the names of the smallest nodes where there are too many, with their common name."""
    if len(sums) <= MOST:
        return {}
    order = sorted(sums, key=lambda name: (-sums[name], name))
    rest = order[MOST - 1 :]
    return dict.fromkeys(rest, f"{len(rest)} more {what}")


def _sums(known: Sequence[Flow], side: str) -> dict[str, float]:
    sums: dict[str, float] = {}
    for f in known:
        name = f.source if side == "source" else f.target
        sums[name] = sums.get(name, 0.0) + f.rate_rps
    return sums


def _untangled(known: Sequence[Flow], classes: Sequence[str]) -> list[str]:
    """Returns the pools from top to bottom, each near the classes that it serves."""
    into = _sums(known, "target")
    height = dict.fromkeys(into, 0.0)
    for f in known:
        height[f.target] += f.rate_rps * classes.index(f.source) / into[f.target]
    return sorted(into, key=lambda name: (height[name], -into[name], name))


def _slot(rate_rps: float, per_rps: float, roomy: bool) -> float:
    """Returns the height that a node takes with its words, beside its bar or above it."""
    thick = max(rate_rps * per_rps, LEAST_BAR)
    return max(thick, LINES) if roomy else thick + LINES


def _height(sums: Mapping[str, float], names: Sequence[str], per_rps: float, roomy: bool) -> float:
    return sum(_slot(sums[n], per_rps, roomy) for n in names) + GAP * (len(names) - 1)


def _column(
    names: Sequence[str],
    sums: Mapping[str, float],
    x: float,
    top: float,
    high: float,
    per_rps: float,
    roomy: bool,
) -> dict[str, _Node]:
    """Returns the nodes of one side, spread over the height of the picture."""
    n_gaps = max(len(names) - 1, 1)
    spare = high - _height(sums, names, per_rps, roomy)
    gap = GAP + (spare / n_gaps if len(names) > 1 else 0.0)
    at = top + (spare / 2 if len(names) == 1 else 0.0)
    nodes = {}
    for name in names:
        slot, thick = _slot(sums[name], per_rps, roomy), max(sums[name] * per_rps, LEAST_BAR)
        bar_top = at + (slot - thick) / 2 if roomy else at + LINES
        words = at + (slot - LINES) / 2 if roomy else at
        nodes[name] = _Node(name, sums[name], x, bar_top, thick, words)
        at += slot + gap
    return nodes


def _roles(plan: Plan, classes: Sequence[str]) -> dict[str, Role]:
    """Returns a colour for each class; those that are drawn as one have none of their own."""
    known = plan.predicted.class_rps
    return {
        name: SERIES[k % len(SERIES)] if name in known else "muted"
        for k, name in enumerate(classes)
    }


def _ribbons(
    plan: Plan,
    known: Sequence[Flow],
    left: Mapping[str, _Node],
    right: Mapping[str, _Node],
    roles: Mapping[str, Role],
) -> Iterator[Mark]:
    """Yields the flows, each leaving and arriving in the order of the nodes across."""
    rows = {name: k for k, name in enumerate(left)}
    columns = {name: k for k, name in enumerate(right)}
    leaves = {name: node.top for name, node in left.items()}
    arrives = {name: node.top for name, node in right.items()}
    starts: dict[Flow, float] = {}
    for f in sorted(known, key=lambda f: (rows[f.source], columns[f.target], f.again)):
        starts[f] = leaves[f.source]
        leaves[f.source] += _thickness(f, left[f.source])
    for f in sorted(known, key=lambda f: (columns[f.target], rows[f.source], f.again)):
        begin, end = left[f.source], right[f.target]
        thick = _thickness(f, begin)
        opacity = AGAIN_OPACITY if f.again else OPACITY
        ribbon = Ribbon(
            begin.x + BAR, starts[f], end.x, arrives[f.target], thick, roles[f.source], opacity
        )
        arrives[f.target] += _thickness(f, end)
        part = f.rate_rps / plan.predicted.class_rps.get(f.source, begin.rate_rps)
        marks: list[Mark] = [ribbon]
        if thick >= LEAST_LABELLED:
            y = starts[f] + thick / 2 + 4
            marks.append(label(begin.x + BAR + 7, y, percent(part), size=VALUE))
        yield Group(tuple(marks), {"class": f.source, "pool": f.target, "tip": _tip(f, part)})


def _thickness(f: Flow, node: _Node) -> float:
    """Returns how thick a flow is at a node, in px."""
    return node.thickness * f.rate_rps / node.rate_rps


def _tip(f: Flow, part: float) -> str:
    words = "is asked again of" if f.again else "goes to"
    return f"{percent(part)} of {f.source} ({rate(f.rate_rps)}) {words} {f.target}"


def _class_nodes(
    plan: Plan, nodes: Iterable[_Node], roles: Mapping[str, Role], width: float
) -> Iterator[Mark]:
    roomy = is_roomy(width)
    room = LEFT - 14 if roomy else width / 2 - 6
    for node in nodes:
        stated = plan.predicted.class_rps.get(node.name, node.rate_rps)
        x = node.x - 10 if roomy else node.x
        anchor: Anchor = "end" if roomy else "start"
        yield Group(
            (
                Rect(node.x, node.top, BAR, node.thickness, roles[node.name]),
                label(x, node.words_top + 14, node.name, room, "ink", NAME, anchor, False, True),
                label(
                    x, node.words_top + 29, rate(stated), room, "muted", VALUE, anchor, False, True
                ),
            ),
            {"class": node.name, "tip": f"{node.name}: {rate(stated)}"},
        )


def _pool_nodes(plan: Plan, nodes: Iterable[_Node], width: float) -> Iterator[Mark]:
    roomy = is_roomy(width)
    room = RIGHT - 10 if roomy else width / 2 - 6
    replicas = {row.pool: row.replicas for row in plan.deployment}
    for node in nodes:
        n = replicas.get(node.name)
        words = rate(node.rate_rps) + (f" on {n} replica{'s' if n != 1 else ''}" if n else "")
        x = node.x + BAR + 10 if roomy else node.x + BAR
        anchor: Anchor = "start" if roomy else "end"
        yield Group(
            (
                Rect(node.x, node.top, BAR, node.thickness, "ink"),
                label(x, node.words_top + 14, node.name, room, "ink", NAME, anchor, False, True),
                label(
                    x,
                    node.words_top + 29,
                    words if roomy else rate(node.rate_rps),
                    room,
                    "muted",
                    VALUE,
                    anchor,
                    False,
                    True,
                ),
            ),
            {"pool": node.name, "tip": f"{node.name}: {words}"},
        )


def _entries() -> list[Entry]:
    return [
        Entry("asked", "series-1", opacity=OPACITY),
        Entry("asked again, where the first answer is not sure", "series-1", opacity=AGAIN_OPACITY),
    ]


def _described(plan: Plan) -> str:
    rates = plan.predicted.class_rps
    parts = (_tip(f, f.rate_rps / rates[f.source]) for f in flows(plan))
    return f"{rate(plan.predicted.rate_rps)} in all. " + "; ".join(parts) + "."
