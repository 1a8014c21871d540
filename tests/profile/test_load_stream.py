"""Event streams: any cutting of the bytes gives the same events; what is measured of them."""

import itertools
import json
import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.profile.load.stream import EventParser, Stream, message

EXAMPLES = settings(max_examples=300, deadline=None, derandomize=True)
ANYTHING = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=12)
LINES = st.one_of(
    st.sampled_from(["", "", "data", "data:", ": ping", "event: error", "id:1", "data:  two"]),
    ANYTHING,
    ANYTHING.map("data: {}".format),
    ANYTHING.map("data:{}".format),
)


def by_definition(text: str) -> list[str]:
    """The payloads of a whole stream, by the words of the standard, for short streams."""
    events, data = [], []
    for line in [*re.split("\r\n|\n|\r", text), "", ""]:
        if line == "":
            payload = "\n".join(data)
            events += [payload] if payload else []
            data = []
        elif line.split(":", 1)[0] == "data" and ":" in line:
            value = line.split(":", 1)[1]
            data.append(value[1:] if value.startswith(" ") else value)
    return events


def fed(pieces: list[bytes]) -> list[bytes]:
    parser = EventParser()
    events = [event for piece in pieces for event in parser.feed(piece)]
    return events + parser.close()


@EXAMPLES
@given(
    lines=st.lists(st.tuples(LINES, st.sampled_from(["\n", "\r\n", "\r", "\n\n"])), max_size=12),
    cuts=st.lists(st.integers(0, 200), max_size=12),
)
def test_any_cutting_of_the_bytes_gives_the_same_events(lines, cuts):
    text = "".join(line + end for line, end in lines)
    data = text.encode()
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[a:b] for a, b in itertools.pairwise(places)]
    expected = [event.encode() for event in by_definition(text)]
    assert fed([data]) == expected
    assert fed(pieces) == expected
    assert fed([data[i : i + 1] for i in range(len(data))]) == expected


def test_an_event_is_given_as_soon_as_its_blank_line_is_there():
    parser = EventParser()
    assert parser.feed(b"data: a\n") == []
    assert parser.feed(b"\nda") == [b"a"]
    assert parser.feed(b"ta: b\r\n\r\n: ping\n\n") == [b"b"]
    assert parser.close() == []


def chunk(text: str | None = None, *, reason: str | None = None, **more: object) -> bytes:
    part = {} if text is None else {"text": text}
    value = {"choices": [{"index": 0, **part, "finish_reason": reason}], **more}
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def delta(**content: object) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": content}]}).encode() + b"\n\n"


USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":11,"completion_tokens":3}}\n\n'
DONE = b"data: [DONE]\n\n"


def read(*pieces: bytes) -> Stream:
    """A stream whose k-th piece came at k seconds."""
    stream = Stream()
    for k, piece in enumerate(pieces):
        stream.feed(piece, float(k))
    stream.close(float(len(pieces)))
    return stream


def test_a_completion_is_timed_and_counted():
    stream = read(chunk("a"), chunk("b"), chunk("c", reason="length"), USAGE, DONE)
    assert (stream.first_s, stream.last_s, stream.error) == (0.0, 2.0, "")
    assert stream.counts() == (11, 3)


@pytest.mark.parametrize(
    "first", [{"content": "a"}, {"reasoning_content": "a"}, {"reasoning": "a"}], ids=str
)
def test_the_first_token_is_the_first_text(first):
    """The chunk that names the role, and empty ones, bring nothing."""
    empty = [delta(role="assistant", content=""), delta(content=None), delta(reasoning="")]
    stream = read(*empty, delta(**first), delta(content="b"), DONE)
    assert (stream.first_s, stream.last_s) == (3.0, 4.0)


def test_text_that_looks_like_json_fools_nobody():
    texts = ['"usage": {"prompt_tokens": 9}', '"error"', '"choices": []', "data: [DONE]\n\n"]
    stream = read(*[chunk(text) for text in texts], chunk("!", reason="stop"), USAGE)
    assert (stream.first_s, stream.last_s, stream.error) == (0.0, 4.0, "")
    assert stream.counts() == (11, 3)


