"""Pools out of result files: who says what, several pools at once, replicas, appended points."""

import pytest
from vllm_case import run

from planner.errors import InputError
from planner.files.results import ResultFiles
from planner.profile.importer import appended, import_results, names_of_pools, sorted_by_load
from planner.profile.sidecar import Known, pool_settings
from planner.spec.pool import CapacityPoint, Point, Pool, PoolSettings

CSV = "input_tokens,output_tokens,mode,concurrency,source\n"
MINE = PoolSettings(name="mine", gpu="h100-sxm-80g")
GPUS = Known(gpus=("h100-sxm-80g", "a100-sxm-80g", "a100-pcie-80g"))


def files_of(texts, sidecars=None):
    """Result files, with what rb-pool.yaml says by folder; it is about all files below."""
    about = {
        f"{folder}/rb-pool.yaml": PoolSettings(**said) for folder, said in (sidecars or {}).items()
    }
    return ResultFiles(
        texts=texts,
        named=frozenset(texts),
        sidecar_of={
            name: f"{folder}/rb-pool.yaml"
            for name in texts
            for folder in (sidecars or {})
            if name.startswith(f"{folder}/")
        },
        sidecars=about,
    )


def imported(texts, flags=MINE, sidecars=None, known=GPUS):
    return import_results(files_of(texts, sidecars), flags, known)


def faults_of(*args, **kwargs):
    with pytest.raises(InputError) as error:
        imported(*args, **kwargs)
    return error.value.faults


def facts_of(pool):
    return {fact.key: (fact.value, fact.said_by) for fact in pool.facts}


# ---- Points -------------------------------------------------------------------------------------


def test_points_are_sorted_by_load_and_the_order_of_files_does_not_matter():
    texts = {f"{cap}.json": run(max_concurrency=cap) for cap in (16, 2, 9)}
    (pool,) = imported(texts).pools
    assert imported(dict(reversed(texts.items()))).pools == (pool,)
    assert [point.concurrency for point in pool.points] == [2, 9, 16]


def test_two_formats_together():
    texts = {"a.json": run(), "points.csv": CSV + "10,20,closed,2,by hand\n"}
    (pool,) = imported(texts).pools
    assert [point.source for point in pool.points] == ["by hand", "a.json"]


@pytest.mark.parametrize("texts", [{}, {"a.pytorch.json": "[]"}])
def test_nothing_to_import_is_a_fault(texts):
    (fault,) = faults_of(texts)
    assert "no file holds a load level" in fault.what


def test_no_folder_of_a_machine_enters_a_point():
    for name in ("/home/user/a.json", "C:\\results\\a.json", "./a.json"):
        assert imported({name: run()}).pools[0].points[0].source == "a.json"


def test_points_of_several_replicas_are_of_one():
    texts = {
        "a.json": run(max_concurrency=8, num_prompts=20),
        "b.json": run(max_concurrency=None, request_rate=6.0),
    }
    one = imported(texts).pools[0].points
    (pool,) = imported(texts, PoolSettings(name="mine", gpu="g", n_replicas=4)).pools
    for whole, part in zip(one, pool.points, strict=True):
        assert part.achieved_rps == whole.achieved_rps / 4
        assert part.output_tokens_per_s == whole.output_tokens_per_s / 4
        assert (part.input_tokens, part.duration_s) == (whole.input_tokens, whole.duration_s)
        assert part.n_requests == whole.n_requests
        assert part.source == f"{whole.source}, one of 4 replicas"
    assert (pool.points[0].concurrency, pool.points[1].offered_rps) == (2, 1.5)
    assert pool.notes[0] == "loads and throughput are divided by 4 replicas"
    assert "n_replicas" not in pool.told
    table = "input_tokens,output_tokens,max_rps,source\n100,200,12,bench\n"
    (pool,) = imported(
        {"c.csv": table}, PoolSettings(name="c", gpu="g", model_name="m", n_replicas=4)
    ).pools
    assert [entry.max_rps for entry in pool.capacity] == [3]


