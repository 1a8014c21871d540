from __future__ import annotations

import json
from dataclasses import replace

import pytest
from made_fleets import demo_inputs, demo_source, settings, with_pool

from planner.errors import InputError
from planner.export.fleet import MILLION
from planner.export.fleet_of import Source, fleet_of
from planner.export.profile_facts import max_model_len
from planner.files.plans import plan_hash, routes_of
from planner.latency.memory import (
    ACTIVATION_GIB,
    GIB,
    USABLE_RATIO,
    kv_bytes_per_token_and_gpu,
    weights_gib_per_gpu,
)
from planner.spec.endpoints import Server
from planner.spec.export import ExportSettings
from planner.spec.plan import (
    CascadeRoute,
    DeployedPool,
    PeriodPlan,
    PeriodsPlan,
    PlacedReplica,
    Plan,
)
from planner.spec.pool import GpuShare, Pool, Profile

Deployed = tuple[DeployedPool, ...]
BIG, WIDE, SMALL = "llama-3.1-70b-h100-tp4", "llama-3.1-70b-b200-tp2", "llama-3.1-8b-h100"


def with_day(plan: Plan) -> Plan:
    """The demo's plan as the day of a plan with a night of one replica less."""
    night = tuple(
        d.model_copy(update={"replicas": 1, "n_gpus": 4.0}) if d.pool == BIG else d
        for d in plan.deployment
    )

    def period(name: str, start_h: int, end_h: int, deployed: Deployed) -> PeriodPlan:
        return PeriodPlan(
            name=name,
            start_h=start_h,
            end_h=end_h,
            n_changes=1,
            paid_usd_per_h=40.0,
            deployment=deployed,
            routing=plan.routing,
            prices=plan.prices,
            predicted=plan.predicted,
        )

    each = (period("night", 0, 8, night), period("day", 8, 24, plan.deployment))
    periods = PeriodsPlan(
        n_hours=24,
        repeats=True,
        usd_per_replica_change=0.0,
        total_usd=1.0,
        reserved_usd=0.0,
        by_the_hour_usd=1.0,
        hosted_usd=0.0,
        changes_usd=0.0,
        cost_usd_per_h=44.0,
        reserved=(),
        bound=None,
        busiest="day",
        each=each,
    )
    return plan.model_copy(update={"periods": periods})


def test_every_deployed_pool_is_an_engine_as_the_profile_measured_it():
    source = demo_source()
    fleet = fleet_of(source)
    assert [(e.pool, e.replicas) for e in fleet.engines] == [
        (d.pool, d.replicas) for d in source.plan.deployment
    ]
    for engine in fleet.engines:
        pool = source.profiles[engine.pool].pool
        assert engine.tensor_parallel == pool.tensor_parallel
        assert engine.max_num_seqs == pool.max_num_seqs
        assert engine.max_num_batched_tokens == pool.max_num_batched_tokens
        assert engine.gpus_per_replica == pool.tensor_parallel
        assert engine.image == "vllm/vllm-openai:v0.11.1"  # the version that was measured
    assert fleet.plan_hash == plan_hash(source.plan)
    assert fleet.cost_usd_per_h == source.plan.predicted.cost_usd_per_h
    assert fleet.notes == ()


def test_shares_are_the_plan_s_in_whole_millionths():
    source = demo_source()
    fleet = fleet_of(source)
    told = {(r.class_name, pool): n for r in fleet.routes for pool, n in r.shares}
    assert told == {(r.class_name, r.pool): round(r.share * MILLION) for r in source.plan.routing}
    assert all(sum(n for _, n in route.shares) == MILLION for route in fleet.routes)
    for route in fleet.routes:
        assert [n for _, n in route.shares] == sorted((n for _, n in route.shares), reverse=True)
        assert route.fallback == routes_of(source.plan).fallback[route.class_name]


def test_a_share_of_nothing_is_no_route():
    source = demo_source()
    (crux,) = [r for r in source.plan.routing if r.class_name == "crux"]
    nothing = crux.model_copy(update={"pool": SMALL, "share": 0.0})
    plan = source.plan.model_copy(update={"routing": (*source.plan.routing, nothing)})
    route = next(r for r in fleet_of(replace(source, plan=plan)).routes if r.class_name == "crux")
    assert route.shares == ((WIDE, MILLION),)


