"""Estimates of unmeasured pools: what is written, that it is consistent, and what is refused."""

from itertools import pairwise

import numpy as np
import pytest
from estimate_cases import (
    GPUS,
    LOADS,
    MODELS,
    SHAPE,
    gpu,
    model,
    point,
    pool,
    profile,
    true_token_ms,
    world,
)
from hypothesis import given
from hypothesis import strategies as st

from planner.errors import InputError
from planner.latency.fit import fit
from planner.latency.memory import Memory
from planner.latency.predict import Condition, figures
from planner.profile.estimate import (
    Shape,
    check_fits,
    doubling_loads,
    estimate,
    settled_pool,
    shapes_of,
)
from planner.profile.formats.own_csv import render
from planner.spec.pool import HostedPrice, Pool, PoolSettings, Profile

ASKED = Shape(*SHAPE)


def estimated(of, others=None, shape=ASKED, own=(), facts=None, card=None):
    known = world() if others is None else others
    return estimate(
        of, card or GPUS[str(of.gpu)], facts or MODELS[of.model_name], known, shape, own
    )


def test_an_estimate_is_near_the_truth_and_says_what_it_is():
    wanted = pool("middle", "mid", 2)
    found = estimated(wanted)
    for p in found.points:
        truth = true_token_ms(wanted, p.concurrency, (p.input_tokens, p.output_tokens))
        assert 1000.0 * p.concurrency / p.output_tokens_per_s == pytest.approx(truth, rel=0.1)
    assert {p.origin for p in found.points} == {"estimated"} == {found.pool.origin}
    assert found.pool.error_ratio == pytest.approx(found.band.ratio, abs=0.005)
    assert "ESTIMATED" in found.pool.source and "within a factor of" in found.pool.source
    assert "17 measured pools" in found.points[0].source  # it is itself one of the 18


def test_the_source_of_measured_rows_outlives_every_estimate():
    """pool.yaml has one source: the estimate's, and after it that of the rows that were there."""
    wanted = pool("middle", "mid", 2).model_copy(update={"source": "by hand"})
    own = [point(wanted, 8.0)]
    once = estimated(wanted, own=own)
    twice = estimated(once.pool, own=own)
    assert once.pool.source.endswith(" Measured rows: by hand")
    assert twice.pool.source == once.pool.source
    assert "corrected at 1 measured load of this one" in once.points[-1].source
    assert "by hand" not in estimated(wanted).pool.source


@given(
    prompt=st.floats(1, 8000),
    output=st.floats(2, 2000),
    name=st.sampled_from(sorted(MODELS)),
    parallel=st.sampled_from([1, 2, 4, 8]),
)
def test_every_point_obeys_littles_law_and_the_definition_of_tpot(prompt, output, name, parallel):
    found = estimated(pool(name, "new", parallel), world()[:3], Shape(prompt, output))
    assert found.points
    for p in found.points:
        assert p.achieved_rps * p.e2e_mean_ms == pytest.approx(1000.0 * p.concurrency, rel=1e-4)
        rate = p.achieved_rps * p.output_tokens
        assert p.output_tokens_per_s == pytest.approx(rate, rel=1e-4)
        assert 0 < p.ttft_mean_ms <= p.e2e_mean_ms
        if p.tpot_mean_ms is not None:
            total = p.ttft_mean_ms + (p.output_tokens - 1.0) * p.tpot_mean_ms
            assert total == pytest.approx(p.e2e_mean_ms, rel=1e-3)


def test_more_load_is_never_faster_per_request():
    rows = estimated(pool("large", "new", 4)).points
    for shape in (ASKED, Shape(4.0 * SHAPE[0], SHAPE[1])):
        one = [p for p in rows if p.input_tokens == shape.input_tokens]
        assert len(one) >= 5
        for a, b in pairwise(one):
            assert a.e2e_mean_ms <= b.e2e_mean_ms
            assert a.output_tokens_per_s <= b.output_tokens_per_s


