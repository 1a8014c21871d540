"""The engine of a fitted pool: its steps are those of the law, its limits those of the pool."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_cases import HOSTED, OWN, case_of, hosted_objectives, small

from planner.latency.capacity import CapacityLaw
from planner.latency.memory import Memory
from planner.latency.model import LatencyModel
from planner.latency.moments import MixMoments
from planner.simulate.barrier import Group
from planner.simulate.engines import BLOCK_TOKENS, engine_of, request_ps, step_times
from planner.simulate.hosted import HostedSettings
from planner.simulate.replica import Replica
from planner.simulate.settings import EngineSettings, Times, Tokens
from planner.simulate.units import PS_PER_MS

MANY = 1e12  # output tokens of an answer of which practically every step decodes


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LatencyModel]:
    """Returns the fitted pools of the small question by name."""
    case = case_of(tmp_path_factory.mktemp("engines"), small())
    return {model.profile.name: model for model in case.models}


def changed(model: LatencyModel, **update: object) -> LatencyModel:
    """Returns a fitted pool some of whose settings are others."""
    pool = model.profile.pool.model_copy(update=update)
    return replace(model, profile=replace(model.profile, pool=pool))


def engine(model: LatencyModel) -> EngineSettings:
    found = engine_of(model)
    assert isinstance(found, EngineSettings)
    return found


@pytest.mark.parametrize("pool", OWN)
@pytest.mark.parametrize("n", [1, 2, 7, 32, 100, 511, 512])
@pytest.mark.parametrize("context_tokens", [0.0, 137.0, 4096.0])
def test_a_decode_step_takes_what_the_law_says(
    fitted: dict[str, LatencyModel], pool: str, n: int, context_tokens: float
) -> None:
    model, steps = fitted[pool], engine(fitted[pool]).steps
    assert model.law is not None
    mix = MixMoments(0.0, 0.0, MANY, 0.0, context_tokens)
    law_ms = float(model.law.decode_ms(np.array([float(n)]), mix)[0])
    found_ps = steps.decode_ps[n] + steps.context_ps[n] * n * context_tokens
    # The times are whole picoseconds; the one per token of context counts n k times.
    rounding_ps = 1.0 + 0.5 * n * context_tokens
    assert abs(found_ps - law_ms * PS_PER_MS) <= rounding_ps
    assert rounding_ps < 1e-4 * found_ps


@pytest.mark.parametrize("pool", OWN)
def test_a_prefill_takes_what_the_law_says(fitted: dict[str, LatencyModel], pool: str) -> None:
    law = fitted[pool].law
    assert law is not None
    steps = engine(fitted[pool]).steps
    assert steps.prompt_token_ps == pytest.approx(law.prompt_token_ms * PS_PER_MS, abs=1.0)
    # R of a single sequence, and nothing per sequence.
    alone = float(law.residual_ratio(np.ones(1))[0])
    assert steps.decode_ps[0] == pytest.approx(alone * law.step_ms * PS_PER_MS, abs=1.0)
    assert steps.attention_ps == 0
    assert request_ps(fitted[pool]) == round(law.request_ms * PS_PER_MS)


def test_the_limits_of_the_engine_are_those_of_the_pool(fitted: dict[str, LatencyModel]) -> None:
    model = fitted[OWN[0]]
    found = engine(model)
    assert found.max_num_seqs == model.max_num_seqs
    assert len(found.steps.decode_ps) == model.max_num_seqs + 1
    assert found.max_num_batched_tokens == model.profile.pool.max_num_batched_tokens
    assert found.prefill == "chunked"
    assert found.n_ranks == 1
    assert found.lag_steps == 0


@pytest.mark.parametrize(
    ("stated", "found"), [(None, 8192), (2048, 2048), (100, 512)], ids=["none", "2048", "too few"]
)
def test_a_step_has_room_for_a_token_of_every_sequence(
    fitted: dict[str, LatencyModel], stated: int | None, found: int
) -> None:
    model = changed(fitted[OWN[0]], max_num_batched_tokens=stated)
    assert engine(model).max_num_batched_tokens == found


@pytest.mark.parametrize(
    ("tokens", "n_blocks"), [(1000.0, 62), (1007.9, 62), (1008.0, 63), (3.0, 1)]
)
def test_the_cache_is_whole_blocks_of_the_memory(
    fitted: dict[str, LatencyModel], tokens: float, n_blocks: int
) -> None:
    model = replace(fitted[OWN[0]], memory=Memory(0.0, tokens, True))
    assert engine(model).kv_blocks == n_blocks
    assert engine(model).block_tokens == BLOCK_TOKENS == 16


def test_a_cache_that_nothing_bounds_never_fills(fitted: dict[str, LatencyModel]) -> None:
    model = replace(fitted[OWN[0]], memory=Memory(0.0, float("inf"), True))
    assert engine(model).kv_blocks >= 10**12


@pytest.mark.parametrize(
    ("name", "prefill"),
    [("tgi", "pausing"), ("TGI", "pausing"), ("vllm", "chunked"), (None, "chunked")],
)
def test_tgi_pauses_decoding_for_prefills(
    fitted: dict[str, LatencyModel], name: str | None, prefill: str
) -> None:
    assert engine(changed(fitted[OWN[0]], engine=name)).prefill == prefill


# ---- Data parallelism ----------------------------------------------------------------------------


@pytest.mark.parametrize("n_ranks", [2, 4])
def test_ranks_share_the_places_and_the_cache(
    fitted: dict[str, LatencyModel], n_ranks: int
) -> None:
    model = replace(fitted[OWN[0]], memory=Memory(0.0, 64_000.0, True))
    found = engine(changed(model, data_parallel=n_ranks))
    assert found.n_ranks == n_ranks
    assert found.max_num_seqs == 512 // n_ranks
    assert found.kv_blocks == 4000 // n_ranks


@pytest.mark.parametrize("n_ranks", [2, 4])
@pytest.mark.parametrize("n_requests", [4, 16, 64])
def test_evenly_loaded_ranks_take_what_the_law_says_of_the_whole(
    fitted: dict[str, LatencyModel], n_ranks: int, n_requests: int
) -> None:
    model = fitted[OWN[0]]
    whole, parts = engine(model), engine(changed(model, data_parallel=n_ranks))
    ends = []
    for settings, kind in ((whole, Replica), (parts, Group)):
        tokens = Tokens([100] * n_requests, [100] * n_requests, [40] * n_requests)
        times = Times.none_yet(n_requests)
        replica = kind(settings, tokens, times)
        for i in range(n_requests):
            assert replica.submit(i, 0)
        replica.drain()
        assert len(set(times.done_ps)) == 1  # all in step, so the ranks are evenly loaded
        ends.append((times.first_ps[0], times.done_ps[0]))
    assert ends[1] == pytest.approx(ends[0], rel=1e-5)


def test_the_steps_of_a_rank_are_those_of_all_ranks(fitted: dict[str, LatencyModel]) -> None:
    law = fitted[OWN[0]].law
    assert law is not None
    one, four = step_times(law, 64), step_times(law, 16, 4)
    assert four.decode_ps == one.decode_ps[::4]
    for alone, all_ranks in zip(four.context_ps[1:], one.context_ps[4::4], strict=True):
        assert alone == pytest.approx(4 * all_ranks, abs=2.5)
    assert four.prompt_token_ps == pytest.approx(4 * one.prompt_token_ps, abs=2.5)


# ---- Pools without a step law --------------------------------------------------------------------


def test_a_hosted_pool_is_a_delay(tmp_path: Path) -> None:
    case = hosted_objectives(tmp_path).case
    model = next(m for m in case.models if m.profile.name == HOSTED)
    unknown = engine_of(model)
    assert unknown == HostedSettings(None, None)
    assert unknown.is_untimed
    assert request_ps(model) == 0
    known = replace(model, capacity=CapacityLaw.hosted(50.0, 320.0, 11.0))
    assert engine_of(known) == HostedSettings(320.0, 11.0)
    assert not HostedSettings(320.0, 11.0).is_untimed
    assert HostedSettings(320.0, None).is_untimed


def test_a_pool_of_which_only_the_capacity_is_known_has_no_time(
    fitted: dict[str, LatencyModel],
) -> None:
    model = replace(fitted[OWN[0]], law=None, capacity=CapacityLaw(0.0, 1e-5, 1e-3))
    assert engine_of(model) == HostedSettings(None, None)
    assert request_ps(model) == 0
