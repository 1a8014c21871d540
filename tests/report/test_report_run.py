"""A profile run as a person sees it: lines while it goes, a table of 80 columns at its end."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from planner.files.write import canonical_json
from planner.metrics_page import EngineState
from planner.profile.load.probe import Probed
from planner.profile.load.prompts import Calibration
from planner.profile.load.ramp import Measured, Saturation
from planner.profile.load.session import Next, Stop
from planner.report.console import make_console
from planner.report.run import RunProgress, RunSummary, render_run, run_data, time_words
from planner.spec.pool import Point, Pool
from planner.spec.run import LevelRecord, Step


def measured(mode: str, load: float, scale: float = 1.0, repeat: int = 1) -> Measured:
    """A level with figures of any size."""
    step = Step(mode=mode, load=load, input_tokens=3500.0, output_tokens=1024.0, repeat=repeat)
    figures = {
        "ttft_mean_ms": 123.456, "ttft_p95_ms": 1234.5, "tpot_mean_ms": 23.456,
        "tpot_p95_ms": 34.567, "e2e_mean_ms": 24119.0, "achieved_rps": 12.3456,
        "output_tokens_per_s": 12641.9,
    }  # fmt: skip
    point = Point.model_validate(
        {
            "input_tokens": 3498.2, "output_tokens": 1024.0, "mode": mode, "source": step.source,
            "concurrency" if mode == "closed" else "offered_rps": load,
        }
        | {name: value * scale for name, value in figures.items()}
    )  # fmt: skip
    return Measured(LevelRecord(step=step, noise_ratio=0.0123), point)


FALLEN = Measured(LevelRecord(step=measured("closed", 512).step, answered=False), None)
POOL = Pool(name="llama-70b-h100-tp4", model_name="m", gpu="g", source="rb profile run")


def summary(**changes: object) -> RunSummary:
    given = {
        "pool": POOL,
        "measured": (
            measured("closed", 1),
            measured("closed", 256),
            measured("open", 9.88),
            FALLEN,
        ),
        "saturation": Saturation(12.3456, 256, True),
        "stop": Stop("accurate", 0.08),
        "band_ratio": 0.08,
        "max_error_ratio": 0.1,
    }
    return RunSummary(**{**given, **changes})


def rendered(**changes: object) -> str:
    out = io.StringIO()
    render_run(summary(**changes), make_console(out, width=80))
    return out.getvalue()


@pytest.mark.parametrize("scale", [0.001, 1.0, 9.0])
def test_the_table_fits_80_columns_with_every_figure_whole(scale):
    text = rendered(measured=(measured("closed", 256, scale), measured("open", 123.5, scale)))
    assert max(len(row) for row in text.splitlines()) <= 80
    assert "…" not in text
    rows = [row for row in text.splitlines() if "3500/1024" in row]
    assert len(rows) == 2 and all(len(row.split()) == 9 for row in rows)


def test_what_was_found():
    text = rendered()
    assert "full at 12.35 requests/s; 256 run together, more wait" in text
    assert "widest error band +-8.0%, wanted +-10.0%" in text
    assert "ended: the error band is narrow enough" in text


def test_a_run_out_of_time_says_what_would_be_next():
    stop = Stop("time", 0.3, measured("closed", 48).step)
    text = rendered(stop=stop, saturation=None, band_ratio=None)
    assert "saturation was not reached" in text
    assert "next would be 48 in flight" in " ".join(text.split())


def test_given_loads_do_not_look_for_saturation():
    text = rendered(stop=Stop("given", None), saturation=None, band_ratio=None)
    assert "saturation was not looked for: the loads were given" in text


def test_percentiles_of_too_few_answers_are_counted_once_for_the_run():
    def answered(n: int) -> Measured:
        m = measured("closed", 1)
        point = m.point.model_copy(update={"n_requests": n + 5, "n_failed": 5})
        return Measured(m.level, point)

    text = " ".join(rendered(measured=(answered(59), answered(60), answered(200))).split())
    assert "p95 is blank for 1 of 3 levels: fewer than 60 answers" in text
    assert "p99 is blank for 2 of 3 levels: fewer than 200 answers" in text
    assert "blank" not in rendered(measured=(answered(200),))


def test_too_wide():
    assert summary(band_ratio=0.11).is_too_wide
    assert not summary(band_ratio=0.1).is_too_wide
    assert not summary(band_ratio=None, stop=Stop("given", None)).is_too_wide
    assert summary(band_ratio=None, stop=Stop("time", None)).is_too_wide


def test_data_is_json():
    data = json.loads(canonical_json(run_data(summary())))
    assert data["complete"] and data["stopped_because"] == "accurate"
    assert data["saturation"]["max_rps"] == 12.3456
    assert data["levels"][3]["point"] is None
    interrupted = run_data(summary(stop=None))
    assert (interrupted["complete"], interrupted["stopped_because"]) == (False, "interrupted")


def follow(terminal: bool, quiet: bool = False) -> str:
    out = io.StringIO()
    console = Console(
        file=out,
        width=80,
        force_terminal=terminal,
        markup=False,
        highlight=False,
        _environ={"TERM": "xterm"},
    )
    step = measured("closed", 8).step
    with RunProgress(console, 1800.0, 2, quiet) as progress:
        state = EngineState("vllm", 123_456, 0.0, 0.0, 0.0, 0.0)
        progress.probed(Probed(Calibration(), state, 1.0, ("the server takes no ignore_eos",)))
        progress.started(Next(step, "looking for saturation", 60.0, 7), 2, 300.0)
        progress.finished(measured("closed", 8), ("[red] is no markup",))
    return out.getvalue()


def test_a_log_gets_lines():
    lines = follow(terminal=False).splitlines()
    assert lines[0] == "going on after 2 levels of an earlier call"
    assert lines[1] == "engine vllm, KV cache of 123,456 tokens"
    assert lines[2] == "note: the server takes no ignore_eos"
    assert lines[3].startswith(
        "8 in flight, 3500 in, 1024 out: 12,642 tokens/s +-1.2%, TTFT 123 ms"
    )
    assert lines[4] == "  note: [red] is no markup"


def test_a_level_without_latencies_shows_none():
    out = io.StringIO()
    bare = measured("open", 9.0)
    gone = {"ttft_mean_ms": None, "tpot_mean_ms": None}
    with RunProgress(make_console(out, width=80), 60.0, 0) as progress:
        progress.finished(Measured(bare.level, bare.point.model_copy(update=gone)), ())
    assert out.getvalue() == "9 requests/s, 3500 in, 1024 out: 12,642 tokens/s +-1.2%\n"


def test_a_terminal_gets_whole_words():
    text = follow(terminal=True)
    assert "TTFT 123 ms," in text and "[red] is no markup" in text


def test_a_terminal_sees_the_time_left():
    text = follow(terminal=True)
    assert "25:00 left, 7 levels" in text and "looking for saturation" in text


@pytest.mark.parametrize("terminal", [True, False])
def test_quiet_is_quiet(terminal):
    assert follow(terminal, quiet=True) == ""


def test_times():
    assert [time_words(s) for s in (0, 59.6, 61, 3600)] == ["0:00", "1:00", "1:01", "60:00"]
