"""A profile as text: the points with units, the law, the error, the memory, the capacity."""

from __future__ import annotations

import io
import json

import pytest
from hand_plan import SMALL

from planner.latency.fit import fit
from planner.profile import review
from planner.report.console import make_console
from planner.report.data import as_data
from planner.report.profile import (
    ProfileSummary,
    profile_text,
    render_points,
    render_profile,
    summarise,
)
from planner.spec.inputs import Inputs
from planner.spec.pool import CapacityPoint, HostedPrice, Point, Pool, Profile


@pytest.fixture(scope="module")
def summary(demo_inputs: Inputs) -> ProfileSummary:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(review, "N_CURVE", 12)
        return summarise(fit(demo_inputs.profiles.by_name()[SMALL]))


def text_of(summary: ProfileSummary, width: int = 80) -> str:
    stream = io.StringIO()
    render_profile(summary, make_console(stream, width))
    return stream.getvalue()


@pytest.mark.parametrize("width", [60, 80, 160])
def test_it_fits_and_nothing_is_cut(summary: ProfileSummary, width: int) -> None:
    text = text_of(summary, width)
    assert max(len(row) for row in text.splitlines()) <= width
    assert "…" not in text and "\x1b" not in text


def test_every_column_of_wide_tables_is_whole() -> None:
    stream = io.StringIO()
    fields = [name for name in Point.model_fields if name.endswith(("_ms", "_rps", "_s"))]
    point = Point.model_validate(
        dict.fromkeys(fields, 12_345.678)
        | {"input_tokens": 100, "output_tokens": 64, "mode": "closed", "concurrency": 8}
        | {"n_requests": 20, "n_failed": 0, "source": "made up for this test"}
    )
    render_points([point], make_console(stream, 80))
    text = stream.getvalue()
    assert max(len(row) for row in text.splitlines()) <= 80
    assert text.count("12346") == len(fields)
    assert text.count("(ms)") == 20 and text.count("(requests/s)") == 2


def test_measured_points_with_units_and_origin(summary: ProfileSummary) -> None:
    text = text_of(summary)
    assert "(tokens/s)" in text and "(requests)" in text and "ITL" in text
    assert text.count("measured     [") == 6  # one origin and source per load level
    assert "ml-energy/leaderboard@0cd52dab" in text
    assert "9010" in text  # output tokens/s at concurrency 255


def test_the_fit_the_memory_and_the_capacity(summary: ProfileSummary) -> None:
    text = " ".join(text_of(summary).split())
    assert f"off by {100 * summary.fit_error_ratio:.1f}% on average" in text
    assert "weights take 15.0 GiB of each GPU" in text  # 8.03e9 parameters of 2 bytes
    assert "e2e: estimated, within +-" in text
    assert "TTFT was not measured" in text
    shape, *common = summary.capacity
    assert shape.is_measured_shape and not any(c.is_measured_shape for c in common)
    assert shape.output_tokens == pytest.approx(396.7, abs=0.1)
    # One replica was measured at 9,806 tokens/s with 511 in flight; that is where it saturates.
    assert shape.output_tokens_per_s == pytest.approx(9_806, rel=0.05)
    by_length = sorted((c.input_tokens, c.max_rps) for c in common)
    assert [rps for _, rps in by_length] == sorted((c.max_rps for c in common), reverse=True)


def test_each_load_is_predicted_from_the_others(summary: ProfileSummary) -> None:
    lines = text_of(summary).splitlines()
    start = lines.index("Each load predicted from the others (error, ! outside the 90% band)")
    rows = [line.split() for line in lines[start + 2 :] if line.startswith("   closed")]
    assert len(rows) == len({(f.mode, f.load) for f in summary.left_out})
    (first,) = [
        f for f in summary.left_out if f.column == "output_tokens_per_s" and f.load == 7.978
    ]
    mark = "" if first.within else "!"
    assert rows[0][3] == f"{100 * (first.predicted.value / first.measured - 1):+.1f}%{mark}"
    inside = sum(f.predicted.low <= f.measured <= f.predicted.high for f in summary.left_out)
    assert f"{inside} of {len(summary.left_out)} figures lie in the band" in "\n".join(lines)


def test_its_curves_are_drawn(summary: ProfileSummary) -> None:
    text = text_of(summary)
    n_points = sum(len(chart.measured) for chart in summary.charts)
    assert n_points >= 12
    assert n_points - 3 <= text.count("●") - 1 <= n_points  # the legend has one, two may coincide
    assert "output tokens/s over requests in flight" in text


def test_the_page_says_the_same_without_drawings(summary: ProfileSummary) -> None:
    text = profile_text(summary)
    assert "●" not in text and "Each load predicted from the others" in text


def test_data_is_json(summary: ProfileSummary) -> None:
    data = json.loads(json.dumps(as_data(summary), allow_nan=False))
    assert data["pool"]["name"] == SMALL
    assert len(data["points"]) == 6
    assert data["law"]["step_ms"] > 0
    assert data["fit_error_ratio"] == summary.fit_error_ratio


def test_a_pool_of_which_only_the_capacity_is_known() -> None:
    pool = Pool(name="p", model_name="m", gpu="g", source="made up for this test")
    point = CapacityPoint(input_tokens=100, output_tokens=50, max_rps=4.0, source="made up")
    summary = summarise(fit(Profile(pool, None, None, capacity=(point,))))
    text = text_of(summary)
    assert summary.law == {} and "time of one engine step" not in text
    assert summary.capacity[0].max_rps == pytest.approx(4.0, rel=0.05)
    assert as_data(summary.memory) == {
        "weights_gib_per_gpu": 0.0,
        "kv_capacity_tokens": None,
        "fits": True,
    }


def test_a_hosted_pool_without_points() -> None:
    price = HostedPrice(usd_per_million_input_tokens=1, usd_per_million_output_tokens=2)
    pool = Pool(name="api", model_name="m", price=price, max_rps=5, source="made up for this test")
    text = text_of(summarise(fit(Profile(pool, None, None))))
    assert "m, hosted" in text
    assert "no latency was measured" in " ".join(text.split())
