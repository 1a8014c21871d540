"""What a run leaves on the disk, and what the next call makes of it."""

from __future__ import annotations

import pytest
import yaml
from run_cases import KnownEngine, play

from planner.errors import InputError
from planner.files import profile_run
from planner.files.profile_out import profile_files
from planner.files.profile_run import read_run, read_workload, write_run
from planner.files.profiles import read_profiles
from planner.metrics_page import EngineState
from planner.profile.formats.own_csv import render
from planner.profile.load.options import SessionSettings
from planner.profile.load.pool import measured_pool, pool_name, seen_max_num_seqs
from planner.spec.run import RunSettings

SETTINGS = RunSettings(
    url="http://localhost:8000", model="org/tiny", gpu="l4", input_tokens=512.0, output_tokens=128.0
)
SESSION = SessionSettings(512, 128)


@pytest.fixture(scope="module")
def measured():
    return tuple(play(KnownEngine(cap=8), SESSION)[0])


@pytest.fixture
def save(tmp_path):
    """Writes levels as a run does."""

    def write(measured, state=None):
        most = seen_max_num_seqs(measured, SESSION)
        pool, known = measured_pool("tiny-l4", SETTINGS, state, most)
        text = render([m.point for m in measured if m.point])
        write_run(SETTINGS, [m.level for m in measured], profile_files(tmp_path, pool, known, text))
        return tmp_path / "tiny-l4"

    return write


def test_what_is_written_is_read_back(save, measured):
    folder = save(measured)
    kept = read_run(folder, SETTINGS)
    assert kept.levels == tuple((m.level, m.point) for m in measured)


def test_every_state_on_the_way_is_a_valid_profile(save, measured, tmp_path):
    for n in range(1, len(measured) + 1):
        save(measured[:n])
        faults = []
        found = read_profiles(tmp_path, faults, facts_needed=False)
        assert faults == [] and len(found.profiles[0].points) == n


def test_the_pool_says_what_was_seen(save, measured, tmp_path):
    save(measured, EngineState("vllm", 50_000, 0.1, 0.0, 0.0, 0.0))
    pool = read_profiles(tmp_path, [], facts_needed=False).profiles[0].pool
    assert (pool.name, pool.model_name, pool.gpu) == ("tiny-l4", "tiny", "l4")
    assert (pool.engine, pool.kv_capacity_tokens, pool.max_num_seqs) == ("vllm", 50_000, 8)


def test_a_full_kv_cache_is_no_max_num_seqs(measured):
    full = measured[-1].level.model_copy(update={"kv_used_ratio": 0.99})
    assert seen_max_num_seqs(measured, SESSION) == 8
    assert seen_max_num_seqs([*measured, type(measured[0])(full, None)], SESSION) is None


def test_nothing_there_is_nothing_kept(tmp_path):
    assert read_run(tmp_path / "none", SETTINGS).levels == ()


def test_a_kill_between_two_files_costs_one_level(save, measured, monkeypatch):
    folder = save(measured[:3])

    def killed(files):
        raise KeyboardInterrupt

    monkeypatch.setattr(profile_run, "write_profile", killed)
    with pytest.raises(KeyboardInterrupt):
        save(measured[:4])
    assert [level for level, _ in read_run(folder, SETTINGS).levels] == [
        m.level for m in measured[:3]
    ]


def test_a_level_without_an_answer_is_kept(save, measured):
    fallen = measured[2].level.model_copy(update={"answered": False})
    folder = save([*measured[:2], type(measured[0])(fallen, None)])
    assert read_run(folder, SETTINGS).levels[2] == (fallen, None)


@pytest.mark.parametrize(
    "change", [{"model": "other"}, {"url": "http://localhost:9000"}, {"input_tokens": 256.0}]
)
def test_other_settings_are_refused(save, measured, change):
    folder = save(measured[:2])
    ((key, value),) = change.items()
    with pytest.raises(InputError) as caught:
        read_run(folder, SETTINGS.model_copy(update=change))
    assert [f.field for f in caught.value.faults] == [f"settings.{key}"]
    said = f"{value:g}" if isinstance(value, float) else value
    assert said in str(caught.value) and "--restart" in str(caught.value)


def test_all_changed_settings_are_named_at_once(save, measured):
    folder = save(measured[:2])
    with pytest.raises(InputError) as caught:
        read_run(folder, SETTINGS.model_copy(update={"gpu": "a10", "api": "chat"}))
    assert len(caught.value.faults) == 2


def test_points_of_another_origin_are_not_touched(tmp_path, measured):
    (tmp_path / "points.csv").write_text(render([measured[0].point]), "utf-8")
    with pytest.raises(InputError, match="did not measure"):
        read_run(tmp_path, SETTINGS)


def test_points_added_by_hand_are_not_dropped(save, measured):
    folder = save(measured[:2])
    foreign = measured[3].point.model_copy(update={"source": "by hand"})
    path = folder / "points.csv"
    path.write_text(render([*(m.point for m in measured[:2]), foreign]), "utf-8")
    with pytest.raises(InputError, match="did not measure"):
        read_run(folder, SETTINGS)


@pytest.mark.parametrize("text", ["levels: 3\n", "nonsense: 1\n", "settings: [", ""])
def test_a_faulty_run_file_is_a_fault(tmp_path, text):
    (tmp_path / "run.yaml").write_text(text, "utf-8")
    with pytest.raises(InputError, match=r"run\.yaml"):
        read_run(tmp_path, SETTINGS)


def test_the_state_is_short_and_holds_no_key(save, measured):
    data = yaml.safe_load((save(measured) / "run.yaml").read_text("utf-8"))
    assert set(data) == {"settings", "levels"}
    assert not any("key" in name for name in data["settings"])
    assert "repeat" not in data["levels"][0]["step"]


def test_pool_names():
    assert pool_name(None, SETTINGS) == "tiny-l4"
    assert pool_name(None, SETTINGS.model_copy(update={"tensor_parallel": 4})) == "tiny-l4-tp4"
    assert pool_name("mine", SETTINGS) == "mine"
    with pytest.raises(InputError, match="name"):
        measured_pool("../out", SETTINGS)


def test_workloads(tmp_path):
    path = tmp_path / "requests.csv"
    path.write_text("input_tokens,output_tokens\n10,20\n30,40\n", "utf-8")
    rows, sha256 = read_workload(path)
    assert [(r.input_tokens, r.output_tokens) for r in rows] == [(10, 20), (30, 40)]
    path.write_text("input_tokens,output_tokens\n10,20\n30,41\n", "utf-8")
    assert read_workload(path)[1] != sha256
    path.write_text("timestamp_s,class,input_tokens,output_tokens\n0,a,1,2\n,a,1,2\n", "utf-8")
    with pytest.raises(InputError, match="blank in some rows"):
        read_workload(path)
