"""endpoints.yaml for serving: data-parallel ranks, and where a server tells of its load."""

import pytest

from planner.files.endpoints import read_endpoints


def endpoints(tmp_path, text):
    path = tmp_path / "endpoints.yaml"
    path.write_text(text)
    faults = []
    return read_endpoints(path, faults), faults


def test_by_default_a_server_is_one_engine_with_its_page_at_the_usual_place(tmp_path):
    found, faults = endpoints(tmp_path, "a: http://localhost:8000\n")
    assert faults == []
    assert (found["a"][0].data_parallel_ranks, found["a"][0].metrics) == (1, None)


@pytest.mark.parametrize(
    ("written", "metrics"),
    [
        ("off", "off"),  # which YAML reads as false
        ("'off'", "off"),
        ("http://10.0.0.1:9090/metrics", "http://10.0.0.1:9090/metrics"),
    ],
)
def test_ranks_and_metrics(tmp_path, written, metrics):
    text = f"a: [{{url: http://localhost:8000/v1, data_parallel_ranks: 8, metrics: {written}}}]\n"
    found, faults = endpoints(tmp_path, text)
    assert faults == []
    assert (found["a"][0].data_parallel_ranks, found["a"][0].metrics) == (8, metrics)


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("data_parallel_ranks: 0", "a[1].data_parallel_ranks: must be at least 1, got 0"),
        ("data_parallel_ranks: 2000", "a[1].data_parallel_ranks: must be at most 1024, got 2000"),
        ("data_parallel_ranks: 1.5", "a[1].data_parallel_ranks: must be a whole number, got 1.5"),
        ("data_parallel_ranks: true", "must be a whole number, got True"),
        ("metrics: 9090", "a[1].metrics: must be text, got 9090"),
        ("metrics: on", "metrics must be off, or an address"),
        ("metrics: ftp://host", "metrics must be off, or an address"),
        ("metrics: http://me:hunter2@host/metrics", "metrics must hold no user, password or query"),
        ("metrics: 'http://host/metrics?key=hunter2'", "must hold no user, password or query"),
        ("ranks: 8", "unknown key"),
    ],
)
def test_what_is_wrong_with_them(tmp_path, entry, says):
    text = f"a: [http://localhost:8000, {{url: http://localhost:8001, {entry}}}]\n"
    found, faults = endpoints(tmp_path, text)
    assert len(found["a"]) == 1  # the other one is right
    [fault] = faults
    assert says in str(fault)
    assert fault.file.endswith("endpoints.yaml")
    assert fault.fix
    assert "hunter2" not in str(fault)