def test_a_fallback_is_no_pool_that_the_class_may_not_use():
    source = demo_source()
    sheet = source.sheet
    assert sheet is not None
    crux = sheet.classes["crux"]
    fewer = {name: a for name, a in crux.answers.items() if name != SMALL}
    narrowed = crux.model_copy(update={"answers": fewer})
    sheet = sheet.model_copy(update={"classes": {**sheet.classes, "crux": narrowed}})
    fleet = fleet_of(replace(source, sheet=sheet))
    by_class = {r.class_name: r.fallback for r in fleet.routes}
    assert by_class["crux"] == (WIDE, BIG)
    assert SMALL in by_class["gsm"]
    for pool, ratio in ((SMALL, 0.0), (BIG, 0.4)):  # what may never come there counts for nothing
        engine = fleet_of(with_cache(replace(source, sheet=sheet), "crux")).engine(pool)
        assert engine is not None and engine.cached_input_ratio == ratio
        assert engine.served_aliases == ("gsm", "crux", "math-l5")  # other shares restart nothing


def test_what_export_yaml_does_not_say_is_guessed_and_told():
    fleet = fleet_of(demo_source(ExportSettings()))
    assert all(e.weights == e.model_name for e in fleet.engines)
    assert len(fleet.notes) == 2 and all("weights of llama-3.1" in note for note in fleet.notes)


def test_a_pool_s_own_settings_win_over_its_model_s():
    own = {
        "weights": "org/70b-fp8",
        "revision": "v2",
        "quantization": "fp8",
        "max_model_len": 8192,
        "gpu_memory_ratio": 0.8,
        "extra_args": ["--enforce-eager"],
        "env": {"A": "b"},
        "node_selector": {"rack": "7"},
    }
    fleet = fleet_of(demo_source(settings(pools={BIG: own})))
    big, wide = fleet.engine(BIG), fleet.engine(WIDE)
    assert big is not None and wide is not None
    assert (big.weights, big.revision, big.quantization) == ("org/70b-fp8", "v2", "fp8")
    assert (big.max_model_len, big.gpu_memory_ratio) == (8192, 0.8)
    assert (big.extra_args, big.env, big.node_selector) == (
        ("--enforce-eager",), {"A": "b"}, {"rack": "7"},
    )  # fmt: skip
    assert (wide.weights, wide.revision) == ("meta-llama/Llama-3.1-70B-Instruct", "main")


def test_a_revision_of_the_model_is_none_of_the_pool_s_own_weights():
    fleet = fleet_of(demo_source(settings(pools={BIG: {"weights": "org/other"}})))
    big = fleet.engine(BIG)
    assert big is not None and big.revision is None


# ---- Engines -------------------------------------------------------------------------------------


def test_an_engine_that_cannot_be_started_becomes_vllm_and_is_told():
    source = with_pool(demo_source(), BIG, engine="tensorrt-llm", engine_version="0.11.0")
    fleet = fleet_of(source)
    big = fleet.engine(BIG)
    assert big is not None and big.engine == "vllm" and big.image == "vllm/vllm-openai:v0.32.0"
    assert big.measured_with == "tensorrt-llm 0.11.0"
    (note,) = fleet.notes
    assert note.startswith(f"{BIG} was measured with tensorrt-llm 0.11.0, and is started with vllm")


def test_a_pool_measured_with_sglang_is_started_with_that_version_of_it():
    fleet = fleet_of(with_pool(demo_source(), BIG, engine="sglang", engine_version="0.5.3"))
    big = fleet.engine(BIG)
    assert big is not None
    assert (big.engine, big.image) == ("sglang", "lmsysorg/sglang:v0.5.3")
    assert fleet.notes == ()


def test_a_target_that_is_an_engine_starts_every_pool():
    fleet = fleet_of(demo_source(), engine="sglang")
    assert {e.engine for e in fleet.engines} == {"sglang"}
    assert sum("is started with sglang" in note for note in fleet.notes) == 3


