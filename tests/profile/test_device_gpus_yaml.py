"""gpus.yaml edited in place: one entry changes, every other byte stays."""

import tempfile
from pathlib import Path

import pytest
import yaml
from device_cases import DAY, measured
from hypothesis import given, settings
from hypothesis import strategies as st

import planner
from planner.errors import InputError
from planner.files.gpu_out import check_name, read_gpus, with_entry, write_gpus
from planner.files.profiles import read_profiles

OURS = Path(planner.__file__).parent.parent / "profiles"
FACTS = {"memory_gib": 141, "fp16_tflops": 989.0, "memory_gb_per_s": 4800, "source": "a test"}
NEW = {"name": "new", **FACTS, "as_of": DAY, "measured": measured().model_dump(exclude_none=True)}
MEASURED = measured().model_dump(exclude_none=True)


def file_of(tmp_path: Path, text: str) -> Path:
    (tmp_path / "gpus.yaml").write_bytes(text.encode())
    return tmp_path


def names() -> list[str]:
    return [gpu.name for gpu in read_gpus(OURS).gpus]


@pytest.mark.parametrize("name", names())
def test_measured_figures_only_add_lines_to_an_entry(name, tmp_path):
    before = (OURS / "gpus.yaml").read_text("utf-8")
    edit = with_entry(read_gpus(OURS), {"name": name, "measured": MEASURED})
    old, new = before.splitlines(), edit.text.splitlines()
    at = next(n for n, line in enumerate(new) if line == "  measured:")
    n_added = len(new) - len(old)
    assert new[:at] + new[at + n_added :] == old
    assert edit.gpu.name == name and edit.gpu.measured == measured()
    # Twice is once: the block is replaced, not repeated.
    folder = file_of(tmp_path, edit.text)
    again = with_entry(read_gpus(folder), {"name": name, "measured": MEASURED})
    assert again.text == edit.text
    other = measured(launch_ms=0.5).model_dump(exclude_none=True)
    changed = with_entry(read_gpus(folder), {"name": name, "measured": other}).text.splitlines()
    assert sum(a != b for a, b in zip(new, changed, strict=True)) == 1


def test_a_new_entry_is_appended(tmp_path):
    before = (OURS / "gpus.yaml").read_text("utf-8")
    edit = with_entry(read_gpus(OURS), NEW)
    assert edit.text.startswith(before)
    assert (
        write_gpus(with_entry(read_gpus(file_of(tmp_path, before)), NEW)) == tmp_path / "gpus.yaml"
    )
    assert [gpu.name for gpu in read_gpus(tmp_path).gpus] == [*names(), "new"]


def test_a_first_entry_makes_the_file(tmp_path):
    write_gpus(with_entry(read_gpus(tmp_path / "profiles"), NEW))
    (gpu,) = read_gpus(tmp_path / "profiles").gpus
    assert gpu.measured == measured() and gpu.as_of == DAY
    faults = []
    assert read_profiles(tmp_path / "profiles", faults, facts_needed=False).gpus == (gpu,)


ENTRY = "memory_gib: 80\n  fp16_tflops: 312\n  memory_gb_per_s: 2039\n"


@pytest.mark.parametrize(
    "text",
    [
        f"- name: a\n  {ENTRY}  source: x\n  as_of: 2025-12-31",  # no last line end
        f"- name: a\n  {ENTRY}  source: x # said so\n  as_of: 2025-12-31\n# after\n\n\n",
        f"-   name: a\n    {ENTRY.replace('  ', '    ')}    source: x\n    as_of: 2025-12-31\n",
        f"-\n  name: a\n  {ENTRY}  source: |\n    # not a comment\n  as_of: 2025-12-31\n",
        f"-\n  name: a\n  {ENTRY}  source: x\n  as_of: 2025-12-31\n-\n  name: b\n  {ENTRY}"
        "  source: x\n  as_of: 2025-12-31\n",
        f"---\n- name: a\n  {ENTRY}  as_of: 2025-12-31\n  source: >-\n    x\n\n    y\n",
    ],
)
def test_other_ways_to_write_a_list(tmp_path, text):
    file = read_gpus(file_of(tmp_path, text))
    edit = with_entry(file, {"name": "a", "fp16_tflops": 7.0, "measured": MEASURED})
    kept = [line for line in text.splitlines() if "fp16_tflops" not in line]
    assert [line for line in edit.text.splitlines() if line in kept] == kept
    appended = with_entry(file, NEW)
    assert appended.text.startswith(text)
    for each in (edit, appended):
        assert {gpu.name for gpu in read_gpus(file_of(tmp_path, each.text)).gpus} >= {"a"}


@pytest.mark.parametrize(
    "text",
    [
        "[{name: a, memory_gib: 80, fp16_tflops: 312, memory_gb_per_s: 2039, source: x,"
        " as_of: 2025-12-31}]\n",
        "- {name: a, memory_gib: 80, fp16_tflops: 312, memory_gb_per_s: 2039, source: x,\n"
        "   as_of: 2025-12-31}\n",
    ],
)
def test_what_cannot_be_edited_is_refused(tmp_path, text):
    file = read_gpus(file_of(tmp_path, text))
    for facts in ({"name": "a", "measured": MEASURED}, NEW):
        with pytest.raises(InputError, match="cannot be edited"):
            with_entry(file, facts)


def test_a_faulty_file_is_not_written_to(tmp_path):
    with pytest.raises(InputError, match="nonsense"):
        read_gpus(file_of(tmp_path, "- nonsense: 1\n"))
    with pytest.raises(InputError, match="must be above 0"):
        with_entry(read_gpus(OURS), NEW | {"memory_gib": 0.0})
    with pytest.raises(InputError, match="is not a name"):
        check_name("../out")
    assert check_name("h200-sxm-141g") == "h200-sxm-141g"


COMMENTS = st.lists(st.sampled_from(["", "# a comment", "  # indented", "#"]), max_size=3)


@settings(derandomize=True, deadline=None, max_examples=80)
@given(
    gaps=st.lists(COMMENTS, min_size=4, max_size=4),
    place=st.integers(0, 2),
    indent=st.sampled_from(["", "  "]),
)
def test_every_other_line_stays_whatever_stands_between(gaps, place, indent):
    lines: list[str] = []
    for n, gap in enumerate(gaps):
        lines += [f"{line}\n" for line in gap]
        if n < 3:
            lines += [f"{indent}- name: g{n}\n", f"{indent}  memory_gib: 80 # {n}\n"]
            lines += [f"{indent}  {key}: 5\n" for key in ("fp16_tflops", "memory_gb_per_s")]
            lines += [f"{indent}  source: s\n", f"{indent}  as_of: 2025-12-31\n"]
    text = "".join(lines)
    with tempfile.TemporaryDirectory() as folder:
        file = read_gpus(file_of(Path(folder), text))
    edit = with_entry(file, {"name": f"g{place}", "usd_per_h": 3.0, "source": "now"})
    after = edit.text.splitlines()
    assert after.count(f"{indent}  usd_per_h: 3.0") == 1
    after.remove(f"{indent}  usd_per_h: 3.0")
    expected = text.splitlines()
    sources = [n for n, line in enumerate(expected) if line == f"{indent}  source: s"]
    expected[sources[place]] = f"{indent}  source: now"
    assert after == expected
    assert yaml.safe_load(edit.text)[place]["usd_per_h"] == 3.0
