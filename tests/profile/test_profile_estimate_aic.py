"""AIConfigurator as a source: with a made-up session, and with the real one where it is there."""

import importlib.metadata

import pytest
from estimate_cases import GPUS, MODELS, point, pool

from planner.errors import InputError, MissingExtra
from planner.profile import aic
from planner.profile.aic import ClosedLoop, estimate_with, matching_model, open_session
from planner.profile.estimate import Shape
from planner.spec.hardware import ModelFacts

ASKED = Shape(512, 256)


class FakeSession:
    """Answers by a formula; knows no more than `most` requests at once."""

    source = "a session"

    def __init__(self, most: int = 10**6) -> None:
        self.most = most
        self.asked: list[tuple[Shape, int]] = []

    def closed_loop(self, shape: Shape, n: int) -> ClosedLoop | None:
        self.asked.append((shape, n))
        if n > self.most:
            return None
        ttft_ms, tpot_ms = 20.0 + shape.input_tokens / 50.0, 10.0 + n
        return ClosedLoop(ttft_ms, tpot_ms, ttft_ms + (shape.output_tokens - 1) * tpot_ms)


def test_the_sessions_figures_are_written_as_they_are():
    session = FakeSession()
    found = estimate_with(session, pool("small", "mid"), GPUS["mid"], MODELS["small"], ASKED)
    assert [n for shape, n in session.asked if shape == ASKED] == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    eight = next(p for p in found.points if p.concurrency == 8 and p.input_tokens == 512)
    assert (eight.ttft_mean_ms, eight.tpot_mean_ms) == (30.24, 18.0)
    assert eight.e2e_mean_ms == pytest.approx(30.24 + 255 * 18.0, rel=1e-4)
    assert eight.output_tokens_per_s == pytest.approx(
        1000.0 * 8 * 256 / eight.e2e_mean_ms, rel=1e-4
    )
    assert {p.origin for p in found.points} == {"estimated"} and eight.source == "a session"
    assert found.pool.error_ratio == aic.ERROR_RATIO and "a session" in found.pool.source


def test_loads_that_do_not_fit_are_left_out():
    card, facts = GPUS["mid"], MODELS["small"]
    found = estimate_with(FakeSession(16), pool("small", "mid"), card, facts, ASKED)
    assert max(p.concurrency for p in found.points) == 16
    with pytest.raises(InputError, match="no load fits"):
        estimate_with(FakeSession(0), pool("small", "mid"), card, facts, ASKED)


def test_measured_rows_are_kept():
    wanted = pool("small", "mid")
    own = (point(wanted, 8),)
    found = estimate_with(FakeSession(), wanted, GPUS["mid"], MODELS["small"], ASKED, own)
    assert found.points[0] == own[0]


def test_without_the_extra_the_line_to_install_is_told(monkeypatch):
    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    with pytest.raises(MissingExtra, match=r"rb-planner\[aic\]"):
        open_session(pool("small", "mid"), MODELS["small"])
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.13.0")
    with pytest.raises(MissingExtra):
        open_session(pool("small", "mid"), MODELS["small"])


def test_what_it_has_no_tables_of_is_refused_all_at_once(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: aic.VERSION)
    wanted = pool("small", "mid", engine="llama.cpp", weight_precision="gptq", data_parallel=2)
    with pytest.raises(InputError) as caught:
        open_session(wanted, MODELS["small"])
    fields = [fault.field for fault in caught.value.faults]
    assert fields == ["--gpu", "--engine", "--weight-precision", "data_parallel"]


def test_a_model_is_found_by_its_name_without_its_maker():
    known = ["meta-llama/Meta-Llama-3.1-70B", "Qwen/Qwen3-32B", "Qwen/Qwen3-32B-FP8"]
    assert matching_model("llama-3.1-70b", known) == known[0]
    assert matching_model("qwen3-32b", known) == known[1]
    with pytest.raises(InputError, match=r"did you mean|known:"):
        matching_model("llama-9-1t", known)


def test_the_real_session_agrees_with_a_measured_curve():
    """70B on four H100: ML.ENERGY measured 470, 2,511 and 4,915 tokens/s at 8, 64 and 255."""
    pytest.importorskip("aiconfigurator")
    facts = ModelFacts(
        name="llama-3.1-70b",
        n_parameters=70.6e9,
        n_active_parameters=70.6e9,
        n_layers=80,
        hidden_size=8192,
        n_heads=64,
        n_kv_heads=8,
        head_dim=128,
        bytes_per_parameter=2,
        max_context_tokens=131072,
        source="config.json",
    )
    wanted = pool("llama-3.1-70b", "h100-sxm-80g", 4)
    session = open_session(wanted, facts)
    assert aic.VERSION in session.source
    for n, measured in ((8, 469.7), (64, 2510.5), (255, 4915.1)):
        found = session.closed_loop(Shape(300, 350), n)
        assert found is not None
        assert 1000.0 * n * 350 / found.e2e_ms == pytest.approx(measured, rel=0.3)