def test_the_latency_model_of_an_estimate_says_what_the_estimate_says():
    found = estimated(pool("middle", "mid", 4))
    made = fit(Profile(found.pool, GPUS["mid"], MODELS["middle"], found.points))
    for p in found.points:
        said = figures(made, Condition("closed", p.input_tokens, p.output_tokens, p.concurrency))
        assert said["output_tokens_per_s"].value == pytest.approx(p.output_tokens_per_s, rel=0.05)
    assert made.bands.origin["tpot"] == "estimated"
    assert made.bands.ratio["tpot"] >= found.pool.error_ratio


def test_the_band_of_an_estimate_is_that_of_its_figures_until_all_is_measured():
    wanted = pool("small", "mid", error_ratio=0.8)
    measured = profile(wanted)
    guessed = tuple(p.model_copy(update={"origin": "estimated"}) for p in measured.points)
    told = Profile(wanted, measured.gpu, measured.facts, guessed)
    at = Condition("closed", *SHAPE, 16.0)
    wide, narrow = (figures(fit(each), at)["output_tokens_per_s"] for each in (told, measured))
    assert wide.high / wide.value == pytest.approx(1.8) and narrow.high / narrow.value < 1.5


def test_measured_loads_are_kept_and_the_rest_is_drawn_through_them():
    wanted = pool("small", "mid", 4)
    own = tuple(point(wanted, n, SHAPE, 1.5) for n in (1, 8, 64))
    alone, probed = estimated(wanted), estimated(wanted, own=own)
    assert probed.points[:3] == own
    here = {p.concurrency: p for p in probed.points if p.input_tokens == SHAPE[0]}
    assert set(here) >= {1.0, 8.0, 64.0} and len(here) == len({*here})
    for n in (2, 4, 16, 32):
        truth = 1.5 * true_token_ms(wanted, n)
        assert 1000.0 * n / here[n].output_tokens_per_s == pytest.approx(truth, rel=0.05)
    assert probed.band.ratio < alone.band.ratio
    assert "3 measured loads of this pool" in probed.pool.source
    assert probed.pool.origin == "estimated"


def test_a_second_estimate_replaces_the_first_and_keeps_what_was_measured():
    wanted = pool("small", "mid", 4)
    own = (point(wanted, 8),)
    first = estimated(wanted, own=own)
    assert estimated(wanted, own=first.points) == first


def test_other_engines_and_the_order_of_pools_change_nothing():
    wanted = pool("small", "mid", 4)
    others = world()
    stranger = [profile(p.pool, ratio=3.0) for p in world(engine="tgi")]
    found = estimated(wanted, others)
    mixed = estimated(wanted, [*stranger, *others[::-1]])
    assert render(found.points) == render(mixed.points) and found.pool == mixed.pool


def test_versions_and_spellings_of_an_engine_are_one_family():
    others = world(engine="TensorRT-LLM", engine_version="0.11.0")
    found = estimated(pool("small", "mid", 4, engine="tensorrt_llm"), others)
    assert "18 measured pools" in found.points[0].source


def test_an_unmeasured_gpu_gives_a_range():
    found = estimated(pool("small", "odd"), card=gpu("odd"))
    assert found.band.lack == "gpu" and found.pool.error_ratio >= 0.7
    assert "A RANGE, not a point: no odd was measured" in found.pool.source


def test_without_any_measured_pool_data_sheets_answer_and_say_so():
    found = estimated(pool("small", "mid"), [])
    assert found.pool.error_ratio >= 1.0
    assert any("data sheets alone" in note for note in found.notes)


def test_no_load_lies_beyond_a_doubling_of_what_was_measured():
    loads = {p.concurrency for p in estimated(pool("small", "mid", 4)).points}
    assert max(loads) == 2 * max(LOADS)
    few = {p.concurrency for p in estimated(pool("small", "mid", 4, max_num_seqs=24)).points}
    assert few == {1.0, 2.0, 4.0, 8.0, 16.0, 24.0}


def test_requests_fit_into_the_cache_together():
    wanted = pool("large", "mid", 1)
    found = estimated(wanted)
    room = Memory.of(Profile(wanted, GPUS["mid"], MODELS["large"])).kv_capacity_tokens
    for p in found.points:
        used = p.concurrency * (p.input_tokens + p.output_tokens)
        assert used <= room or p.concurrency == 1.0
    by_prompt = {}
    for p in found.points:
        by_prompt[p.input_tokens] = max(by_prompt.get(p.input_tokens, 0), p.concurrency)
    assert by_prompt[2048.0] < by_prompt[512.0]