def test_a_run_in_two_folders_counts_once_but_in_two_pools_twice():
    rich = run(mean_tpot_ms=3.5)
    texts = {"x/a.json": rich, "y/a.json": rich}
    (pool,) = imported(texts).pools
    assert len(pool.points) == 1
    assert "a.json: its load level is in x/a.json too and counted once" in pool.notes
    sidecars = {"x": {"name": "px", "gpu": "g"}, "y": {"name": "py", "gpu": "g"}}
    pools = imported(texts, PoolSettings(), sidecars).pools
    assert [len(pool.points) for pool in pools] == [1, 1]


def test_capacity_counts_only_without_points():
    table = "input_tokens,output_tokens,max_rps,source\n100,200,12,bench\n"
    told = PoolSettings(name="c", gpu="g", model_name="m")
    (pool,) = imported({"c.csv": table}, told).pools
    assert (pool.points, len(pool.capacity), pool.pool.source) == ((), 1, "bench")
    (pool,) = imported({"c.csv": table, "a.json": run()}, told).pools
    assert (len(pool.points), pool.capacity) == (1, ())
    assert any("1 capacities are left out" in note for note in pool.notes)


# ---- Who says what ------------------------------------------------------------------------------


def test_options_win_over_the_sidecar_over_pool_yaml_over_the_files():
    texts = {"s/a.json": run(engine="vllm", engine_version="0.11", tp="4", gpu="NVIDIA H100")}
    there = Pool(name="mine", model_name="kept", gpu="a", engine="tgi", source="s")
    known = Known(GPUS.gpus, {"mine": there})
    flags = PoolSettings(name="mine", gpu="option")
    sidecars = {"s": {"gpu": "sidecar", "tensor_parallel": 2}}
    (pool,) = imported(texts, flags, sidecars, known).pools
    assert facts_of(pool) == {
        "name": ("mine", "--pool"),
        "gpu": ("option", "--gpu"),
        "tensor_parallel": (2, "s/rb-pool.yaml"),
        "model_name": ("kept", "profiles/mine/pool.yaml"),
        "engine": ("tgi", "profiles/mine/pool.yaml"),
        "engine_version": ("0.11", "files"),
    }
    assert pool.told == {"gpu", "tensor_parallel"}
    assert [note.split(":")[0] for note in pool.notes] == [
        "model_name",
        "gpu",
        "tensor_parallel",
        "engine",
    ]
    assert "tensor_parallel: files say 4, 2 counts (s/rb-pool.yaml)" in pool.notes


def test_files_alone_may_say_it_all_but_the_name():
    texts = {"a.json": run(gpu="NVIDIA H100 80GB HBM3", tensor_parallel_size="2", backend="vllm")}
    (pool,) = imported(texts, PoolSettings(name="p")).pools
    made = pool.pool
    assert (made.model_name, made.gpu, made.tensor_parallel) == ("model", "h100-sxm-80g", 2)
    assert (made.engine, made.source, made.origin) == ("vllm", "a.json", "measured")
    assert facts_of(pool)["gpu"] == ("h100-sxm-80g", "files (NVIDIA H100 80GB HBM3)")
    assert pool.told == set()


def test_nothing_said_is_assumed_or_asked_for():
    (pool,) = imported({"a.json": run()}).pools
    assert facts_of(pool)["tensor_parallel"] == (1, "assumed")
    faults = faults_of({"points.csv": CSV + "10,20,closed,2,by hand\n"}, PoolSettings())
    assert {fault.field for fault in faults} == {"model_name", "gpu", "name"}
    (fault,) = faults_of({"a.json": run()}, PoolSettings(gpu="h100", tensor_parallel=2))
    assert "--pool model-h100-tp2" in fault.fix


