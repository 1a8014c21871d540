"""Signals of first answers against those of a plan's measurements, and what is hidden."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.profile.collect.client import _Chat, mean_logprob
from planner.quality.graders import found_answer
from planner.runtime.served import Usage
from planner.runtime.signals import SIGNALS, Test, judge
from planner.spec.workload import LENGTH_SIGNAL

FINE = {"prompt_tokens": 9, "completion_tokens": 20, "total_tokens": 29}
ANYTHING = {"length": -math.inf, "mean_logprob": -math.inf, "answered": -1.0}


def whole(text: str = "", logprobs: object = None, usage: object = FINE, **more: object) -> bytes:
    """An answer of chat that comes whole."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "logprobs": logprobs}
    return json.dumps({"id": "1", "choices": [choice], "usage": usage, **more}).encode()


def stream(pieces: list[tuple[str, float]], usage: object = FINE, end: str = "\n\n") -> bytes:
    """A stream of tokens with their log-probabilities, usage at its end."""
    chunks = [
        {
            "id": "1",
            "choices": [
                {
                    "index": 0,
                    "delta": {"content": text},
                    "logprobs": {"content": [{"token": text, "logprob": value}]},
                }
            ],
            "usage": None,
        }
        for text, value in pieces
    ]
    if usage is not None:
        chunks.append({"id": "1", "choices": [], "usage": usage})
    events = [f"data: {json.dumps(chunk)}" for chunk in chunks]
    return (end.join([": hello", *events, "data: [DONE]"]) + end).encode()


def is_good(answer: bytes, signal: str, below: float, is_stream: bool = False, **more) -> bool:
    test = Test(signal, below, more.get("grader", "exact"))
    return judge(answer, is_stream, test, hide_logprobs=False, hide_usage=False).is_good


def test_the_names_are_those_of_the_measurements():
    assert SIGNALS == (LENGTH_SIGNAL, "mean_logprob", "answered")


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(("below", "good"), [(-20.0, True), (-19.9, False), (-100.0, True)])
def test_length_is_minus_the_output_tokens(is_stream, below, good):
    answer = stream([("a", -0.1)]) if is_stream else whole("a")
    assert is_good(answer, "length", below, is_stream) is good


def test_length_by_characters_where_nobody_counts():
    assert is_good(whole("x" * 80, usage=None), "length", -20.0)
    assert not is_good(whole("x" * 84, usage=None), "length", -20.0)


tokens = st.lists(
    st.tuples(st.text(st.characters(codec="utf-8"), max_size=4), st.floats(-12, 0)),
    min_size=1,
    max_size=8,
)


@given(tokens, st.sampled_from(["\n\n", "\r\n\r\n"]))
def test_mean_logprob_is_what_the_collection_of_scores_wrote_down(pieces, end):
    answer = stream(pieces, end=end)
    chat = _Chat()
    chat.feed(answer)
    wrote = mean_logprob(chat._logprobs)
    assert wrote is not None
    assert is_good(answer, "mean_logprob", wrote, is_stream=True)
    assert not is_good(answer, "mean_logprob", math.nextafter(wrote, 1.0), is_stream=True)


def test_logprobs_of_completions_and_those_that_cannot_be():
    choice = {"text": "a b", "logprobs": {"token_logprobs": [None, -0.5, -1.5, -9999.0]}}
    answer = json.dumps({"choices": [choice]}).encode()
    assert is_good(answer, "mean_logprob", -1.0)
    assert not is_good(answer, "mean_logprob", -0.99)


@pytest.mark.parametrize("kind", ["numeric", "exact", "choice", "expression"])
@pytest.mark.parametrize("text", ["", "I do not know", "so 42", "the answer is B", r"\boxed{x+1}"])
def test_answered_is_what_the_grader_finds(kind, text):
    found = found_answer(kind, text) is not None
    assert is_good(whole(text), "answered", 0.5, grader=kind) is found


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize(
    "answer", [b"", b"<html>", b"[]", b'{"choices": 3}', b'{"error": {"message": "full"}}']
)
def test_an_answer_that_is_none_is_not_good(signal, answer):
    assert not is_good(answer, signal, ANYTHING[signal])


def test_without_its_signal_nobody_knows():
    assert not is_good(whole("a", logprobs=None), "mean_logprob", -math.inf)
    assert not is_good(b'data: {"error": "full"}\n\n', "length", -math.inf, is_stream=True)


