"""router.npz: what goes in comes out, the same bytes every time, and nothing else is believed."""

import io
import json
import pickle
import zipfile
from dataclasses import fields, is_dataclass, replace
from hashlib import sha256

import numpy as np
import pytest
from router_cases import made_router

from planner.errors import Fault
from planner.files import router as files_router
from planner.files.router import ROUTER_FILE, read_router, router_hash, write_router
from planner.quality.features import FEATURE_NAMES, surface
from planner.quality.hashing import word_buckets
from planner.spec.router import AnswerLengths, ClassMeans, Contrast, NaiveBayes, Router

FIX = "train it again: rb router train DIR"


def read(path):
    faults: list[Fault] = []
    router = read_router(path, faults)
    assert (router is None) == bool(faults)
    assert all(fault.file.endswith(path.name) and fault.fix for fault in faults)
    return router, faults


def refused(path, said):
    """Asserts that a file is refused with one fault that says something."""
    router, faults = read(path)
    assert router is None
    assert [(said in fault.what, fault.fix) for fault in faults] == [(True, FIX)], faults


def entries(path):
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def write_entries(path, parts, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as file:
        for name, data in parts.items():
            file.writestr(name, data)


def with_header(path, change, arrays=None):
    """Rewrites a file with a changed header, other arrays, and the hash that belongs to them."""
    parts = entries(path) | {f"{name}.npy": npy(a) for name, a in (arrays or {}).items()}
    header = json.loads(parts.pop("header.json"))
    header.pop("sha256")
    change(header)
    header["sha256"] = files_router._digest(header, parts)
    write_entries(path, parts | {"header.json": json.dumps(header)})


def npy(array, **kwargs):
    content = io.BytesIO()
    np.lib.format.write_array(content, array, **kwargs)
    return content.getvalue()


@pytest.fixture
def path(tmp_path):
    return write_router(tmp_path, made_router())


def leaves(value, name=""):
    """Every array and single value of a router, by name."""
    if is_dataclass(value):
        for field in fields(value):
            yield from leaves(getattr(value, field.name), f"{name}.{field.name}")
    else:
        yield name, value


# ---- There and back ------------------------------------------------------------------------------


def test_what_goes_in_comes_out(path):
    router, _ = read(path)
    before, after = dict(leaves(made_router())), dict(leaves(router))
    assert before.keys() == after.keys()
    assert len(before) > 40
    for name, value in before.items():
        if isinstance(value, np.ndarray):
            assert after[name].dtype == value.dtype, name
            np.testing.assert_array_equal(after[name], value, err_msg=name)
        else:
            assert after[name] == value, name


def test_parts_that_are_not_there_stay_away(tmp_path):
    bare = replace(made_router(), bayes=None, contrast=None, lengths=None, rules=())
    router, _ = read(write_router(tmp_path, bare))
    assert router.bayes is router.contrast is router.lengths is None
    assert router.rules == ()


def test_numpy_reads_the_arrays(path):
    with np.load(path) as file:
        np.testing.assert_array_equal(file["means.mean"], made_router().means.mean)
        assert file["bayes.log_likelihood"].dtype == np.float32


def test_the_same_router_makes_the_same_bytes(path, tmp_path):
    first = path.read_bytes()
    router, _ = read(path)
    assert write_router(tmp_path / "again", router).read_bytes() == first
    assert path.name == ROUTER_FILE
    with zipfile.ZipFile(path) as file:  # no clock
        assert {info.date_time for info in file.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert router_hash(router) == router_hash(made_router())


def test_every_number_counts_in_the_hash():
    router = made_router()
    hashes = {
        router_hash(router),
        router_hash(replace(router, trust=router.trust * 0)),
        router_hash(replace(router, rules=())),
        router_hash(replace(router, contrast=None)),
        router_hash(replace(router, bayes=replace(router.bayes, temperature=3.25))),
        router_hash(replace(router, gate=replace(router.gate, n_prompts=1))),
    }
    assert len(hashes) == 6


def test_every_array_of_a_router_has_its_type_and_shape():
    """A field that is added to a part must be added to the file as well."""
    named = {
        f"{part}.{field.name}"
        for part, kind in {
            "means": ClassMeans,
            "bayes": NaiveBayes,
            "contrast": Contrast,
            "lengths": AnswerLengths,
        }.items()
        for field in fields(kind)
        if "Array" in str(field.type)
    } | {field.name for field in fields(Router) if "Array" in str(field.type)}
    assert named == set(files_router._ARRAYS)


# ---- Not believed --------------------------------------------------------------------------------


def test_a_file_that_is_not_there_is_told(tmp_path):
    _, faults = read(tmp_path / ROUTER_FILE)
    assert [fault.what for fault in faults] == ["file not found"]


@pytest.mark.parametrize("length", [0, 1, 100, 5000, -1, -30])
def test_a_truncated_file_is_refused(path, length):
    path.write_bytes(path.read_bytes()[:length])
    refused(path, "is damaged")


def test_a_flipped_bit_is_seen_wherever_it_is(path):
    """Or it is in what zip says of an entry besides its bytes, and the router is the same."""
    whole, random = path.read_bytes(), np.random.default_rng(0)
    known, n_refused = router_hash(made_router()), 0
    for place in random.integers(0, len(whole), 150).tolist():
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        router, _ = read(path)
        n_refused += router is None
        assert router is None or router_hash(router) == known
    assert n_refused > 140


def test_a_pickle_is_never_loaded(path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was loaded",))

    path.write_bytes(pickle.dumps(Trap()))
    refused(path, "is damaged")
    for trap in (pickle.dumps(Trap()), npy(np.array([Trap()], dtype=object), allow_pickle=True)):
        write_entries(path, entries(write_router(path.parent, made_router())) | {"trust.npy": trap})
        with_header(path, lambda header: None)
        refused(path, "trust is no array")


def test_a_zip_bomb_is_not_unpacked(path):
    parts = entries(path) | {"trust.npy": bytes(100_000_000)}
    write_entries(path, parts, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 5_000_000
    refused(path, "its entries are compressed")


def test_an_array_is_not_made_before_its_size_is_known(path):
    with_header(path, lambda header: header["sizes"].update(F=10**15))
    refused(path, "is no array (1000000000000000,) of <f8")


def test_too_large_a_file_is_not_read(path, monkeypatch):
    monkeypatch.setattr(files_router, "MAX_BYTES", 1000)
    _, faults = read(path)
    assert ["file is too large" in fault.what for fault in faults] == [True]


def test_another_version_is_told(path):
    with_header(path, lambda header: header.update(version=2))
    refused(path, "has version 2, this rb reads version 1")


def test_a_part_of_another_router_is_seen(path, tmp_path):
    other = replace(made_router(), usd_per_token=made_router().usd_per_token * 2)
    swapped = entries(write_router(tmp_path / "other", other))["usd_per_token.npy"]
    write_entries(path, entries(path) | {"usd_per_token.npy": swapped})
    refused(path, "its content is not what its hash says")


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"trust": np.array([0, 1, 2], "<i8")}, "trust is no array (4,) of <i8"),
        ({"trust": np.array([0, 1, 2, 3], "<i8")}, "trust is not 0, 1 or 2"),
        ({"trust": np.array([0.0, 1.0, 2.0, 1.0])}, "trust is no array (4,) of <i8"),
        ({"prior": np.array([[0.25] * 4])}, "prior is no array (4,) of <f8"),
        ({"prior": np.array([0.5, 0.5, np.nan, 0.0])}, "prior has numbers that are not finite"),
        ({"class_tokens": np.zeros((4, 2))}, "class_tokens has numbers that are not above 0"),
        ({"means.mean": np.full((4, 2), np.inf)}, "means.mean has numbers that are not finite"),
        ({"contrast.coefficient": np.zeros((3, 2))}, "contrast.coefficient is no array (26, 2)"),
        ({"confusion": np.asfortranarray(np.tri(4))}, "confusion is no array"),
        ({"surprise": np.zeros(1)}, "surprise.npy is missing or too much"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_arrays_that_do_not_fit_are_refused_even_with_the_right_hash(path, arrays, said):
    with_header(path, lambda header: None, arrays)
    refused(path, said)


def test_buckets_must_be_a_power_of_two(path):
    likelihood = {"bayes.log_likelihood": np.zeros((3, 4), np.float32)}
    with_header(path, lambda header: header["sizes"].update(B=3), likelihood)
    refused(path, "is no power of two")


def test_a_missing_array_is_told(path):
    parts = entries(path)
    parts.pop("means.low.npy")
    write_entries(path, parts)
    with_header(path, lambda header: None)
    refused(path, "means.low.npy is missing or too much")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda h: h.update(class_names=["a"] * 4), "class_names are not distinct"),
        (lambda h: h.update(class_names=[1, 2, 3, 4]), "class_names are no list of names"),
        (lambda h: h.update(model_names=["small"]), "is no array (4, 1) of <f8"),
        (lambda h: h["sizes"].update(F=25), "is no array (25,) of <f8"),
        (lambda h: h["sizes"].pop("F"), "is no array (0,) of <f8"),
        (lambda h: h.pop("sizes"), "has no sizes"),
        (lambda h: h.pop("model_names"), "model_names are no list of names"),
        (lambda h: h.pop("numbers"), "has no numbers"),
        (lambda h: h["numbers"].update({"bayes.temperature": 0.0}), "is no number above 0"),
        (lambda h: h["numbers"].pop("means.strength"), "means.strength is missing"),
        (lambda h: h.update(rules=None), "has no list of rules"),
        (lambda h: h["rules"][1].update(value="("), "is no regular expression"),
        (lambda h: h["rules"][0].update(kind="guess"), "a rule by 'guess'"),
        (lambda h: h["rules"][0].pop("header"), "its Rule is incomplete"),
        (lambda h: h["rules"][0].update(class_name="x"), "a rule of no class of it, 'x'"),
        (lambda h: h["gate"].update(gain=float("inf")), "GateResult.gain is inf"),
        (lambda h: h["gate"].update(passed=1), "GateResult.passed is 1"),
        (lambda h: h.update(gate=None), "its GateResult is incomplete"),
        (lambda h: h["provenance"].update(more=1), "its Provenance is incomplete"),
    ],
)
def test_a_header_that_does_not_fit_is_refused_even_with_the_right_hash(path, change, said):
    with_header(path, change)
    refused(path, said)


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"[" * 100_000, b"\xff", b'{"version": true}'])
def test_what_is_no_header_is_refused(path, text):
    write_entries(path, entries(path) | {"header.json": text})
    router, faults = read(path)
    assert router is None and len(faults) == 1


def test_a_zip_without_a_header_is_refused(path):
    parts = entries(path)
    parts.pop("header.json")
    write_entries(path, parts)
    refused(path, "it has no header")


# ---- The version ---------------------------------------------------------------------------------

VERSION_1 = "654daa8f09ac47b938f07fd673a9ba572af7f20e31f484185130662dc75e81e5"


def test_the_version_stands_for_how_prompts_are_read():
    """If this fails, prompts are read differently: raise VERSION, then note the new digest."""
    texts = ("Add 12 + 7.5, \\frac{1}{2}!\n(A) Why? “Ünïcode” 漢字 {code();}", "", "word " * 400)
    digest = sha256(json.dumps(FEATURE_NAMES).encode())
    digest.update(np.round(surface(texts), 6).astype("<f8").tobytes())
    for text in texts:
        digest.update(word_buckets(text, 1 << 14).astype("<i8").tobytes())
    assert (files_router.VERSION, digest.hexdigest()) == (1, VERSION_1)
