"""Several files at once: formats, order, contradictions, and all faults together."""

import json

import pytest

from planner.errors import InputError
from planner.profile.importer import PoolSettings, detect, import_points, make_pool

CSV = "input_tokens,output_tokens,mode,concurrency,source\n"


def run(**changes: object) -> str:
    return json.dumps(
        {
            "model_id": "org/model",
            "request_rate": "inf",
            "max_concurrency": 4,
            "duration": 10.0,
            "completed": 20,
            "failed": 0,
            "total_input_tokens": 200,
            "total_output_tokens": 400,
            **changes,
        }
    )


def test_order_of_files_does_not_matter():
    texts = {f"{cap}.json": run(max_concurrency=cap) for cap in (16, 2, 9)}
    backwards = dict(reversed(texts.items()))
    assert import_points(texts) == import_points(backwards)
    assert [point.concurrency for point in import_points(texts).points] == [2, 9, 16]


def test_same_load_twice_is_kept_twice():
    result = import_points({"a.json": run(), "b.json": run()})
    assert [point.source for point in result.points] == ["a.json", "b.json"]


def test_repeating_pytorch_files_are_left_out_and_said_so():
    result = import_points({"x/a.json": run(), "x/a.pytorch.json": "[not even JSON"})
    assert len(result.points) == 1
    assert result.notes[0].startswith("a.pytorch.json: left out")


@pytest.mark.parametrize("texts", [{}, {"a.pytorch.json": "[]"}])
def test_nothing_to_import_is_a_fault(texts):
    with pytest.raises(InputError, match="no measured load level"):
        import_points(texts)


def test_two_formats_together():
    result = import_points({"a.json": run(), "points.csv": CSV + "10,20,closed,2,by hand\n"})
    assert [point.source for point in result.points] == ["by hand", "a.json"]


def test_files_of_two_models_are_refused_unless_told_which():
    texts = {"a.json": run(), "b.json": run(model_id="org/other")}
    with pytest.raises(InputError) as error:
        import_points(texts)
    assert [(f.file, f.field) for f in error.value.faults] == [("b.json", "model_id")]
    assert import_points(texts, PoolSettings("p", "g", model_name="mine")).model_id == "mine"


def test_engine_is_named_by_backend_or_metadata_and_overridden():
    assert import_points({"a.json": run(backend="vllm")}).engine == "vllm"
    assert import_points({"a.json": run(backend="openai-chat")}).engine is None
    assert import_points({"a.json": run(backend="openai", engine="SGLang")}).engine == "sglang"
    told = PoolSettings("p", "g", engine="tgi")
    assert import_points({"a.json": run(backend="vllm")}, told).engine == "tgi"


def test_engines_that_differ_are_refused():
    with pytest.raises(InputError) as error:
        import_points({"a.json": run(backend="vllm"), "b.json": run(backend="tgi")})
    assert [(f.file, f.field) for f in error.value.faults] == [("b.json", "engine")]
    assert "--engine" in error.value.faults[0].fix


def test_faults_of_all_files_come_together():
    texts = {
        "a.json": run(duration=-1, completed="x"),
        "b.json": "",
        "c.csv": CSV + "0,20,closed,2,s\n",
        "d.txt": "hello",
        "e.json": run(),
    }
    with pytest.raises(InputError) as error:
        import_points(texts)
    assert {(fault.file, fault.field) for fault in error.value.faults} == {
        ("a.json", "duration"),
        ("a.json", "completed"),
        ("b.json", "content"),
        ("c.csv", "line 2.input_tokens"),
        ("d.txt", "content"),
    }
    assert all("got" in fault.what and fault.fix for fault in error.value.faults)


def test_format_is_detected_by_content():
    assert detect("a.txt", run()) == "vllm-bench"
    assert detect("a.txt", "\ufeff" + CSV) == "points-csv"
    assert detect("a.csv", "nonsense") == "points-csv"


def test_pool_is_made_of_settings_first_and_files_second():
    result = import_points({"a.json": run(backend="vllm"), "b.json": run(backend="vllm")})
    pool = make_pool(PoolSettings("p-1", "h100", 2, max_num_seqs=64), result)
    assert (pool.name, pool.gpu, pool.tensor_parallel, pool.max_num_seqs) == ("p-1", "h100", 2, 64)
    assert (pool.model_name, pool.engine) == ("model", "vllm")
    assert (pool.source, pool.origin) == ("a.json; b.json", "measured")
    told = PoolSettings("p-1", "h100", model_name="mine", engine="sglang", engine_version="0.5")
    pool = make_pool(told, result)
    assert (pool.model_name, pool.engine, pool.engine_version) == ("mine", "sglang", "0.5")


def test_pool_is_as_trustworthy_as_its_worst_point():
    text = (
        CSV.replace("source", "origin,source") + "9,9,closed,2,assumed,x\n9,9,closed,3,measured,y\n"
    )
    pool = make_pool(PoolSettings("p", "g", model_name="m"), import_points({"points.csv": text}))
    assert pool.origin == "assumed"


def test_faulty_settings_come_together():
    result = import_points({"points.csv": CSV + "10,20,closed,2,by hand\n"})
    with pytest.raises(InputError) as error:
        make_pool(PoolSettings("../p", "", 0), result)
    fields = {fault.field for fault in error.value.faults}
    assert fields == {"model_name", "name", "gpu", "tensor_parallel"}


def test_no_folder_of_a_machine_enters_a_point():
    for name in ("/home/user/a.json", "C:\\results\\a.json", "./a.json"):
        assert import_points({name: run()}).points[0].source == "a.json"
