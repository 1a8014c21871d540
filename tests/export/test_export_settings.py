from __future__ import annotations

from pathlib import Path

import pytest

from planner.errors import Fault
from planner.files.export_settings import read_export_settings
from planner.spec.export import ExportSettings


def read(folder: Path, text: str) -> tuple[ExportSettings | None, list[Fault]]:
    (folder / "export.yaml").write_text(text)
    faults: list[Fault] = []
    return read_export_settings(folder, None, faults), faults


def test_a_folder_may_do_without(tmp_path):
    faults: list[Fault] = []
    assert read_export_settings(tmp_path, None, faults) == ExportSettings()
    assert faults == []


def test_a_given_file_must_be_there(tmp_path):
    faults: list[Fault] = []
    assert read_export_settings(tmp_path, tmp_path / "mine.yaml", faults) is None
    assert [(f.what, f.fix) for f in faults] == [("file not found", "correct --settings")]


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("namespace: Prod_1\n", "namespace"),
        ("class_header: X-Class\n", "class_header"),  # HTTP/2 has them in lower case
        ("port: 70000\n", "port"),
        ("token_env: 1TOKEN\n", "token_env"),
        ("token_secret: {name: UPPER}\n", "token_secret.name"),
        ("images: {vlm: a/b}\n", "images.vlm"),
        ("models: {m: {weights: 'a b'}}\n", "models.m.weights"),
        ("models: {m: {weights: \"a\\nb\"}}\n", "models.m.weights"),
        ("models: {m: {weights: ./llama}}\n", "models.m.weights"),
        ("pools: {p: {weights: ~/llama}}\n", "pools.p.weights"),
        ("pools: {p: {gpu_memory_ratio: 1.5}}\n", "pools.p.gpu_memory_ratio"),
        ("pools: {p: {engine: tgi}}\n", "pools.p.engine"),
        ("pools: {p: {extra_args: [--a, '']}}\n", "pools.p.extra_args[1]"),
        ("pools: {p: {env: {A-B: c}}}\n", "pools.p.env.A-B"),
        ("pools: {p: {env: {MY_API_KEY: c}}}\n", "pools.p.env"),
        ("pools: {p: {extra_args: [--api-key=sesame]}}\n", "pools.p"),
        ("pools: {p: {extra_args: [--HF_token, sesame]}}\n", "pools.p"),
        ("pools: {p: {extra_args: [--port, '1']}}\n", "pools.p"),
        ("pools: {p: {extra_args: [--served_model_name=x]}}\n", "pools.p"),
        ("client_key_env: A-B\n", "client_key_env"),
        ("gpus: {g: {product: x}}\n", "gpus.g.product"),
        ("version: 2\n", "version"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_a_fault_at_its_place(tmp_path, text, field):
    settings, faults = read(tmp_path, text)
    assert settings is None
    assert [fault.field for fault in faults] == [field]
    assert all(fault.fix for fault in faults)
    assert "sesame" not in str(faults)


def test_all_faults_are_told_at_once(tmp_path):
    _, faults = read(tmp_path, "port: 0\nnamespace: A\nmodels: {m: {weigths: x}}\n")
    assert {fault.field for fault in faults} == {"port", "namespace", "models.m.weigths"}


def test_every_key_may_be_left_out():
    assert all(not field.is_required() for field in ExportSettings.model_fields.values())
