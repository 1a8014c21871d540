"""The entry of gpus.yaml: what is measured, what is kept, what the user says, and who said what."""

from dataclasses import replace

import pytest
from device_cases import DAY, H200, PEAK_TFLOPS, TRIAD_GB_PER_S, measured, results

from planner.errors import InputError
from planner.profile.device import entry as entries
from planner.profile.device.calibrate import calibrate
from planner.profile.device.entry import Given, changed_entry, measured_entry, new_entry
from planner.profile.device.measure import Results
from planner.spec.hardware import Gpu

FOUND = calibrate(results(quick=True), (), H200, DAY)
OLD = Gpu(
    name="h200",
    memory_gib=141,
    fp16_tflops=989,
    memory_gb_per_s=4800,
    usd_per_h=3.5,
    source="data sheet",
    as_of="2025-01-01",
)


def test_a_new_entry_is_a_gpu_and_says_what_is_not_from_a_data_sheet():
    entry = new_entry("h200", FOUND, H200, Given(), DAY)
    gpu = Gpu.model_validate(entry.facts)
    assert gpu.fp16_tflops == PEAK_TFLOPS["bfloat16"]
    assert gpu.memory_gb_per_s == 4917 and gpu.gpus_per_node == 8 and gpu.usd_per_h is None
    assert gpu.measured == FOUND
    assert "fp16_tflops is the measured rate" in gpu.source
    assert "memory clock times bus width" in gpu.source
    assert any("no price" in note for note in entry.notes)


def test_what_the_user_says_wins_and_needs_no_note():
    entry = new_entry("h200", FOUND, H200, Given(3.0, 989, 4800), DAY)
    gpu = Gpu.model_validate(entry.facts)
    assert (gpu.usd_per_h, gpu.fp16_tflops, gpu.memory_gb_per_s) == (3.0, 989, 4800)
    assert entry.notes == () and gpu.source == "Measured by `rb profile gpu` on NVIDIA H200."


@pytest.mark.parametrize("bus_gb_per_s", [None, 100.0])
def test_a_bus_that_is_unknown_or_slower_than_measured_is_not_believed(bus_gb_per_s):
    machine = replace(H200, bus_gb_per_s=bus_gb_per_s)
    entry = new_entry("h200", FOUND, machine, Given(), DAY)
    assert entry.facts["memory_gb_per_s"] == TRIAD_GB_PER_S


def test_an_entry_that_exists_keeps_its_data_sheet():
    assert changed_entry("h200", FOUND, Given(), DAY).facts.keys() == {"name", "measured"}
    priced = changed_entry("h200", FOUND, Given(usd_per_h=2.0), DAY).facts
    assert priced["usd_per_h"] == 2.0 and priced["as_of"] == DAY  # the date of the price


def test_a_figure_that_the_source_of_an_entry_cannot_speak_of_is_noted():
    assert changed_entry("h200", FOUND, Given(), DAY).notes == ()
    (note,) = changed_entry("h200", FOUND, Given(fp16_tflops=989.0), DAY).notes
    assert "source" in note and "fp16_tflops" in note


def test_a_missing_price_is_a_note_and_no_part_of_the_source():
    entry = new_entry("h200", FOUND, H200, Given(None, 989, 4800), DAY)
    assert any("--usd-per-h" in note for note in entry.notes)
    assert "price" not in str(entry.facts["source"])


def fake_parts(monkeypatch, noisy: bool = False) -> None:
    spread = [replace(r, times_s=(*r.times_s, r.median_s * 9)) for r in results(quick=True)]
    found = Results(tuple(spread if noisy else results(quick=True)), ("a note of measuring",))
    monkeypatch.setattr(entries, "measure", lambda *_: found)
    monkeypatch.setattr(entries, "clock_for", lambda *_: None)
    monkeypatch.setattr(entries, "all_reduce", lambda *_: ((), "a note of sums"))


def test_notes_of_all_parts_are_handed_on(monkeypatch):
    fake_parts(monkeypatch)
    entry = measured_entry("h200", OLD, H200, Given(), True, DAY, lambda *_: None)
    assert entry.notes == ("a note of measuring", "a note of sums")
    entry = measured_entry("h200", None, H200, Given(), True, DAY, lambda *_: None)
    assert entry.notes[:2] == ("a note of measuring", "a note of sums") and len(entry.notes) > 2


def test_a_busy_machine_is_told(monkeypatch):
    fake_parts(monkeypatch, noisy=True)
    monkeypatch.setattr(entries, "_STEADY_RATIO", 0.02)
    entry = measured_entry("h200", OLD, H200, Given(), True, DAY, lambda *_: None)
    assert "was the machine idle?" in entry.notes[-1]


@pytest.mark.parametrize(("memory_gib", "is_it"), [(139.8, True), (80.0, False), (180.0, False)])
def test_figures_of_another_device_are_not_put_into_an_entry(monkeypatch, memory_gib, is_it):
    fake_parts(monkeypatch)
    machine = replace(H200, memory_gib=memory_gib)
    arguments = ("h200", OLD, machine, Given(), True, DAY, lambda *_: None)
    if is_it:
        assert measured_entry(*arguments).facts["name"] == "h200"
    else:
        with pytest.raises(InputError, match="is 141 GiB, but NVIDIA H200 has"):
            measured_entry(*arguments)


def test_curves_must_be_curves():
    good = FOUND.model_dump()
    for key, value in (("n_rows", (1, 1)), ("n_rows", (2, 1)), ("reached_tflops", (1.0,))):
        bad = measured().model_dump()
        bad["gemm"][0][key] = value
        with pytest.raises(ValueError, match="must"):
            type(FOUND).model_validate(bad)
    assert type(FOUND).model_validate(good) == FOUND
