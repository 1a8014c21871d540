"""Plans for the page, and pages read back as the tree of elements that a browser sees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from html.parser import HTMLParser

from drawn_plans import demo, with_cascade, with_periods
from hand_plan import ROOT

from planner.files.inputs import read_inputs
from planner.report.page.assemble import page
from planner.report.page.markup import VOID
from planner.report.page.subject import Subject, subject_of
from planner.spec.inputs import Inputs
from planner.spec.plan import Bound, Learned, PlacedReplica, Plan, Survived
from planner.spec.reasons import Reasons

# Elements of SVG that end as they begin.
_CLOSED = {"line", "path", "rect", "circle"}


@dataclass
class Element:
    """One element with what is in it, in order."""

    tag: str
    attributes: dict[str, str | None] = field(default_factory=dict)
    children: list[Element | str] = field(default_factory=list)

    def __iter__(self) -> Iterator[Element]:
        """All elements in it, itself first."""
        yield self
        for child in self.children:
            if isinstance(child, Element):
                yield from child

    @property
    def text(self) -> str:
        return "".join(c if isinstance(c, str) else c.text for c in self.children)

    def all(self, tag: str, **attributes: str) -> list[Element]:
        """The elements of a tag whose attributes are those, or hold that class."""
        return [
            e for e in self if e.tag == tag and all(e.has(*item) for item in attributes.items())
        ]

    def one(self, tag: str, **attributes: str) -> Element:
        (found,) = self.all(tag, **attributes)
        return found

    def has(self, name: str, value: str) -> bool:
        name = name.rstrip("_").replace("_", "-")
        own = self.attributes.get(name) or ""
        return value in own.split() if name == "class" else own == value

    def rows(self) -> list[list[str]]:
        """The cells of a table's body, as text."""
        body = self.one("tbody")
        return [[c.text for c in row if c.tag in ("th", "td")] for row in body.all("tr")]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("")
        self._open = [self.root]
        self.unbalanced: list[str] = []

    def handle_starttag(self, tag, attrs):
        made = Element(tag, dict(attrs))
        self._open[-1].children.append(made)
        if tag not in VOID:
            self._open.append(made)

    def handle_startendtag(self, tag, attrs):
        assert tag in _CLOSED, tag
        self._open[-1].children.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag):
        if self._open[-1].tag != tag:
            self.unbalanced.append(f"</{tag}> in <{self._open[-1].tag}>")
            return
        self._open.pop()

    def handle_data(self, data):
        self._open[-1].children.append(data)


def read(text: str) -> Element:
    """A page as a tree; every element that is opened must be closed, in order."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    assert reader.unbalanced == []
    assert reader._open == [reader.root]
    return reader.root


def page_of(plan: Plan) -> Element:
    """The page of a plan without its inputs."""
    return read(page(Subject(plan)))


@cache
def demo_subject() -> Subject:
    """The demo's plan with its question and profiles; no load is new, so none is stale."""
    return subject_of(demo(), read_inputs(ROOT / "plans" / "demo", ROOT / "profiles"))


@cache
def demo_page() -> str:
    return page(demo_subject())


def unmeasured(inputs: Inputs) -> Inputs:
    """The inputs without the loads that were measured: a page without curves is quickly made."""
    kept = tuple(replace(p, points=()) for p in inputs.profiles.profiles)
    return replace(inputs, profiles=replace(inputs.profiles, profiles=kept))


def full(plan: Plan) -> Plan:
    """The plan with something in every part that a plan may have, but for periods."""
    pools = [row.pool for row in plan.deployment]
    deployment = {pools[0]: 3}
    rival = {"deployment": deployment, "cost_usd_per_h": 60.0, "quality": 0.71,
             "latency_ratio": 0.9, "lost": "dearer by 11.45 $/h"}  # fmt: skip
    worth = {"what": "quality floor", "change": "0.69 instead of 0.7", "gain": 8.85,
             "at_most": 8.85, "unit": "usd_per_h", "cost_usd_per_h": 39.7}  # fmt: skip
    stays = {"what": "traffic", "unit": "rate_factor", "now": 1.0, "low": 0.9, "high": 1.015,
             "above": deployment, "proved_high": 1.1}  # fmt: skip
    reasons = {"worth": [worth], "rival": rival, "refused": rival, "stays": [stays]}
    learned = Learned.model_validate(
        {
            "pool": pools[0],
            "class": None,
            "metric": "e2e",
            "load_ratio": [0.5],
            "slower_ratio": [1.2],
        }
    )
    survived = Survived(
        scenario=f"one {pools[0]} fails",
        survives=True,
        utilisation_ratio=0.9,
        latency_ratio=0.99,
        quality=0.7,
        unserved_ratio=0.0,
        simulated_latency_ratio=0.97,
        simulated_lost_ratio=0.0,
        verdict="met",
    )
    placed = PlacedReplica(pool=pools[0], replica=1, gpus=(0, 1))
    return with_cascade(plan).model_copy(
        update={
            "reasons": Reasons.model_validate(reasons),
            "learned": (learned,),
            "survives": (survived,),
            "placement": (placed,),
        }
    )


def bare(plan: Plan) -> Plan:
    """The plan without any part that a plan may lack."""
    predicted = plan.predicted.model_copy(
        update={"latency": (), "latency_ratio": None, "pools": ()}
    )
    empty = {"prices": (), "simulated": None, "bound": None, "front": (), "why": (),
             "quality_basis": None, "measure_first": (), "reasons": None}  # fmt: skip
    return plan.model_copy(update={**empty, "predicted": predicted})


def hosted(plan: Plan) -> Plan:
    """The plan with one of its pools at a provider."""
    first, *others = plan.deployment
    gone = first.model_copy(update={"gpu": None, "n_gpus": 0.0, "usd_per_h": 0.0})
    return plan.model_copy(update={"deployment": (gone, *others)})


def missed(plan: Plan) -> Plan:
    """The plan after a simulation that broke its first limit for certain."""
    assert plan.simulated is not None
    first, *others = plan.simulated.latency
    late = first.model_copy(update={"verdict": "missed", "ms": 2.0 * (first.at_most_ms or 1.0)})
    tried = plan.simulated.model_copy(update={"latency": (late, *others)})
    return plan.model_copy(update={"simulated": tried, "complete": False})


def unbounded(plan: Plan, objective: str = "quality") -> Plan:
    """The plan with a proof of another objective, at a gap."""
    bound = Bound(
        objective=objective,
        value=0.7,
        best_possible=0.72,
        gap_ratio=0.0286,
        method="by hand",
        within_usd_per_h=50.0,
    )
    return plan.model_copy(update={"bound": bound})


PLANS = {
    "demo": demo(),
    "full": full(demo()),
    "bare": bare(demo()),
    "hosted": hosted(demo()),
    "missed": missed(demo()),
    "quality": unbounded(demo()),
    "day": with_periods(demo()),
    "full day": with_periods(full(demo())),
}