def test_loads_double_up_to_the_most():
    assert doubling_loads(1) == [1]
    assert doubling_loads(8) == [1, 2, 4, 8]
    assert doubling_loads(11) == [1, 2, 4, 8, 11]


def test_the_longer_shape_stays_within_the_models_context():
    facts = MODELS["small"]
    assert shapes_of(Shape(512, 256), facts) == [Shape(512, 256), Shape(2048, 256)]
    longest = facts.max_context_tokens - 256
    assert shapes_of(Shape(8000, 256), facts) == [Shape(8000, 256), Shape(longest, 256)]
    assert shapes_of(Shape(longest, 256), facts) == [Shape(longest, 256)]


# ---- What is refused -----------------------------------------------------------------------------


def fault_of(*arguments):
    with pytest.raises(InputError) as caught:
        check_fits(*arguments)
    return caught.value.faults


def test_weights_that_do_not_fit_name_the_gpus_that_would_do():
    big = model("big", 140.0, 96)
    (fault,) = fault_of(pool("big", "mid"), GPUS["mid"], big, ASKED)
    assert "does not fit" in fault.what and fault.fix == "give --tensor-parallel 4"
    (fault,) = fault_of(pool("big", "mid", 8), GPUS["mid"], model("big", 500.0, 96), ASKED)
    assert "larger GPU" in fault.fix


def test_a_request_that_does_not_fit_beside_the_weights_is_refused():
    tight = gpu("tight", gib=19.0)
    (fault,) = fault_of(pool("small", "tight"), tight, MODELS["small"], Shape(15000, 1000))
    assert "not one request of 16000" in fault.what


def test_all_faults_of_the_settings_come_at_once():
    faults = fault_of(pool("small", "mid", 12), GPUS["mid"], MODELS["small"], Shape(20000, 9))
    assert [f.field for f in faults] == [
        "--tensor-parallel",
        "--tensor-parallel",
        "--input-tokens",
    ]


def test_measured_rows_of_another_setting_are_not_drawn_through():
    there = pool("small", "mid", 2, weight_precision="fp8")
    said = PoolSettings(
        name=there.name, model_name="large", gpu="mid", tensor_parallel=4, weight_precision="fp8"
    )
    with pytest.raises(InputError) as caught:
        settled_pool(said, there, [point(there, 4)])
    assert [f.field for f in caught.value.faults] == ["--model", "--tensor-parallel"]
    settled = settled_pool(said, there, [])
    assert (settled.model_name, settled.tensor_parallel) == ("large", 4)
    assert settled.weight_precision == "fp8"


def test_a_hosted_api_is_not_estimated():
    there = Pool(
        name="api",
        model_name="small",
        price=HostedPrice(usd_per_million_input_tokens=1.0, usd_per_million_output_tokens=2.0),
        max_rps=5.0,
        source="its price list",
    )
    with pytest.raises(InputError, match="hosted API"):
        settled_pool(PoolSettings(name="api", model_name="small", gpu="mid"), there, ())


def test_a_new_pool_is_one_of_vllm_unless_said():
    said = PoolSettings(name="p", model_name="small", gpu="mid")
    assert settled_pool(said, None, ()).engine == "vllm"
    other = PoolSettings(name="p", model_name="small", gpu="mid", engine="sglang")
    assert settled_pool(other, None, ()).engine == "sglang"


def test_pipeline_stages_share_the_sequences_and_not_the_weights_time():
    one, two = pool("small", "mid"), pool("small", "mid", pipeline_parallel=2)
    light, staged = (estimated(p).points[0].tpot_mean_ms for p in (one, two))
    assert staged == pytest.approx(light, rel=0.5) and staged > 0.9 * light
    full, spread = (estimated(p).points[7].output_tokens_per_s for p in (one, two))
    assert np.log(spread / full) > 0
    assert any("pipeline stages" in note for note in estimated(two).notes)
