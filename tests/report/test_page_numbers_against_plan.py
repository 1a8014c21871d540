"""Every number in the tables of the demo's page against plan.json, read as plain JSON.

The page is read back as a browser sees it, the file without a class of ours: a figure that is
shown must be that of the file, rounded to the digits that are shown, in the row and column of its
name. What the page computes (a month, a ratio, a worth) is computed here by hand.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import pytest
from drawn_plans import DEMO
from paged import Element, demo_page, read
from test_page_sections import columns, table_of


@cache
def plan() -> dict[str, Any]:
    return json.loads((DEMO / "plan.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def whole() -> Element:
    return read(demo_page())


def shows(text: str, value: float | None) -> bool:
    """Whether a cell shows a figure, to all of its digits: '-' is none, '62.2%' is 0.622."""
    found = re.match(r"[$±+]?(-?[\d,]+(?:\.(\d+))?)(%?)", text.strip())
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


def test_what_to_rent(whole: Element) -> None:
    shown = rows(whole, "Pools to run, their GPUs, price and load")
    figures = {p["pool"]: p for p in plan()["predicted"]["pools"]}
    assert len(shown) == len(plan()["deployment"]) + 1
    for row in plan()["deployment"]:
        figure, seen = figures[row["pool"]], shown[row["pool"]]
        assert seen["GPU"] == row["gpu"]
        per_million = figure["usd_per_million_output_tokens"]
        check(seen, {"Replicas": row["replicas"], "GPUs": row["n_gpus"], "$/h": row["usd_per_h"],
                     "Load": figure["utilisation_ratio"], "Requests/s": figure["rate_rps"],
                     "$ per million output tokens": per_million})  # fmt: skip
    rows_ = plan()["deployment"]
    check(shown["together"], {
        "Replicas": sum(r["replicas"] for r in rows_), "GPUs": sum(r["n_gpus"] for r in rows_),
        "$/h": plan()["predicted"]["cost_usd_per_h"], "Requests/s": plan()["predicted"]["rate_rps"],
    })  # fmt: skip


def test_where_traffic_goes(whole: Element) -> None:
    shown = rows(whole, "Share of each class by pool")
    shares = {(r["class"], r["pool"]): r["share"] for r in plan()["routing"]}
    rates = plan()["predicted"]["class_rps"]
    for row in plan()["deployment"]:
        pool = row["pool"]
        expected = {name: shares.get((name, pool), 0.0) for name in rates}
        carried = sum(rates[name] * share for name, share in expected.items())
        check(shown[pool], {**expected, "Requests/s": carried})
    check(shown["requests/s"], {**rates, "Requests/s": sum(rates.values())})


def test_the_limits(whole: Element) -> None:
    shown = rows(whole, "Each latency limit") | rows(whole, "Latency without a limit")
    tried = {(f["class"], f["metric"], f["statistic"]): f for f in plan()["simulated"]["latency"]}
    assert len(shown) == len(plan()["predicted"]["latency"])
    for f in plan()["predicted"]["latency"]:
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
            assert simulated["verdict"] in seen["Verdict"]
            binds = f["ms"] / f["at_most_ms"] >= 0.995
            assert (seen["Verdict"] == "met, binds") == (binds and simulated["verdict"] == "met")


def test_the_quality(whole: Element) -> None:
    shown = rows(whole, "Quality of each class")
    predicted, simulated = plan()["predicted"], plan()["simulated"]
    for name, rate in predicted["class_rps"].items():
        check(shown[name], {"Requests/s": rate, "Quality": predicted["class_quality"][name],
                            "Simulated": simulated["class_quality"][name]})  # fmt: skip
    check(shown["all traffic"], {"Requests/s": predicted["rate_rps"], "Floor": 0.7,
          "Quality": predicted["quality"], "Simulated": simulated["quality"]})  # fmt: skip


def test_the_front(whole: Element) -> None:
    shown = rows(whole, "The best deployments")
    front = sorted(plan()["front"], key=lambda p: (p["cost_usd_per_h"], -p["quality"]))
    assert len(shown) == len(front)
    for n, point in enumerate(front, 1):
        seen = shown["this plan" if point["chosen"] else f"no. {n}"]
        check(seen, {"$/h": point["cost_usd_per_h"], "Quality": point["quality"],
                     "Limits used": point["latency_ratio"], "Within": point["gap_ratio"],
                     "Simulated": point["simulated_latency_ratio"]})  # fmt: skip
        named = re.findall(r"(\d+) × ([^,\s]+)", seen["Replicas"])
        assert {pool: int(count) for count, pool in named} == point["deployment"]


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


def test_the_tiles(whole: Element) -> None:
    tiles = {t.one("dt").text: t.one("dd").text for t in whole.all("div", class_="tile")}
    predicted, simulated = plan()["predicted"], plan()["simulated"]
    assert shows(tiles["Cost"], predicted["cost_usd_per_h"])
    month, tokens = re.findall(r"\$[\d,.]*\d", tiles["Cost"])[1:]
    assert shows(month, 730 * predicted["cost_usd_per_h"])
    assert shows(tokens, predicted["usd_per_million_output_tokens"])
    assert shows(tiles["Quality"], predicted["quality"])
    limits = [f for f in simulated["latency"] if f["at_most_ms"]]
    worst = max(limits, key=lambda f: f["ms"] / f["at_most_ms"])
    assert shows(tiles["Tightest limit"], worst["ms"] / worst["at_most_ms"])
    assert (
        f"of {worst['statistic']} {worst['metric']} of {worst['class']}" in tiles["Tightest limit"]
    )
    assert shows(tiles["From the best"], plan()["bound"]["gap_ratio"])
    assert tiles["GPUs"].startswith("13")


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
