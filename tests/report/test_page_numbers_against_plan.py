"""Every number in the tables of a page against plan.json, read as plain JSON.

The page is read back as a browser sees it, the file without a class of ours: a figure that is
shown must be that of the file, rounded to the digits that are shown, in the row and column of its
name. What the page computes (a month, a ratio, a worth) is computed here by hand.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
from drawn_plans import DEMO, demo, plan_of, with_periods
from paged import Element, bare, demo_page, full, hosted, missed, page_of, read
from test_page_sections import columns, table_of


@cache
def plan() -> dict[str, Any]:
    return json.loads((DEMO / "plan.json").read_text(encoding="utf-8"))


TOKENS = "usd_per_million_output_tokens"
OTHERS = {
    "hosted, unsure": hosted(missed(demo())),
    "full": full(demo()),
    "five classes": plan_of(5, 4),
    "twelve classes": plan_of(12, 3),
    "day": with_periods(full(demo())),
    "bare": bare(demo()),
}


@dataclass(frozen=True)
class Case:
    """A plan as its file says it, and its page."""

    plan: dict[str, Any]
    page: Element


@pytest.fixture(scope="module", params=["demo", *OTHERS])
def case(request: pytest.FixtureRequest, whole: Element) -> Case:
    if request.param == "demo":
        return Case(plan(), whole)
    other = OTHERS[request.param]
    return Case(json.loads(other.model_dump_json(by_alias=True)), page_of(other))


@pytest.fixture(scope="module")
def whole() -> Element:
    return read(demo_page())


def shows(text: str, value: float | None) -> bool:
    """Whether a cell shows a figure, to all of its digits: '-' is none, '62.2%' is 0.622."""
    found = re.match(r"[$±+]?(-?[\d,]+(?:\.(\d+))?)(%?)", text.strip())
    if text.strip().startswith("<0.1%"):
        return value is not None and 0 < value < 0.0005
    if found is None:
        return value is None or (text.strip() == "-" and value == 0.0)
    digits, decimals, percent = found.groups()
    unit = 0.01 if percent else 1.0
    if value is None:
        return False
    shown = float(digits.replace(",", ""))
    return abs(shown - value / unit) <= 0.5 * 10.0 ** -len(decimals or "") * (1 + 1e-9)


def rows(page: Element, caption: str) -> dict[str, dict[str, str]]:
    """The cells of a table by the name of their row and of their column."""
    table = table_of(page, caption)
    names = columns(table)
    found = {}
    for row in table.all("tr")[1:]:
        cells = [cell.text for cell in row if cell.tag in ("th", "td")]
        found[cells[0]] = dict(zip(names, cells, strict=True))
    return found


def check(shown: dict[str, str], expected: dict[str, float | None]) -> None:
    wrong = {name: (shown[name], v) for name, v in expected.items() if not shows(shown[name], v)}
    assert wrong == {}


@pytest.mark.parametrize(
    ("text", "value", "same"),
    [
        ("62.2%", 0.6224, True),
        ("62.2%", 0.6226, False),
        ("$1,234.50", 1234.5, True),
        ("9,986 Eestimated", 9986.3, True),
        ("9,986", 9987.0, False),
        ("-", 0.0, True),
        ("-", 0.1, False),
        ("0.7", None, False),
        ("±12%", 0.1219, True),
    ],
)
def test_this_test_can_tell_figures_apart(text: str, value: float | None, same: bool) -> None:
    assert shows(text, value) is same


def test_what_to_rent(case: Case) -> None:
    shown = rows(case.page, "Pools to run, their GPUs, price and load")
    figures = {p["pool"]: p for p in case.plan["predicted"]["pools"]}
    assert len(shown) == len(case.plan["deployment"]) + 1
    for row in case.plan["deployment"]:
        figure, seen = figures.get(row["pool"], {}), shown[row["pool"]]
        assert seen["GPU"] == (row["gpu"] or "hosted")
        check(seen, {"Replicas": row["replicas"], "GPUs": row["n_gpus"], "$/h": row["usd_per_h"],
                     "Load": figure.get("utilisation_ratio"), "Requests/s": figure.get("rate_rps"),
                     "$ per million output tokens": figure.get(TOKENS)})  # fmt: skip
        assert ("extrapolated" in seen["Load"]) == figure.get("extrapolated", False)
    rows_ = case.plan["deployment"]
    check(shown["together"], {
        "Replicas": sum(r["replicas"] for r in rows_), "GPUs": sum(r["n_gpus"] for r in rows_),
        "$/h": sum(r["usd_per_h"] for r in rows_),
        "Requests/s": case.plan["predicted"]["rate_rps"],
    })  # fmt: skip
    beside = case.plan["predicted"]["cost_usd_per_h"] - sum(r["usd_per_h"] for r in rows_)
    said = re.search(r"Hosted requests cost ([\d.,]+) ", case.page.one("section", id="rent").text)
    assert (said is not None) == (beside > 0.005)
    assert said is None or shows(said[1], beside)


def test_where_traffic_goes(case: Case) -> None:
    shown = rows(case.page, "Share of each class by pool")
    rates = case.plan["predicted"]["class_rps"]
    shares = {(r["class"], r["pool"]): r["share"] for r in case.plan["routing"]}
    cascades = {f"cascade {chr(ord('A') + n)}": c
                for n, c in enumerate(case.plan.get("cascades", []))}  # fmt: skip
    shares |= {(c["class"], way): c["share"] for way, c in cascades.items()}
    if len(rates) > 8:
        for name, rate in rates.items():
            check(shown[name], {"Requests/s": rate})
            said = dict(reversed(e.split(" ", 1)) for e in shown[name]["Answered by"].split(", "))
            check(
                {to.strip(): text for to, text in said.items()},
                {to: s for (of, to), s in shares.items() if of == name},
            )
        assert shows(shown["all traffic"]["Requests/s"], sum(rates.values()))
        return
    assert set(shown) == {d["pool"] for d in case.plan["deployment"]} | {*cascades, "requests/s"}
    known = {p["pool"]: p["rate_rps"] for p in case.plan["predicted"]["pools"]}
    for way in shown.keys() - {"requests/s"}:
        expected = {name: shares.get((name, way), 0.0) for name in rates}
        carried = sum(rates[name] * share for name, share in expected.items())
        check(shown[way], {**expected, "Requests/s": known.get(way, carried)})
    check(shown["requests/s"], {**rates, "Requests/s": sum(rates.values())})


def test_the_limits(case: Case) -> None:
    predicted = case.plan["predicted"]["latency"]
    shown = rows(case.page, "Each latency limit") if predicted else {}
    if any(f["at_most_ms"] is None for f in predicted):
        shown |= rows(case.page, "Latency without a limit")
    latency = case.plan["simulated"]["latency"] if case.plan["simulated"] else []
    tried = {(f["class"], f["metric"], f["statistic"]): f for f in latency}
    assert len(shown) == len(predicted)
    for f in predicted:
        of = f" of {f['class']}" if f["class"] else ""
        seen = shown[f"{f['statistic']} {f['metric']}{of}"]
        simulated = tried[f["class"], f["metric"], f["statistic"]]
        check(seen, {"Predicted": f["ms"], "Simulated": simulated["ms"]})
        for name, figure in (("Band", f), ("95% interval", simulated)):
            low, high = seen[name].split(" – ")
            assert shows(low, figure["low_ms"]) and shows(high, figure["high_ms"])
        assert f["origin"] in seen["Predicted"] and "simulated" in seen["Simulated"]
        if f["at_most_ms"] is not None:
            check(seen, {"Allowed": f["at_most_ms"], "Used": f["ms"] / f["at_most_ms"]})
            is_late = f["ms"] > f["at_most_ms"] * (1 + 1e-6) + 0.05
            verdict = "missed" if is_late else simulated["verdict"]
            assert verdict in seen["Verdict"]
            binds = f["ms"] / f["at_most_ms"] >= 0.995
            assert (seen["Verdict"] == "met, binds") == (binds and verdict == "met")


def test_the_quality(case: Case) -> None:
    shown = rows(case.page, "Quality of each class")
    predicted, simulated = case.plan["predicted"], case.plan["simulated"]
    for name, rate in predicted["class_rps"].items():
        expected = {"Requests/s": rate, "Quality": predicted["class_quality"][name]}
        if simulated:
            expected["Simulated"] = simulated["class_quality"].get(name)
        check(shown[name], expected)
    expected = {"Requests/s": predicted["rate_rps"], "Quality": predicted["quality"]}
    expected |= {"Simulated": simulated["quality"]} if simulated else {}
    expected |= {"Floor": 0.7} if "Floor" in shown["all traffic"] else {}
    check(shown["all traffic"], expected)


def test_the_front(case: Case) -> None:
    if not case.plan["front"]:
        assert not case.page.all("section", id="choice")
        return
    shown = rows(case.page, "The best deployments")
    front = sorted(case.plan["front"], key=lambda p: (p["cost_usd_per_h"], -p["quality"]))
    assert len(shown) == len(front)
    for n, point in enumerate(front, 1):
        seen = shown["this plan" if point["chosen"] else f"no. {n}"]
        check(seen, {"$/h": point["cost_usd_per_h"], "Quality": point["quality"],
                     "Limits used": point["latency_ratio"],
                     "Within": point["gap_ratio"]})  # fmt: skip
        if "Simulated" in seen:
            check(seen, {"Simulated": point["simulated_latency_ratio"]})
        named = re.findall(r"(\d+) × ([^,\s]+)", seen["Replicas"])
        assert {pool: int(count) for pool, count in ((p, c) for c, p in named)} == point[
            "deployment"
        ]
    # The script that shows one point beside another reads the same figures.
    data = json.loads(case.page.one("script", id="data").text)
    for known, point in zip(data["points"], case.plan["front"], strict=True):
        assert known["deployment"] == point["deployment"]
        figures = dict(zip(data["columns"], known["figures"], strict=True))
        check(figures, {"Cost": point["cost_usd_per_h"], "Quality": point["quality"],
                        "Limits used": point["latency_ratio"],
                     "Within": point["gap_ratio"]})  # fmt: skip


def test_the_periods(case: Case) -> None:
    periods = case.plan.get("periods")
    if periods is None:
        assert not case.page.all("section", id="day")
        return
    shown = rows(case.page, "What runs in each period")
    assert len(shown) == len(periods["each"])
    for p in periods["each"]:
        seen, predicted = shown[p["name"]], p["predicted"]
        check(seen, {"Requests/s": predicted["rate_rps"], "$/h": p["paid_usd_per_h"],
                     "GPUs": sum(d["n_gpus"] for d in p["deployment"]),
                     "Quality": predicted["quality"], "Limits used": predicted["latency_ratio"],
                     "Changes": p["n_changes"]})  # fmt: skip
        assert seen["Hours"] == f"{p['start_h']:g}–{p['end_h']:g}"
        named = re.findall(r"(\d+) × ([^,\s]+)", seen["Replicas"])
        assert {pool: int(n) for n, pool in named} == {
            d["pool"]: d["replicas"] for d in p["deployment"]
        }
    said = case.page.one("section", id="day").text
    total = re.search(r"hours cost (\$[\d.,]*\d)", said)
    assert total is not None and shows(total[1], periods["total_usd"])


def test_the_prices_in_words_are_those_of_the_solver(whole: Element) -> None:
    """A tenth of a replica, one request in a hundred: the small changes of planner/report/page."""
    raw = rows(whole, "Dual prices")
    said = table_of(whole, "What each shadow price means").rows()
    assert len(raw) == len(said) == len(plan()["prices"])
    for price, (change, gain) in zip(plan()["prices"], said, strict=True):
        assert float(raw[price["what"]]["Value"]) == pytest.approx(price["value"], rel=1e-3)
        assert raw[price["what"]]["Unit"] == price["unit"]
        kind, _, name = price["what"].partition(":")
        small = 0.1 if kind == "load" else 0.01
        assert shows(gain.removeprefix("buy "), small * price["value"])
        assert (name if kind == "load" else name.split(" of ")[-1]) in change


def test_what_the_pools_did_and_what_to_measure(whole: Element) -> None:
    shown = rows(whole, "What each pool did in simulation")
    for p in plan()["simulated"]["pools"]:
        check(shown[p["pool"]], {
            "Requests/s": p["rate_rps"], "Busy": p["busy_ratio"], "KV cache": p["kv_ratio"],
            "In flight": p["n_in_flight_mean"], "Output tokens/s": p["output_tokens_per_s"],
            "Preempted": p["n_preempted"],
        })  # fmt: skip
    shown = rows(whole, "Pools whose speed is worth knowing")
    for p in plan()["measure_first"]:
        check(shown[p["pool"]], {"Known within": p["band_ratio"], "Worth $/h": p["worth"],
                                 "Requests in flight to measure at": p["concurrency"]})  # fmt: skip


def test_the_tiles(case: Case) -> None:
    tiles = {t.one("dt").text: t.one("dd").text for t in case.page.all("div", class_="tile")}
    predicted, simulated = case.plan["predicted"], case.plan["simulated"]
    periods = case.plan.get("periods")
    per_h = (periods or predicted)["cost_usd_per_h"]
    assert shows(tiles["Cost"], per_h)
    month, *tokens = re.findall(r"\$[\d,.]*\d", tiles["Cost"])[1:]
    assert shows(month, 730 * per_h)
    assert len(tokens) == (periods is None)
    assert all(shows(t, predicted["usd_per_million_output_tokens"]) for t in tokens)
    assert shows(tiles["Quality"], predicted["quality"])
    limits = [f for f in (simulated or predicted)["latency"] if f["at_most_ms"]]
    if limits:
        worst = max(limits, key=lambda f: f["ms"] / f["at_most_ms"])
        assert shows(tiles["Tightest limit"], worst["ms"] / worst["at_most_ms"])
        name = f"of {worst['statistic']} {worst['metric']} of {worst['class']}"
        assert name in tiles["Tightest limit"]
    bound = (periods or case.plan)["bound"]
    if bound is None:
        assert tiles["From the best"].startswith("unknown")
    else:
        assert shows(tiles["From the best"], bound["gap_ratio"])
    gpus = f"{sum(d['n_gpus'] for d in case.plan['deployment']):g}"
    own = [d["replicas"] for d in case.plan["deployment"] if d["gpu"]]
    assert tiles["GPUs"].startswith(f"{gpus}{sum(own)} replica")
    assert ("1 hosted pool" in tiles["GPUs"]) == (len(own) < len(case.plan["deployment"]))


def test_no_other_number_stands_in_its_sentences(whole: Element) -> None:
    """Sentences about cost, rate, proof and simulation, by hand."""
    text = " ".join(" ".join(li.text.split()) for li in whole.all("li"))
    predicted, simulated = plan()["predicted"], plan()["simulated"]
    per_1000 = re.search(r"a thousand requests cost ([\d.]+) cents", text)
    assert per_1000 is not None
    usd = predicted["cost_usd_per_h"] / (3600 * predicted["rate_rps"])
    assert shows(per_1000[1], 100_000 * usd)
    played = re.search(r"([\d.]+) of ([\d.]+) requests/s \(([\d.]+%)\).*?95% from ([\d.]+) to "
                       r"([\d.]+); quality ([\d.]+)\.", text)  # fmt: skip
    assert played is not None
    goodput, rate = simulated["goodput_rps"], simulated["rate_rps"]
    ends = simulated["goodput_low_rps"], simulated["goodput_high_rps"]
    expected = (goodput, rate, goodput / rate, *ends, simulated["quality"])
    assert all(shows(a, b) for a, b in zip(played.groups(), expected, strict=True))
    assert f"{simulated['n_requests']:,} requests in {len(simulated['seeds'])} runs" in text
