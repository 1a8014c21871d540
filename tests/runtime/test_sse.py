"""What is seen in answers while they pass, and what is taken out of them."""

from __future__ import annotations

import json
from itertools import pairwise
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.runtime.served import Usage
from planner.runtime.sse import MOST_USAGE_BYTES, Events, find_usage


def event(data: object, end: str = "\n\n") -> bytes:
    return b"data: " + json.dumps(data).encode() + end.encode()


def delta(text: str, **more: object) -> dict[str, object]:
    return {"id": "c", "choices": [{"index": 0, "delta": {"content": text}}], **more}


COUNTS = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
LAST = {"id": "c", "choices": [], "usage": COUNTS}
DONE = b"data: [DONE]\n\n"


def passed(stream: bytes, cuts: list[int], *, drops_usage: bool) -> tuple[bytes, Events]:
    """What goes on of a stream that arrives cut at some places, and the events as seen."""
    events = Events(drops_usage=drops_usage)
    places = [0, *sorted(c % (len(stream) + 1) for c in cuts), len(stream)]
    pieces = [stream[a:b] for a, b in pairwise(places) if a < b]
    sent = b"".join(events.feed(piece) for piece in pieces) + events.flush()
    return sent, events


TEXTS = st.lists(
    st.one_of(
        st.text(max_size=20),
        st.sampled_from(
            ['"usage":{"prompt_tokens":1}', "[DONE]", "\n\n", "data:", "}{", "\r\n\r\n"]
        ),
    ),
    max_size=6,
)
CUTS = st.lists(st.integers(0, 5000), max_size=12)
ENDS = st.sampled_from(["\n\n", "\r\n\r\n"])


@given(TEXTS, CUTS, ENDS)
def test_the_extra_event_is_taken_out_wherever_the_stream_is_cut(texts, cuts, end):
    kept = b"".join(event(delta(text), end) for text in texts)
    done = DONE.replace(b"\n\n", end.encode())
    sent, events = passed(kept + event(LAST, end) + done, cuts, drops_usage=True)
    assert sent == kept + done
    assert events.usage == Usage(7, 3)
    assert events.is_done


@given(TEXTS, CUTS, ENDS)
def test_where_the_client_asked_every_byte_goes_on_as_it_came(texts, cuts, end):
    stream = b"".join(event(delta(text), end) for text in texts) + event(LAST, end) + DONE
    events = Events(drops_usage=False)
    places = [0, *sorted(c % (len(stream) + 1) for c in cuts), len(stream)]
    for a, b in pairwise(places):
        assert events.feed(stream[a:b]) == stream[a:b]  # nothing is held back
    assert events.flush() == b""
    assert events.usage == Usage(7, 3)
    assert events.is_done


@given(st.binary(max_size=300), CUTS, st.booleans())
def test_no_stream_whatsoever_loses_or_gains_a_byte(stream, cuts, drops_usage):
    assert passed(stream, cuts, drops_usage=drops_usage)[0] == stream


@given(CUTS)
def test_an_event_that_is_too_long_to_be_of_usage_is_not_held_back(cuts):
    long = event(delta("x" * 3 * MOST_USAGE_BYTES))
    stream = event(delta("a")) + long + event(LAST) + DONE
    cuts = [c * 20 for c in cuts]
    sent, events = passed(stream, cuts, drops_usage=True)
    assert sent == event(delta("a")) + long + DONE
    assert events.usage == Usage(7, 3)
    events = Events(drops_usage=True)
    assert len(events.feed(long[: 2 * MOST_USAGE_BYTES])) == 2 * MOST_USAGE_BYTES


def test_only_the_end_of_an_event_that_has_not_ended_is_held_back():
    events = Events(drops_usage=True)
    a, b = event(delta("a")), event(delta("b"))
    assert events.feed(a + b[:10]) == a
    assert events.feed(b[10:]) == b
    assert events.feed(b) == b


def test_usage_within_the_last_content_stays():
    """Some engines tell it in the event that ends the text; only the event is ours to drop."""
    last = event(delta("b", usage=COUNTS))
    sent, events = passed(event(delta("a")) + last + DONE, [], drops_usage=True)
    assert sent == event(delta("a")) + last + DONE
    assert events.usage == Usage(7, 3)


def test_usage_that_grows_is_read_as_it_was_last():
    stream = b"".join(
        event(delta("a", usage={"prompt_tokens": 7, "completion_tokens": k})) for k in range(1, 5)
    )
    assert passed(stream, [], drops_usage=False)[1].usage == Usage(7, 4)


def test_an_answer_begins_with_its_first_event_and_not_with_a_comment():
    events = Events(drops_usage=False)
    events.feed(b": ping\n\n")
    assert not events.has_begun
    events.feed(event(delta("")))
    assert events.has_begun


@pytest.mark.parametrize(
    ("text", "usage"),
    [
        ('{"usage":{"prompt_tokens":5,"completion_tokens":2}}', Usage(5, 2)),
        ('{"usage" : {"completion_tokens":2, "prompt_tokens":5}, "x": 1}', Usage(5, 2)),
        ('{"usage":\n{"prompt_tokens":5,"total_tokens":5},"data":[]}', Usage(5, 0)),
        (
            '{"usage":{"prompt_tokens":5,"completion_tokens":2,'
            '"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"x":{}}}}',
            Usage(5, 2, 4),
        ),
        ('{"usage":{"prompt_tokens":5,"prompt_tokens_details":null}}', Usage(5, 0)),
        ('{"usage":null}', None),
        ('{"usage":{}}', None),
        ('{"usage":{"prompt_tokens":"5"}}', None),
        ('{"usage":{"prompt_tokens":5', None),
        ('{"usage":{"prompt_tokens":5,"completion_tokens":-2}}', None),
        ('{"usage"', None),
        ('{"a":"usage"}', None),
        ("", None),
    ],
)
def test_usage_is_found_in_plain_answers_(text: str, usage: Usage | None):
    assert find_usage(text.encode()) == usage


@pytest.mark.parametrize("brace", [b"{}", b"[]"], ids=["braces", "brackets"])
def test_braces_without_sense_cost_no_time(brace: bytes):
    deep = brace[:1] * 1_000_000 + brace[1:] * 1_000_000
    before_s = process_time()
    assert find_usage(b'{"usage":{"a":' + deep + b"}}") is None
    assert find_usage(b'{"usage":{"a":' + deep[995_000:-995_000] + b"}}") is None
    assert process_time() - before_s < 1.0  # squared time would take hours


def test_a_text_cannot_feign_usage():
    forged = '"usage":{"prompt_tokens":1,"completion_tokens":999999}'
    answer = {"usage": COUNTS, "choices": [{"message": {"content": forged}}]}
    assert find_usage(json.dumps(answer).encode()) == Usage(7, 3)