class TestSeveral:
    """Answers to one prompt: the worst of them decides."""

    def answer(self, *values: float) -> bytes:
        choices = [
            {
                "index": k,
                "message": {"content": "so 42" if value > -1.0 else "no idea"},
                "logprobs": {"content": [{"logprob": value}]},
            }
            for k, value in enumerate(values)
        ]
        return json.dumps({"choices": choices, "usage": FINE}).encode()

    @pytest.mark.parametrize(
        ("values", "good"), [((-0.5, -0.6), True), ((-0.5, -1.5), False), ((-1.5, -0.1), False)]
    )
    def test_the_worst_of_them_decides(self, values, good):
        answer = self.answer(*values)
        assert is_good(answer, "mean_logprob", -1.0) is good
        assert is_good(answer, "answered", 0.5, grader="numeric") is good

    def test_their_length_is_that_of_one(self):
        answer = self.answer(-0.1, -0.1)  # 20 tokens together
        assert is_good(answer, "length", -10.0)
        assert not is_good(answer, "length", -9.9)

    def test_pieces_of_a_stream_are_told_apart(self):
        pieces = [(0, "so "), (1, "no"), (0, "42"), (1, " idea")]
        events = [
            json.dumps({"choices": [{"index": k, "delta": {"content": text}}]})
            for k, text in pieces
        ]
        whole_stream = "".join(f"data: {each}\n\n" for each in [*events, "[DONE]"]).encode()
        assert not is_good(whole_stream, "answered", 0.5, True, grader="numeric")


def test_an_answer_that_the_engine_gave_up_is_not_good():
    for reason, good in (("stop", True), ("length", True), ("abort", False), ("error", False)):
        choice = {"index": 0, "message": {"content": "so 42"}, "finish_reason": reason}
        answer = json.dumps({"choices": [choice], "usage": FINE}).encode()
        assert is_good(answer, "length", -math.inf) is good


def test_a_stream_without_its_end_is_not_good():
    answer = stream([("a", -0.1)])
    assert is_good(answer, "length", -math.inf, is_stream=True)
    assert not is_good(answer.replace(b"data: [DONE]\n\n", b""), "length", -math.inf, True)


class TestHidden:
    def seen(self, answer: bytes, is_stream: bool, **hidden: bool) -> bytes:
        hides = {"hide_logprobs": False, "hide_usage": False, **hidden}
        judged = judge(answer, is_stream, Test("length", -math.inf), **hides)
        assert judged.usage == Usage(9, 20)
        return judged.answer

    def test_only_the_chunk_that_tells_usage_is_hidden(self):
        first = b'data: {"choices": [], "prompt_filter_results": [1], "usage": null}\n\n'
        answer = stream([("a", -1)])
        seen = self.seen(first + answer, True, hide_usage=True)
        assert seen.startswith(first)
        assert b"completion_tokens" not in seen

    def test_nothing_is_touched_where_nothing_is_hidden(self):
        for answer, is_stream in (
            (whole("a", {"content": []}), False),
            (stream([("a", -1)]), True),
        ):
            assert self.seen(answer, is_stream) == answer

    def test_log_probabilities_of_a_whole_answer(self):
        answer = whole("a", {"content": [{"logprob": -1.0}]}, extra=[1.50])
        assert json.loads(self.seen(answer, False, hide_logprobs=True)) == json.loads(
            whole("a", None, extra=[1.50])
        )

    @pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n"])
    def test_log_probabilities_and_usage_of_a_stream(self, end):
        answer = stream([("a", -1.0), ("b\u2028\n", -2.0)], end=end)
        seen = self.seen(answer, True, hide_logprobs=True, hide_usage=True).decode()
        events = seen.split(end)
        assert events[0] == ": hello"
        assert events[-2:] == ["data: [DONE]", ""]
        chunks = [json.loads(event.removeprefix("data: ")) for event in events[1:-2]]
        assert [c["choices"][0]["delta"]["content"] for c in chunks] == ["a", "b\u2028\n"]
        assert [c["choices"][0]["logprobs"] for c in chunks] == [None, None]

    def test_the_cached_part_of_the_prompt_is_known(self):
        usage = {**FINE, "prompt_tokens_details": {"cached_tokens": 4}}
        test = Test("length", -math.inf)
        judged = judge(whole(usage=usage), False, test, hide_logprobs=False, hide_usage=False)
        assert judged.usage == Usage(9, 20, 4)