def test_what_a_sidecar_does_not_say_is_asked_for_there():
    (fault,) = faults_of({"s/a.json": run()}, PoolSettings(), {"s": {"name": "p"}})
    assert (fault.file, fault.field) == ("s/rb-pool.yaml", "gpu")


def test_a_gpu_that_may_be_two_or_none_is_asked_for():
    (fault,) = faults_of({"a.json": run(gpu="NVIDIA A100 80GB")}, PoolSettings(name="p"))
    assert "a100-pcie-80g or a100-sxm-80g" in fault.what and "--gpu" in fault.fix
    (fault,) = faults_of({"a.json": run(gpu="TPU v5e")}, PoolSettings(name="p"))
    assert "is no GPU of profiles/gpus.yaml, got 'TPU v5e'" in fault.what
    assert "h100-sxm-80g" in fault.fix


def test_a_gpu_that_agrees_by_another_name_needs_no_remark():
    (pool,) = imported({"a.json": run(gpu="NVIDIA H100 80GB HBM3")}).pools
    assert pool.notes == ()


@pytest.mark.parametrize(
    ("changes", "field", "option"),
    [
        ({"model_id": "org/other"}, "model_name", "--model-name"),
        ({"backend": "tgi"}, "engine", "--engine"),
        ({"tp": "2"}, "tensor_parallel", "--tensor-parallel"),
    ],
)
def test_files_that_contradict_each_other_are_refused_unless_told(changes, field, option):
    texts = {
        "a.json": run(backend="vllm", tp="1"),
        "b.json": run(**{"backend": "vllm", "tp": "1", **changes}),
    }
    (fault,) = faults_of(texts)
    assert (fault.file, fault.field) == ("b.json", field)
    assert option in fault.fix
    told = MINE.model_copy(update={field: 8 if field == "tensor_parallel" else "told"})
    assert getattr(imported(texts, told).pools[0].pool, field) in (8, "told")


def test_a_hosted_pool_has_a_price_and_no_gpu():
    price = {"usd_per_million_input_tokens": 1.0, "usd_per_million_output_tokens": 2.0}
    said = {"name": "api", "price": price, "max_rps": 50.0}
    (pool,) = imported({"s/a.json": run(gpu="H100")}, PoolSettings(), {"s": said}).pools
    assert (pool.pool.gpu, pool.pool.max_rps) == (None, 50)


def test_only_a_model_that_nobody_names_now_is_compared_with_what_the_files_say():
    texts = {"s/a.json": run()}
    sidecars = {"s": {"name": "p", "gpu": "g", "model_name": "mine"}}
    assert imported(texts, PoolSettings(), sidecars).pools[0].notes == ()
    assert imported(texts, MINE.model_copy(update={"model_name": "mine"})).pools[0].notes == ()
    there = {"mine": Pool(name="mine", model_name="kept", gpu="h100-sxm-80g", source="s")}
    (note,) = imported(texts, MINE, known=Known(GPUS.gpus, there)).pools[0].notes
    assert note == "model_name: files say model, kept counts (profiles/mine/pool.yaml)"


def test_faulty_options_come_together_by_their_spelling():
    with pytest.raises(InputError) as error:
        pool_settings({"name": "../p", "gpu": "", "tensor_parallel": 0, "engine": None})
    assert {(f.file, f.field) for f in error.value.faults} == {
        ("options", "--pool"),
        ("options", "--gpu"),
        ("options", "--tensor-parallel"),
    }


def test_a_model_id_that_is_no_name_is_asked_for():
    (fault,) = faults_of({"a.json": run(model_id="my model: 8b")})
    assert fault.field == "model_name" and "my model: 8b" in fault.what
    assert "--model-name" in fault.fix


def test_pool_is_as_trustworthy_as_its_worst_point():
    text = CSV.replace("source", "origin,source")
    text += "9,9,closed,2,assumed,x\n9,9,closed,3,measured,y\n"
    (pool,) = imported({"a.csv": text}, MINE.model_copy(update={"model_name": "m"})).pools
    assert pool.pool.origin == "assumed"


