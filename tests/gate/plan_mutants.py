"""What can be wrong with a real plan folder, one thing at a time, and the rules that each breaks.

Each mutant is a copy of the demo's plan with a mutation. The rules that it breaks are named, all of
them and no others; what an editor would make anew (routes.json, hashes) is made anew unless the
mutation is about just that, so that one slip is not found by another rule's luck.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hand_plan import BIG, ROOT, SMALL

from planner.files.inputs import read_inputs
from planner.files.plans import plan_hash, write_plan
from planner.spec.plan import Plan

B200 = "llama-3.1-70b-b200-tp2"
FILES = ("question.yaml", "class_scores.csv", "arrivals.csv")
Data = dict[str, Any]


class Folder:
    """A plan folder that is changed, with the profiles, the policy and the old plan beside it."""

    def __init__(self, home: Path) -> None:
        self.home, self.path = home, home / "plans" / "demo"
        self.path.mkdir(parents=True)
        for name in FILES:
            shutil.copy(ROOT / "plans" / "demo" / name, self.path)
        for name in ("plan.json", "routes.json", "serving.json"):
            shutil.copy(ROOT / "tests" / "demo_plan" / name, self.path)
        self.known = ROOT / "profiles"

    def profiles(self) -> Path:
        """Returns a copy of the profiles, to be changed."""
        self.known = Path(shutil.copytree(ROOT / "profiles", self.home / "profiles"))
        return self.known

    def text(self, name: str, old: str, new: str, folder: Path | None = None) -> None:
        """Replaces the first of some words of a file."""
        path = (folder or self.path) / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    def raw(self, name: str, change: Callable[[Data], object]) -> None:
        """Changes one JSON file and leaves the others as they are."""
        data = json.loads((self.path / name).read_text())
        change(data)
        (self.path / name).write_text(json.dumps(data))

    def plan(
        self,
        change: Callable[[Data], object],
        folder: Path | None = None,
        follows: bool = True,
    ) -> None:
        """Changes the plan, with routes.json and serving.json made to fit.

        Where it `follows`, what it says of its simulation and its front is made to fit, too.
        """
        at = folder or self.path
        data = json.loads((at / "plan.json").read_text())
        change(data)
        if follows:
            played(data)
        plan = Plan.model_validate(data)
        write_plan(at, plan)
        sheet = json.loads((at / "serving.json").read_text())
        (at / "serving.json").write_text(json.dumps({**sheet, "plan_hash": plan_hash(plan)}))

    def ask(self, old: str, new: str) -> None:
        """Changes the question, and makes the plan one of the changed question."""
        self.text("question.yaml", old, new)
        self.stamp()

    def stamp(self) -> None:
        """Makes the plan one of the inputs as they are."""
        hashes = read_inputs(self.path, self.known).hashes
        self.plan(lambda plan: plan["provenance"].update(inputs=hashes))

    def before(self, change: Callable[[Data], object]) -> None:
        """Lays the plan before beside it: this one, changed."""
        old = self.home / "plans" / "old"
        shutil.copytree(self.path, old)
        self.plan(change, old)

    def policy(self, **keys: Any) -> None:
        """Lays a policy beside it."""
        (self.home / "policy.yaml").write_text(yaml.safe_dump({"version": 1, **keys}))

    def arguments(self) -> list[str]:
        """Returns how the folder is checked."""
        found = ["check", str(self.path), "--json", "--quiet"]
        found += ["--profiles", str(self.known)]
        if (self.home / "policy.yaml").exists():
            found += ["--policy", str(self.home / "policy.yaml")]
        if (self.home / "plans" / "old").exists():
            found += ["--against", str(self.home / "plans" / "old")]
        return found


def played(plan: Data) -> None:
    """Makes simulation, front and basis say nothing that the rest of the plan contradicts."""
    said, predicted, deployed = plan["simulated"], plan["predicted"], plan["deployment"]
    for point in plan["front"]:
        if point["chosen"]:
            point["deployment"] = {row["pool"]: row["replicas"] for row in deployed}
            point.update({n: predicted[n] for n in ("cost_usd_per_h", "quality", "latency_ratio")})
            point["simulated_latency_ratio"] = None
    by_class = plan["quality_basis"]["by_class"]
    width = by_class["high"] - by_class["quality"]
    quality = predicted["quality"]
    by_class.update(quality=quality, low=max(quality - width, 0.0), high=quality + width)
    if said is None:
        return
    known = {each["pool"]: each for each in said["pools"]}
    names = dict.fromkeys(row["pool"] for row in deployed)
    said["pools"] = [{**said["pools"][0], **known.get(n, {}), "pool": n} for n in names]
    said["cost_usd_per_h"] = predicted["cost_usd_per_h"]
    limits = {scope(f): f["at_most_ms"] for f in predicted["latency"]}
    for figure in said["latency"]:
        limit = figure["at_most_ms"] = limits.get(scope(figure))
        met = "met" if limit and figure["high_ms"] <= limit else "too close to call"
        missed = limit is not None and figure["low_ms"] > limit
        figure["verdict"] = None if limit is None else "missed" if missed else met
    said["latency_ratio"] = largest(said["latency"])


def halved(said: Data) -> None:
    """Makes a simulation one of half the traffic, all of whose figures add up."""
    for name in ("rate_rps", "goodput_rps", "goodput_low_rps", "goodput_high_rps"):
        said[name] /= 2.0
    for name in ("class_rps", "class_goodput_rps"):
        said[name] = {key: value / 2.0 for key, value in said[name].items()}
    said["n_requests"] //= 2


def scope(figure: Data) -> tuple[str | None, str, str]:
    return figure["class"], figure["metric"], figure["statistic"]


def largest(figures: list[Data]) -> float | None:
    """Returns the largest of latency over limit, as a plan has it."""
    ratios = [f["ms"] / f["at_most_ms"] for f in figures if f["at_most_ms"] is not None]
    return round(max(ratios), 6) if ratios else None


def row(plan: Data, part: str, **at: Any) -> Data:
    """Returns the first entry of a part of a plan that has some values."""
    entry: Data = next(e for e in plan[part] if at.items() <= e.items())
    return entry


def latency(plan: Data, class_name: str, metric: str = "e2e") -> Data:
    figures = plan["predicted"]["latency"]
    return next(f for f in figures if (f["class"], f["metric"]) == (class_name, metric))


def shifted(plan: Data, share: float, **at: str) -> None:
    """Gives a share to one route, and what is left over to another of the class."""
    one = row(plan, "routing", **at)
    other = next(r for r in plan["routing"] if r["class"] == one["class"] and r is not one)
    other["share"] = round(other["share"] + one["share"] - share, 6)
    one["share"] = share


def scaled(plan: Data, pool: str, n: int) -> None:
    """Sets the replicas of a pool, its row added up rightly."""
    entry = row(plan, "deployment", pool=pool)
    each = {name: entry[name] / entry["replicas"] for name in ("n_gpus", "usd_per_h")}
    entry.update({"replicas": n, **{name: round(n * one, 4) for name, one in each.items()}})


@dataclass(frozen=True)
class Mutant:
    """What is done to a folder, and every rule that is then broken, the meant one first."""

    name: str
    rules: tuple[str, ...]
    mutate: Callable[[Folder], object]


def hosted(folder: Folder) -> None:
    """Sends crux to a hosted pool whose latency nobody has measured."""
    pool = folder.profiles() / "api-70b"
    pool.mkdir()
    settings = {"name": "api-70b", "model_name": "llama-3.1-70b", "max_rps": 100.0}
    price = {"usd_per_million_input_tokens": 1.0, "usd_per_million_output_tokens": 2.0}
    text = yaml.safe_dump({**settings, "price": price, "source": "made up for this test"})
    (pool / "pool.yaml").write_text(text)

    def change(plan: Data) -> None:
        row(plan, "routing", **{"class": "crux"})["pool"] = "api-70b"
        own = {"gpu": None, "tensor_parallel": 1, "replicas": 1, "n_gpus": 0.0, "usd_per_h": 1.0}
        plan["deployment"].append({"pool": "api-70b", "model_name": "llama-3.1-70b", **own})

    folder.plan(change)
    folder.stamp()


def cascade(plan: Data) -> None:
    """Sends gsm through a small model first, which no score has proved."""
    plan["routing"] = [r for r in plan["routing"] if r["class"] != "gsm"]
    known = {"class": "gsm", "share": 1.0, "signal": "signal_margin", "below": 0.5}
    stages = {"first": [{"pool": SMALL, "share": 1.0}], "second": [{"pool": BIG, "share": 1.0}]}
    plan["cascades"] = [{**known, "escalated_ratio": 0.3, "quality": 0.9, **stages}]


def as_errors(folder: Folder, *rules: str) -> None:
    """Makes warnings errors, as a team may."""
    folder.policy(severity=dict.fromkeys(rules, "error"))


def limited(folder: Folder, at_most_ms: int) -> None:
    """Plans gsm for another limit."""

    def change(plan: Data) -> None:
        latency(plan, "gsm").update(at_most_ms=float(at_most_ms))
        predicted = plan["predicted"]
        predicted["latency_ratio"] = largest(predicted["latency"])

    folder.plan(change)
    folder.ask("at_most_ms: 10000", f"at_most_ms: {at_most_ms}")


def fewer_points(folder: Folder) -> None:
    points = folder.profiles() / SMALL / "points.csv"
    points.write_text("".join(points.read_text().splitlines(keepends=True)[:3]))
    folder.stamp()
    as_errors(folder, "extrapolated")


def idle(folder: Folder) -> None:
    folder.plan(lambda plan: scaled(plan, SMALL, 24))
    as_errors(folder, "idle")


def of_h100(folder: Folder, old: str, new: str) -> None:
    """Changes what the profiles say of the H100, and plans with that."""
    path = folder.profiles() / "gpus.yaml"
    head, name, facts = path.read_text().partition("- name: h100-sxm-80g")
    assert old in facts
    path.write_text(head + name + facts.replace(old, new, 1))
    folder.stamp()


def simulated(folder: Folder, place: int, **said: Any) -> None:
    """Edits one of the simulated latencies, and the ratio that follows from all."""

    def change(plan: Data) -> None:
        figures = plan["simulated"]["latency"]
        figures[place].update(said)
        plan["simulated"]["latency_ratio"] = largest(figures)

    folder.plan(change, follows=False)


def chosen_other(plan: Data) -> int:
    """Returns the place of a point of the front that is not the plan's."""
    return next(k for k, point in enumerate(plan["front"]) if not point["chosen"])