def test_a_named_image_wins_over_the_measured_version():
    fleet = fleet_of(demo_source(settings(images={"vllm": "registry.local/vllm@sha256:00"})))
    assert {e.image for e in fleet.engines} == {"registry.local/vllm@sha256:00"}
    own = {BIG: {"image": "mine:1"}}
    big = fleet_of(demo_source(settings(pools=own))).engine(BIG)
    assert big is not None and big.image == "mine:1"
    # An image that was named for one engine holds no other.
    for named, image in (({}, "mine:1"), ({"engine": "vllm"}, "lmsysorg/sglang:v0.5.23")):
        said = settings(pools={BIG: {"image": "mine:1", **named}})
        big = fleet_of(demo_source(said), engine="sglang").engine(BIG)
        assert big is not None and big.image == image


def test_places_of_a_profile_are_divided_over_its_ranks():
    """pool.yaml counts those of a replica, --max-num-seqs those of one rank."""
    source = with_pool(demo_source(), BIG, tensor_parallel=2, data_parallel=2, max_num_seqs=513)
    big = fleet_of(source).engine(BIG)
    assert big is not None
    assert (big.max_num_seqs, big.gpus_per_replica, big.data_parallel) == (257, 4, 2)


def test_a_machine_is_as_large_as_the_profile_says():
    source = demo_source()
    profile = source.profiles[BIG]
    assert profile.gpu is not None
    gpu = profile.gpu.model_copy(update={"gpus_per_node": 4, "memory_gib": 96.0})
    for known, size, memory_gib in ((gpu, 4, 96.0), (None, 8, 80.0)):
        profiles = {**source.profiles, BIG: replace(profile, gpu=known)}
        big = fleet_of(replace(source, profiles=profiles)).engine(BIG)
        assert big is not None and (big.gpus_per_node, big.gpu_memory_gib) == (size, memory_gib)


def test_a_shared_gpu_is_taken_in_part():
    share = GpuShare(compute_ratio=0.5, memory_gib=40.0).model_dump()
    source = with_pool(demo_source(), SMALL, share=share)
    placed = (PlacedReplica(pool=SMALL, replica=1, gpus=(8,)),)
    source = replace(source, plan=source.plan.model_copy(update={"placement": placed}))
    small = fleet_of(source).engine(SMALL)
    assert small is not None
    assert small.gpu_compute_ratio == 0.5
    assert small.gpu_memory_ratio == pytest.approx(0.9 * 40 / small.gpu_memory_gib, abs=1e-4)
    assert small.placement == ((8,),)


def test_weights_in_fp8_must_be_named_for_their_pool():
    source = with_pool(demo_source(), BIG, weight_precision="fp8")
    assert any(f"{BIG} was measured with weights in fp8" in n for n in fleet_of(source).notes)
    named = replace(source, settings=settings(pools={BIG: {"weights": "org/70b-fp8"}}))
    assert fleet_of(named).notes == ()


def test_a_cache_in_a_precision_that_no_flag_says_is_told():
    for precision, is_told in (("fp8", False), ("bfloat16", False), ("int8", True)):
        notes = fleet_of(with_pool(demo_source(), BIG, kv_precision=precision)).notes
        told = f"{BIG} was measured with a KV cache in {precision}, and gets the engine's default"
        assert any(note.startswith(told) for note in notes) == is_told
    said = settings(pools={BIG: {"extra_args": ["--kv-cache-dtype", "int8_per_token_head"]}})
    source = with_pool(demo_source(said), BIG, kv_precision="int8")
    assert not any("KV cache" in note for note in fleet_of(source).notes)


def test_further_words_for_one_engine_are_not_told_to_another():
    for engine, kept in (("vllm", False), ("sglang", True), (None, True)):
        own = {"extra_args": ["--enforce-eager"], **({"engine": engine} if engine else {})}
        fleet = fleet_of(demo_source(settings(pools={BIG: own})), engine="sglang")
        big = fleet.engine(BIG)
        assert big is not None and big.extra_args == (("--enforce-eager",) if kept else ())
        said = f"extra_args of {BIG} are for vllm, sglang gets none of them"
        assert (said in fleet.notes) != kept


def test_a_patience_grows_with_the_weights():
    fleet = fleet_of(demo_source())
    big, small = fleet.engine(BIG), fleet.engine(SMALL)
    assert big is not None and small is not None
    assert small.startup_s == 360  # 300 s, 15 GiB at 4 s, whole minutes
    assert big.startup_s == 840
    assert big.shm_gib > small.shm_gib