# ---- Several pools ------------------------------------------------------------------------------


def test_each_sidecar_makes_a_pool_and_equal_ones_make_one():
    texts = {f"{folder}/a.json": run(max_concurrency=n) for n, folder in enumerate("xyz", 1)}
    both = {"name": "b", "gpu": "g"}
    found = imported(texts, PoolSettings(), {"x": both, "y": {"name": "a", "gpu": "g"}, "z": both})
    assert [(p.pool.name, len(p.points)) for p in found.pools] == [("a", 1), ("b", 2)]


def test_one_name_for_two_pools_is_refused():
    texts = {"x/a.json": run(), "y/a.json": run(max_concurrency=8)}
    sidecars = {"x": {"name": "p", "gpu": "g"}, "y": {"name": "p", "gpu": "h"}}
    (fault,) = faults_of(texts, PoolSettings(), sidecars)
    assert (fault.file, fault.field) == ("y/rb-pool.yaml", "name")
    faults = faults_of(texts, MINE, {"x": {"engine": "vllm"}})
    assert faults[0].field == "--pool"
    assert "x/rb-pool.yaml" in faults[0].what and "files without" in faults[0].what


def test_faults_of_all_pools_come_together():
    texts = {"x/a.json": run(), "y/a.json": run(max_concurrency=8)}
    faults = faults_of(texts, PoolSettings(), {"x": {"name": "p"}, "y": {"gpu": "h"}})
    assert [(f.file, f.field) for f in faults] == [
        ("x/rb-pool.yaml", "gpu"),
        ("y/rb-pool.yaml", "name"),
    ]


def test_names_of_pools_are_those_said():
    sidecars = {"x": {"name": "a"}, "y": {"name": "b"}, "z": {"gpu": "g"}}
    files = files_of({"x/a": "", "y/a": "", "z/a": ""}, sidecars)
    assert names_of_pools(files, PoolSettings()) == ("a", "b")
    assert names_of_pools(files, MINE) == ("mine",)


# ---- Appended -----------------------------------------------------------------------------------


def test_appending_keeps_what_is_there_and_drops_exact_duplicates():
    (pool,) = imported({"a.json": run(), "b.json": run(max_concurrency=8)}).pools
    old = Point(
        input_tokens=9, output_tokens=9, mode="closed", concurrency=6, origin="assumed", source="o"
    )
    both = appended(pool, [pool.points[0], old])
    assert [point.concurrency for point in both.points] == [4, 6, 8]
    assert both.notes[-1] == "1 of 2 rows were there already"
    assert (both.pool.origin, both.pool.source) == ("assumed", "a.json; o; b.json")
    assert appended(both, both.points).points == both.points
    assert appended(pool, []).points == pool.points


def test_appending_capacities():
    row = CapacityPoint(input_tokens=1, output_tokens=2, max_rps=3, source="s")
    table = "input_tokens,output_tokens,max_rps,source\n1,2,3,s\n1,4,2,s\n"
    (pool,) = imported({"c.csv": table}, MINE.model_copy(update={"model_name": "m"})).pools
    assert [c.max_rps for c in appended(pool, (), [row]).capacity] == [3, 2]
    (points,) = imported({"a.json": run()}).pools
    assert appended(points, (), [row]).capacity == ()
    assert appended(pool, points.points).points == ()


def test_sorting_is_by_mode_then_load():
    def point(mode, **load):
        return Point(input_tokens=1, output_tokens=1, mode=mode, source="s", **load)

    points = [
        point("open", offered_rps=2),
        point("batch", concurrency=1),
        point("open", achieved_rps=1),
        point("closed", concurrency=9),
    ]
    assert [p.mode for p in sorted_by_load(points)] == ["closed", "open", "open", "batch"]
    assert sorted_by_load(points)[1].achieved_rps == 1