DRIFT, PLAYED = "prediction-drift", "simulation-differs"
GSM_LIMIT = "    limits:\n      - {metric: e2e, statistic: p95, at_most_ms: 10000}\n"
OF_PLAN = (
    Mutant("stale-question", ("stale",), lambda f: f.text("question.yaml", "0.1 ", "0.09 ")),
    Mutant(
        "limit-removed-from-the-question",
        ("stale",),
        lambda f: f.text("question.yaml", GSM_LIMIT, ""),
    ),
    Mutant("stale-scores", ("stale",), lambda f: f.text("class_scores.csv", "ZeroEval", "Zero")),
    Mutant(
        "stale-profile",
        ("stale",),
        lambda f: f.text(f"{BIG}/pool.yaml", "ML.ENERGY", "ML ENERGY", f.profiles()),
    ),
    Mutant(
        "interrupted",
        ("incomplete",),
        lambda f: (f.plan(lambda p: p.update(complete=False)), as_errors(f, "incomplete")),
    ),
    Mutant(
        "contradicted-by-simulation",
        ("simulated",),
        lambda f: f.plan(
            lambda p: p["simulated"]["latency"][0].update(low_ms=1.1e4, ms=1.2e4, high_ms=1.3e4)
        ),
    ),
    Mutant(
        "renamed-pool",
        ("unknown-pool",),
        lambda f: f.plan(
            lambda p: [
                e.update(pool="gone")
                for e in (*p["deployment"], *p["routing"])
                if e["pool"] == SMALL
            ]
        ),
    ),
    Mutant(
        "class-of-another-question",
        ("unknown-class",),
        lambda f: f.plan(
            lambda p: p["routing"].append({"class": "poetry", "pool": BIG, "share": 1.0})
        ),
    ),
    Mutant("unproved-cascade", ("unknown-cascade",), lambda f: f.plan(cascade)),
    Mutant(
        "route-given-twice",
        ("duplicate", "shares-sum", "capacity", "limit", DRIFT),
        lambda f: f.plan(lambda p: p["routing"].append(dict(p["routing"][0]))),
    ),
    Mutant(
        "share-rounded-away",
        ("shares-sum",),
        lambda f: f.plan(
            lambda p: p["routing"][0].update(share=round(p["routing"][0]["share"] - 1e-6, 6))
        ),
    ),
    Mutant(
        "share-moved-to-a-pool-without-replicas",
        ("no-replica", "quality-floor", DRIFT),
        lambda f: f.plan(
            lambda p: row(p, "routing", **{"class": "crux"}).update(pool="llama-3.1-8b-b200")
        ),
    ),
    Mutant(
        "class-kept-off-a-pool",
        ("not-allowed",),
        lambda f: f.ask("rate_rps: 2.541", f"rate_rps: 2.541\n    not_pools: [{SMALL}]"),
    ),
    Mutant("no-routes", ("routes-missing",), lambda f: (f.path / "routes.json").unlink()),
    Mutant(
        "share-edited-in-routes",
        ("routes-differ",),
        lambda f: f.raw("routes.json", lambda r: r["classes"]["gsm"][0].update(share=0.5)),
    ),
    Mutant(
        "swapped-hash-of-routes",
        ("routes-differ",),
        lambda f: f.raw("routes.json", lambda r: r.update(plan_hash="0" * 64)),
    ),
    Mutant(
        "plan-edited-alone",
        ("routes-differ", "sheet-differs", "deployment-row", DRIFT, "capacity", "limit", "proof"),
        lambda f: f.raw("plan.json", lambda p: row(p, "deployment", pool=BIG).update(replicas=1)),
    ),
    Mutant(
        "retitled-by-hand",
        ("sheet-differs",),
        lambda f: f.raw("plan.json", lambda p: p.update(title="another")),
    ),
    Mutant(
        "swapped-hash-of-the-sheet",
        ("sheet-differs",),
        lambda f: f.raw("serving.json", lambda s: s.update(plan_hash="0" * 64)),
    ),
    Mutant(
        "figure-edited-in-the-sheet",
        ("sheet-differs",),
        lambda f: f.raw("serving.json", lambda s: s["pools"][SMALL].update(n_replicas=9)),
    ),
    Mutant(
        "rent-edited-in-a-row",
        ("deployment-row",),
        lambda f: f.plan(lambda p: row(p, "deployment", pool=BIG).update(usd_per_h=1.0)),
    ),
    Mutant(
        "too-many-replicas",
        ("replica-range",),
        lambda f: f.ask("choose: cheapest", f"choose: cheapest\nreplicas: {{{BIG}: {{max: 1}}}}"),
    ),
    Mutant(
        "weights-that-do-not-fit",
        ("memory", "capacity", "limit", DRIFT),
        lambda f: of_h100(f, "memory_gib: 80", "memory_gib: 30"),
    ),
    Mutant("idle-replicas", ("idle", DRIFT), idle),
    Mutant("over-stock", ("stock",), lambda f: f.ask("h100-sxm-80g: 32", "h100-sxm-80g: 8")),
    Mutant(
        "places-for-replicas-that-are-none",
        ("placement",),
        lambda f: f.plan(
            lambda p: p.update(placement=[{"pool": BIG, "replica": 7, "gpus": [0, 1, 2, 3]}])
        ),
    ),
    Mutant(
        "over-budget",
        ("budget",),
        lambda f: f.ask("choose: cheapest", "choose: cheapest\nbudget_usd_per_h: 40"),
    ),
    Mutant(
        "less-headroom-than-asked-for",
        ("capacity",),
        lambda f: f.ask("headroom_ratio: 0.1", "headroom_ratio: 0.5"),
    ),
    Mutant("unmeasured-latency", ("no-latency", DRIFT), hosted),
    Mutant("tighter-limit", ("limit", "simulated", DRIFT), lambda f: limited(f, 9000)),
    Mutant(
        "quality-below-its-floor",
        ("quality-floor",),
        lambda f: f.ask("quality_at_least: 0.70", "quality_at_least: 0.75"),
    ),
    Mutant(
        "quality-of-a-class-below-its-floor",
        ("quality-floor",),
        lambda f: f.ask("rate_rps: 1.541", "rate_rps: 1.541\n    quality_at_least: 0.7"),
    ),
    Mutant(
        "burst-that-it-does-not-survive",
        ("not-survived", "survives-differ"),
        lambda f: f.ask("choose: cheapest", "choose: cheapest\nrobust: {rate_ratio: 1.5}"),
    ),
    Mutant(
        "survival-that-nobody-asked-for",
        ("survives-differ",),
        lambda f: f.plan(lambda p: p.update(survives=[SURVIVED])),
    ),
    Mutant(
        "figures-continued-beyond-measured-loads",
        ("extrapolated", "capacity", "limit", DRIFT),
        fewer_points,
    ),
    Mutant(
        "figures-of-another-mix",
        ("mix-shift",),
        lambda f: (
            f.plan(lambda p: p["predicted"].update(mix_shift_ratio=0.2)),
            as_errors(f, "mix-shift"),
        ),
    ),
    Mutant(
        "edited-quality",
        (DRIFT, "proof"),
        lambda f: f.plan(lambda p: p["predicted"].update(quality=0.8)),
    ),
    Mutant(
        "edited-cost",
        (DRIFT,),
        lambda f: f.plan(lambda p: p["predicted"].update(cost_usd_per_h=40.0)),
    ),
    Mutant(
        "edited-latency",
        (DRIFT,),
        lambda f: f.plan(lambda p: latency(p, "gsm").update(ms=5000.0)),
    ),
    Mutant(
        "limit-removed-from-the-plan",
        (DRIFT,),
        lambda f: f.plan(lambda p: latency(p, "gsm").update(at_most_ms=None)),
    ),
    Mutant(
        "error-band-narrowed",
        (DRIFT,),
        lambda f: f.plan(lambda p: latency(p, "gsm").update(high_ms=latency(p, "gsm")["ms"])),
    ),
    Mutant(
        "assumed-said-to-be-measured",
        (DRIFT,),
        lambda f: f.plan(lambda p: latency(p, "gsm").update(origin="measured")),
    ),
    Mutant(
        "traffic-shifted-by-hand",
        ("limit", DRIFT),
        lambda f: f.plan(lambda p: shifted(p, 0.6, **{"class": "gsm", "pool": BIG})),
    ),
    Mutant(
        "replica-taken-away",
        ("capacity", "limit", DRIFT),
        lambda f: f.plan(lambda p: scaled(p, BIG, 1)),
    ),
    Mutant(
        "gap-made-smaller",
        ("proof",),
        lambda f: f.plan(lambda p: p["bound"].update(best_possible=30.0)),
    ),
    Mutant(
        "better-than-its-own-bound",
        ("proof",),
        lambda f: f.plan(lambda p: p["bound"].update(best_possible=60.0)),
    ),
    # ---- What a careful hand would make of the figures, routes.json and all hashes made to fit
    Mutant(
        "fullest-pool-left-out-of-the-figures",
        (DRIFT,),
        lambda f: f.plan(lambda p: p["predicted"].update(pools=p["predicted"]["pools"][1:])),
    ),
    Mutant(
        "cost-excused-by-a-mix-shift",
        (DRIFT,),
        lambda f: f.plan(lambda p: p["predicted"].update(mix_shift_ratio=0.04, cost_usd_per_h=20)),
    ),
    Mutant(
        "quality-excused-by-a-mix-shift",
        (DRIFT, "proof"),
        lambda f: f.plan(lambda p: p["predicted"].update(mix_shift_ratio=0.04, quality=0.9)),
    ),
    Mutant(
        "limit-excused-by-a-mix-shift",
        (DRIFT,),
        lambda f: f.plan(
            lambda p: (
                p["predicted"].update(mix_shift_ratio=0.04),
                latency(p, "gsm").update(at_most_ms=None),
            )
        ),
    ),
    Mutant(
        "latency-given-twice",
        (DRIFT,),
        lambda f: f.plan(
            lambda p: p["predicted"]["latency"].insert(0, {**latency(p, "gsm"), "ms": 1.0})
        ),
    ),
    Mutant(
        "latency-that-nobody-predicted",
        (DRIFT,),
        lambda f: f.plan(
            lambda p: p["predicted"]["latency"].append(
                {**latency(p, "gsm"), "metric": "ttft", "at_most_ms": None}
            ),
        ),
    ),
    Mutant(
        "price-per-token-edited",
        (DRIFT,),
        lambda f: f.plan(lambda p: p["predicted"].update(usd_per_million_output_tokens=0.1)),
    ),
    Mutant(
        "plan-said-to-be-measured",
        (DRIFT,),
        lambda f: f.plan(lambda p: p["predicted"].update(origin="measured")),
    ),
    Mutant(
        "largest-ratio-edited",
        (DRIFT,),
        lambda f: f.plan(lambda p: p["predicted"].update(latency_ratio=0.5)),
    ),
    Mutant(
        "class-invented-in-the-figures",
        (DRIFT,),
        lambda f: f.plan(lambda p: p["predicted"]["class_quality"].update(poetry=1.0)),
    ),
    Mutant("verdict-edited", (PLAYED,), lambda f: simulated(f, 0, verdict="too close to call")),
    Mutant(
        "missed-limit-said-to-be-met",
        (PLAYED,),
        lambda f: simulated(f, 3, low_ms=121_000.0, high_ms=130_000.0, verdict="met"),
    ),
    Mutant("limit-loosened-in-simulation", (PLAYED,), lambda f: simulated(f, 0, at_most_ms=2e4)),
    Mutant(
        "limit-left-out-of-simulation",
        (PLAYED,),
        lambda f: simulated(f, 0, at_most_ms=None, verdict=None),
    ),
    Mutant(
        "simulation-of-another-deployment",
        (PLAYED,),
        lambda f: f.plan(
            lambda p: p["simulated"].update(pools=p["simulated"]["pools"][1:]), follows=False
        ),
    ),
    Mutant(
        "simulation-at-another-price",
        (PLAYED,),
        lambda f: f.plan(lambda p: p["simulated"].update(cost_usd_per_h=40.0), follows=False),
    ),
    Mutant(
        "simulation-of-nothing",
        (PLAYED,),
        lambda f: f.plan(lambda p: p["simulated"].update(n_requests=0), follows=False),
    ),
    Mutant(
        "simulation-at-other-rates",
        (PLAYED,),
        lambda f: f.plan(lambda p: p["simulated"].update(rate_rps=700.0), follows=False),
    ),
    Mutant(
        "simulation-of-other-classes",
        (PLAYED,),
        lambda f: f.plan(
            lambda p: p["simulated"].update(class_rps={"gsm": 78.982222}), follows=False
        ),
    ),
    Mutant(
        "simulated-ratio-edited",
        (PLAYED, "proof"),
        lambda f: f.plan(lambda p: p["simulated"].update(latency_ratio=0.5), follows=False),
    ),
    Mutant(
        "another-point-of-the-front-said-to-be-chosen",
        ("proof",),
        lambda f: f.plan(
            lambda p: [e.update(chosen=k == chosen_other(p)) for k, e in enumerate(p["front"])],
            follows=False,
        ),
    ),
    Mutant(
        "failures-taken-for-answers",
        (PLAYED,),
        lambda f: f.plan(lambda p: p["simulated"].update(n_failed=30_000), follows=False),
    ),
    Mutant(
        "simulation-at-half-the-traffic",
        (PLAYED,),
        lambda f: f.plan(lambda p: halved(p["simulated"]), follows=False),
    ),
    Mutant(
        "simulation-dropped-and-the-front-tried",
        ("proof",),
        lambda f: f.plan(lambda p: p.update(simulated=None), follows=False),
    ),
    Mutant(
        "front-with-a-pool-that-is-none",
        ("proof",),
        lambda f: f.plan(lambda p: row(p, "front", chosen=False).update(deployment={"none": 1})),
    ),
    Mutant(
        "quality-rests-on-another-one",
        ("proof",),
        lambda f: f.plan(
            lambda p: p["quality_basis"]["by_class"].update(quality=0.9, high=0.95), follows=False
        ),
    ),
    Mutant(
        "chosen-point-cheaper-than-the-plan",
        ("proof",),
        lambda f: f.plan(
            lambda p: row(p, "front", chosen=True).update(cost_usd_per_h=20.0), follows=False
        ),
    ),
    Mutant(
        "two-points-chosen",
        ("proof",),
        lambda f: f.plan(lambda p: [e.update(chosen=True) for e in p["front"]], follows=False),
    ),
)
SURVIVED = {
    "scenario": "without 1 of 2 llama-3.1-70b-h100-tp4",
    "survives": True,
    "utilisation_ratio": 0.9,
    "latency_ratio": 0.9,
    "quality": 0.7,
    "unserved_ratio": 0.0,
}