# ---- Length of requests --------------------------------------------------------------------------


def test_the_longest_request_is_the_model_s_context_where_the_cache_holds_it():
    fleet = fleet_of(demo_source())
    facts = {f.name: f for f in demo_inputs().profiles.models}
    assert all(e.max_model_len == facts[e.model_name].max_context_tokens for e in fleet.engines)


def test_a_smaller_cache_bounds_a_request_in_whole_blocks():
    source = with_pool(demo_source(), SMALL, kv_capacity_tokens=50_007)
    small = fleet_of(source).engine(SMALL)
    assert small is not None and small.max_model_len == 50_000  # measured: all of it, 3125 blocks


def test_of_a_computed_cache_a_request_gets_nine_tenths():
    """An engine's own reserve for activations may be larger than what is computed here."""
    share = GpuShare(memory_gib=25.0).model_dump()
    small = fleet_of(with_pool(demo_source(), SMALL, share=share)).engine(SMALL)
    assert small is not None and small.kv_capacity_tokens is not None
    assert small.max_model_len == int(0.9 * small.kv_capacity_tokens) // 16 * 16


def test_no_request_is_promised_more_than_the_cache_holds_and_a_refusal_is_told():
    """An engine that is told more than its cache holds does not start."""
    fleet = fleet_of(with_pool(demo_source(), SMALL, kv_capacity_tokens=100))
    small = fleet.engine(SMALL)
    assert small is not None and small.max_model_len == 96
    (note,) = fleet.notes
    assert note == (
        f"{SMALL} takes requests of 96 tokens, the question has some of {_longest(SMALL)}: they "
        "will be refused"
    )


def test_a_long_request_of_the_question_gets_all_of_a_computed_cache_and_a_doubt_is_told():
    source, longest = demo_source(), _longest(SMALL)
    profile = source.profiles[SMALL]
    assert profile.gpu is not None and profile.facts is not None
    spare = weights_gib_per_gpu(profile.pool, profile.facts) + ACTIVATION_GIB
    cache = (longest + 40) * kv_bytes_per_token_and_gpu(profile.pool, profile.facts) / GIB
    share = GpuShare(memory_gib=(spare + cache) / USABLE_RATIO).model_dump()
    fleet = fleet_of(with_pool(source, SMALL, share=share))
    small = fleet.engine(SMALL)
    assert small is not None and small.kv_capacity_tokens is not None
    assert small.max_model_len is not None
    assert longest <= small.max_model_len < longest + 16
    assert small.max_model_len <= small.kv_capacity_tokens
    assert any("may be too small for its longest request" in note for note in fleet.notes)


def test_a_request_is_never_longer_than_the_model_s_context():
    source = demo_source()
    profile = source.profiles[SMALL]
    assert profile.facts is not None
    for context in (1_001, 5_003):
        facts = profile.facts.model_copy(update={"max_context_tokens": context})
        profiles = {**source.profiles, SMALL: replace(profile, facts=facts)}
        small = fleet_of(replace(source, profiles=profiles)).engine(SMALL)
        assert small is not None and small.max_model_len == context


def test_without_a_known_gpu_a_request_may_have_the_model_s_context():
    profile = demo_inputs().profiles.by_name()[SMALL]
    assert profile.facts is not None
    unknown = replace(profile, gpu=None)
    assert max_model_len(unknown, 10) == profile.facts.max_context_tokens
    assert max_model_len(replace(unknown, facts=None), 10) is None


def test_a_rank_has_its_part_of_a_replica_s_cache():
    pool = {"tensor_parallel": 2, "data_parallel": 2, "kv_capacity_tokens": 64_010}
    big = fleet_of(with_pool(demo_source(), BIG, **pool)).engine(BIG)
    assert big is not None and big.max_model_len == 32_000


def test_a_stated_length_beyond_the_cache_is_told():
    source = with_pool(demo_source(), SMALL, kv_capacity_tokens=50_007)
    said = settings(pools={SMALL: {"max_model_len": 50_008}})
    (note,) = fleet_of(replace(source, settings=said)).notes
    assert "its KV cache holds 50000 tokens: the engine may not start" in note