@pytest.mark.parametrize("spaced", [True, False])
def test_usage_is_found_wherever_it_stands(spaced):
    last = {"choices": [{"text": "c", "finish_reason": "stop"}]}
    counts = {"usage": {"prompt_tokens": 4, "completion_tokens": 2}}
    separators = (", ", " : ") if spaced else (",", ":")
    inside = json.dumps(last | counts, separators=separators).encode()
    assert read(chunk("a", usage=None), b"data: " + inside + b"\n\n").counts() == (4, 2)
    growing = [chunk("a", usage={"prompt_tokens": 4, "completion_tokens": n}) for n in (1, 2)]
    assert read(*growing, DONE).counts() == (4, 2)


@pytest.mark.parametrize(
    "usage",
    ["null", "{}", '{"prompt_tokens":1}', '{"prompt_tokens":"1","completion_tokens":2}', "7",
     '{"prompt_tokens":0,"completion_tokens":2}', '{"prompt_tokens":1,"completion_tokens":-2}'],
)  # fmt: skip
def test_usage_without_counts_is_no_usage(usage):
    assert read(chunk("a"), f'data: {{"choices":[],"usage":{usage}}}\n\n'.encode()).counts() is None


@pytest.mark.parametrize(
    ("pieces", "error"),
    [
        ([chunk("a"), USAGE], "ended without"),
        ([chunk("a")], "ended without"),
        ([], "ended without"),
        ([chunk("a"), b'data: {"error": {"message": "no memory"}}\n\n'], "no memory"),
        ([chunk("a"), b'data: {"error":"no memory"}\n\n', DONE], "no memory"),
        ([b'data: {"object":"error","message":"no memory"}\n\n', DONE], "no memory"),
        ([b"event: error\ndata: no memory\n\n", DONE], "not a JSON object: no memory"),
        ([chunk("a"), b"data: {\n\n", DONE], "not a JSON object"),
        ([chunk("a"), chunk("b", reason="abort"), USAGE, DONE], "gave up: finish_reason abort"),
        ([b'{"choices": [{"text": "all at once"}]}'], "ended without"),
        ([b"data: " + b"[" * 100_000 + b"\n\n", DONE], "not a JSON object"),
        ([b'data: {"choices":[{"text":"a"}],"error":"no memory"}\n\n', DONE], "no memory"),
    ],
)
def test_a_stream_that_is_not_right_is_told(pieces, error):
    assert error in read(*pieces).error


@pytest.mark.parametrize(
    "pieces",
    [
        [chunk("a"), DONE],
        [chunk("a", reason="stop")],
        [chunk("a", reason="length"), USAGE],
        [chunk("a"), b": ping\n\n", b'data: {"type":"ping"}\n\n', chunk(reason="stop")],
        [chunk("a", error=None), DONE],
        [chunk("a"), b"data: [DONE]"],
    ],
)
def test_a_stream_that_is_right_is_not_blamed(pieces):
    stream = read(*pieces)
    assert stream.error == ""
    assert stream.first_s == 0.0


@settings(max_examples=300, deadline=None, derandomize=True)
@given(payload=st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode)))
def test_no_payload_breaks_the_reader(payload):
    stream = read(b"data: " + payload + b"\n\n", chunk("a", reason="stop"))
    assert stream.last_s == 1.0
    assert not math.isnan(stream.first_s)


@pytest.mark.parametrize("value", ["7", "null", "[]", '{"choices":7}', '{"choices":[7]}',
                                   '{"choices":[{"delta":7}]}', '{"choices":{}}'])  # fmt: skip
def test_json_of_another_shape_has_no_text(value):
    assert math.isnan(read(f"data: {value}\n\n".encode(), DONE).first_s)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"error": {"message": "no  such\\nmodel", "code": 404}}', "no such model"),
        ('{"detail": "Unexpected fields: ignore_eos"}', "Unexpected fields: ignore_eos"),
        ('{"object": "error", "message": "too long"}', "too long"),
        ('{"detail": [{"loc": ["x"], "msg": "extra"}]}', "[{'loc': ['x'], 'msg': 'extra'}]"),
        ("<html>Bad gateway</html>", "<html>Bad gateway</html>"),
        ('{"odd": 1}', '{"odd": 1}'),
        ("", ""),
        ("x" * 1000, "x" * 197 + "..."),
    ],
)
def test_a_refusal_is_told_in_one_short_line(text, expected):
    assert message(text) == expected
