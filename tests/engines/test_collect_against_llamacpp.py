"""`rb router collect` against llama.cpp: real answers, token counts and log-probabilities."""

import io
import json
from contextlib import redirect_stderr, redirect_stdout

import pytest

from planner.cli.app import run
from planner.files.prompts import read_prompt_scores

N, MAX_TOKENS, SAMPLES = 6, 12, 3


@pytest.fixture(scope="module")
def collected(llamacpp_url, tmp_path_factory):
    """A folder after a collection of a few samples at a temperature, and at none."""
    folder = tmp_path_factory.mktemp("collected")
    lines = [
        {"prompt_id": f"q{k}", "class": "words", "text": f"Say word {k}", "reference": "xyzzy"}
        for k in range(N)
    ]
    (folder / "p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "e.yaml").write_text(f"tiny-8b: {{url: {llamacpp_url}, served_model_name: tiny}}\n")
    for name, temperature in (("warm", "1.5"), ("cold", "0")):
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = run([
                "router", "collect", str(folder / name), "--prompts", str(folder / "p.jsonl"),
                "--endpoints", str(folder / "e.yaml"), "--grader", "exact", "--yes",
                "--max-tokens", str(MAX_TOKENS), "--samples", str(SAMPLES),
                "--temperature", temperature, "--concurrency", "4",
            ])  # fmt: skip
        assert code == 0, err.getvalue()
    return folder


@pytest.mark.parametrize("name", ["warm", "cold"])
def test_every_answer_has_its_tokens_and_log_probabilities(collected, name):
    lines = (collected / name / "answers.jsonl").read_text().splitlines()
    answers = [json.loads(line) for line in lines]
    assert len(answers) == N * SAMPLES
    for answer in answers:
        assert (answer["output_tokens"], answer["finish_reason"]) == (MAX_TOKENS, "length")
        assert answer["tokens_estimated"] is False
        assert answer["input_tokens"] >= 3
        assert answer["text"].strip()
        assert -20.0 < answer["mean_logprob"] < 0.0


def test_samples_agree_at_temperature_zero_and_hardly_above(collected):
    agreement = {}
    for name in ("warm", "cold"):
        faults = []
        table, _ = read_prompt_scores(collected / name / "scores.csv", {"words"}, 1.0, faults)
        assert faults == []
        assert table.score.tolist() == [0.0] * (N * SAMPLES)
        assert table.signals["answered"].tolist() == [1.0] * (N * SAMPLES)
        agreement[name] = table.signals["agreement"].mean()
    assert agreement["cold"] == 1.0
    assert agreement["warm"] < 0.7