def test_a_stated_length_below_the_question_s_is_told():
    fleet = fleet_of(demo_source(settings(pools={SMALL: {"max_model_len": 128}})))
    small = fleet.engine(SMALL)
    assert small is not None and small.max_model_len == 128
    assert any("they will be refused" in note for note in fleet.notes)


def _longest(pool: str) -> int:
    """Of the demo's tables by hand: prompt mean and 4 deviations, the longest answer."""
    rows = [r for r in demo_inputs().files.class_scores if pool.startswith(r.model_name)]
    assert rows
    return max(
        round(
            r.input_tokens_mean * (1 + 4 * r.input_tokens_cv)
            + (
                r.output_tokens_max
                or max(
                    r.output_tokens_mean * (1 + 4 * r.output_tokens_cv),
                    r.output_tokens_p99 or 0,
                    r.output_tokens_p95 or 0,
                )
            )
        )
        for r in rows
    )


def with_cache(source: Source, name: str) -> Source:
    """Requests of one class find two fifths of their prompt in the cache."""
    assert source.files is not None
    question = source.files.question
    classes = tuple(
        c.model_copy(update={"cached_input_ratio": 0.4}) if c.name == name else c
        for c in question.classes
    )
    files = replace(source.files, question=question.model_copy(update={"classes": classes}))
    return replace(source, files=files)


def test_prefix_caching_is_asked_for_where_the_plan_counts_on_it():
    source = demo_source()
    fleet = fleet_of(with_cache(source, "gsm"))
    assert all(e.prefix_caching and e.cached_input_ratio == 0.4 for e in fleet.engines)
    assert not any(e.prefix_caching for e in fleet_of(source).engines)


# ---- Hosted pools, cascades, periods -------------------------------------------------------------


def hosted(source: Source) -> Source:
    """The demo with its small pool hosted by somebody else."""
    pool = Pool.model_validate(
        {
            "name": SMALL,
            "model_name": "llama-3.1-8b",
            "price": {"usd_per_million_input_tokens": 1, "usd_per_million_output_tokens": 2},
            "max_rps": 20.0,
            "source": "made up",
        }
    )
    return replace(source, profiles={**source.profiles, SMALL: Profile(pool, None, None)})


def test_a_hosted_pool_is_where_endpoints_say():
    servers = (
        Server(url="https://api.example.com", api_key_env="KEY", served_model_name="x-mini"),
    )
    fleet = fleet_of(replace(hosted(demo_source()), endpoints={SMALL: servers}))
    (there,) = fleet.hosted
    assert (there.url, there.api_key_env, there.model_name) == (
        "https://api.example.com/v1", "KEY", "x-mini",
    )  # fmt: skip
    assert SMALL not in [e.pool for e in fleet.engines]


def test_a_hosted_pool_that_nobody_can_find_is_told():
    fleet = fleet_of(hosted(demo_source()))
    assert fleet.hosted[0].url is None
    assert any(f"where {SMALL} is hosted is not known" in note for note in fleet.notes)


def test_a_cascade_is_seen_and_its_share_is_none_of_the_routes():
    source = demo_source()
    stage = {"pool": SMALL, "share": 1.0}
    cascade = CascadeRoute.model_validate(
        {
            "class": "gsm",
            "share": 0.295485,
            "signal": "mean_logprob",
            "below": -1.0,
            "escalated_ratio": 0.2,
            "quality": 0.9,
            "first": [stage],
            "second": [{"pool": BIG, "share": 1.0}],
        }
    )
    routing = tuple(r for r in source.plan.routing if (r.class_name, r.pool) != ("gsm", SMALL))
    plan = source.plan.model_copy(update={"routing": routing, "cascades": (cascade,)})
    fleet = fleet_of(with_cache(replace(source, plan=plan, sheet=None), "gsm"))
    assert fleet.has_cascades
    gsm = next(r for r in fleet.routes if r.class_name == "gsm")
    assert sum(n for _, n in gsm.shares) == MILLION - 295_485
    small = fleet.engine(SMALL)
    assert small is not None and small.cached_input_ratio == 0.4  # it is asked first


def test_of_a_plan_with_periods_the_busiest_is_taken_and_told():
    source = demo_source()
    plan = with_day(source.plan)
    assert source.sheet is not None
    sheet = source.sheet.model_copy(update={"plan_hash": plan_hash(plan)})  # as rb plan writes it
    fleet = fleet_of(replace(source, plan=plan, sheet=sheet))
    assert fleet.period == "day"
    big = fleet.engine(BIG)
    assert big is not None and big.replicas == 2
    assert fleet.notes == (
        "this is period day of the plan; export the others with --period: night",
    )
    assert set(fleet.plan_files) == {"routes.json", "serving.json"}
    # rb serve refuses a sheet of another plan than its routes are of.
    hashes = {json.loads(text)["plan_hash"] for text in fleet.plan_files.values()}
    assert len(hashes) == 1 and hashes != {fleet.plan_hash}


def test_another_period_has_its_own_replicas_and_no_sheet():
    source = demo_source()
    fleet = fleet_of(replace(source, plan=with_day(source.plan)), "night")
    big = fleet.engine(BIG)
    assert (fleet.period, big is not None and big.replicas) == ("night", 1)
    assert fleet.cost_usd_per_h == 40.0  # what the night is paid with, reserved GPUs included
    assert set(fleet.plan_files) == {"routes.json", "plan.json"}
    assert any("serving.json is of period day" in note for note in fleet.notes)


@pytest.mark.parametrize(
    ("has_periods", "asked", "said"),
    [(True, "nigth", "did you mean night?"), (False, "night", "the plan has no periods")],
)
def test_a_period_that_is_not_there_is_refused(has_periods, asked, said):
    source = demo_source()
    plan = with_day(source.plan) if has_periods else source.plan
    with pytest.raises(InputError, match=said.replace("?", r"\?")):
        fleet_of(replace(source, plan=plan), asked)


def test_a_pool_without_a_profile_is_refused():
    source = demo_source()
    profiles = {name: p for name, p in source.profiles.items() if name != BIG}
    with pytest.raises(InputError, match=f"deployment.{BIG}: has no profile"):
        fleet_of(replace(source, profiles=profiles))


def test_a_router_that_reads_prompts_is_told_to_be_copied():
    source = demo_source()
    assert source.files is not None
    read = replace(source, files=replace(source.files, router=object()))  # looked at by nobody
    assert [note[:10] for note in fleet_of(read).notes] == ["router.npz"]


# ---- Keys of one's own engines -------------------------------------------------------------------


def test_an_engine_asks_for_the_key_that_endpoints_name():
    servers = tuple(Server(url=f"http://h{i}:8000", api_key_env="K") for i in range(2))
    fleet = fleet_of(replace(demo_source(), endpoints={BIG: servers}))
    assert {e.pool: e.api_key_env for e in fleet.engines} == {BIG: "K", WIDE: None, SMALL: None}
    assert (fleet.router_keys, fleet.notes) == (("K",), ())
    asking = fleet_of(replace(demo_source(), settings=settings(client_key_env="OURS")))
    assert (asking.client_key_env, asking.router_keys) == ("OURS", ("OURS",))


def test_a_model_s_servers_are_those_of_its_only_pool():
    def key_of(pool: str, model_name: str) -> str | None:
        servers = {model_name: (Server(url="http://h:8000", api_key_env="K"),)}
        engine = fleet_of(replace(demo_source(), endpoints=servers)).engine(pool)
        assert engine is not None
        return engine.api_key_env

    assert key_of(SMALL, "llama-3.1-8b") == "K"
    assert key_of(BIG, "llama-3.1-70b") is None  # two pools have it: rb serve refuses that, too


def test_different_keys_of_one_pool_are_told():
    servers = (Server(url="http://a:1", api_key_env="K"), Server(url="http://b:1"))
    fleet = fleet_of(replace(demo_source(), endpoints={SMALL: servers}))
    assert fleet.router_keys == ("K",)
    assert [n for n in fleet.notes if "different keys in endpoints.yaml (K, none)" in n]


def test_a_name_in_endpoints_that_nothing_has_is_told_with_the_nearest():
    servers = (Server(url="http://a:1", api_key_env="K"),)
    fleet = fleet_of(replace(demo_source(), endpoints={"llama-3.1-8b-h10": servers}))
    assert fleet.router_keys == ()
    (note,) = fleet.notes
    assert note.startswith("llama-3.1-8b-h10 of endpoints.yaml is no pool and no model of the prof")
    assert note.endswith(f"did you mean {SMALL}?")
