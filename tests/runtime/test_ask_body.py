"""Bodies: what is not needed goes on byte for byte, what is needed is found."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.runtime.ask import Refusal
from planner.runtime.body import Call, read_call

CHAT, TEXT, VECTORS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"


def call_of(body: object, path: str = CHAT) -> Call:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    call = read_call(path, text)
    assert isinstance(call, Call)
    return call


def test_only_the_model_is_another_one():
    body = (
        b'{ "model" : "rb/auto", "tools":[ {"type" : "function","function":{"name":"f",'
        b'"parameters":{"a" : 1.00}}} ], "response_format" : {"type": "json_object"},'
        b'"messages":[{"role":"user","content":"h\\u00e9"}], "unheard_of": 1e400, "seed":7 }'
    )
    sent = call_of(body).encoded("qwen")
    assert sent.startswith(b'{"model":"qwen"')
    for kept in (
        b'[ {"type" : "function","function":{"name":"f","parameters":{"a" : 1.00}}} ]',
        b'"response_format":{"type": "json_object"}',
        b'[{"role":"user","content":"h\\u00e9"}]',
        b'"unheard_of":1e400',
    ):
        assert kept in sent


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)
OURS = ("model", "stream", "stream_options", "logprobs")


@given(
    st.dictionaries(st.text(max_size=6).filter(lambda name: name not in OURS), values, max_size=6),
    st.booleans(),
)
@settings(max_examples=30)
def test_all_other_fields_stay(fields, streams):
    call = call_of({**fields, "model": "rb/auto", "stream": streams})
    sent = json.loads(call.encoded("x", usage=streams))
    told = {"stream_options": {"include_usage": True}} if streams else {}
    assert sent == {**fields, "model": "x", "stream": streams, **told}


@pytest.mark.parametrize(
    ("options", "asked", "sent"),
    [
        (None, False, {"include_usage": True}),
        ({}, False, {"include_usage": True}),
        ({"include_usage": False, "extra": [1]}, False, {"include_usage": True, "extra": [1]}),
        ({"include_usage": True, "extra": 2}, True, {"include_usage": True, "extra": 2}),
    ],
)
def test_usage_is_asked_for_once(options, asked, sent):
    body = {"model": "m", "stream": True, "messages": []}
    if options is not None:
        body["stream_options"] = options
    call = call_of(body)
    assert call.usage_asked is asked
    assert json.loads(call.encoded("m", usage=True))["stream_options"] == sent


def test_an_answer_that_comes_whole_tells_its_usage_by_itself():
    call = call_of({"model": "m", "stream_options": {"include_usage": True}})
    assert not call.streams
    assert not call.usage_asked


@pytest.mark.parametrize(
    ("path", "wanted"), [(CHAT, True), (TEXT, 1)], ids=["chat", "text_completion"]
)
def test_logprobs_are_asked_for_as_each_interface_writes_them(path, wanted):
    call = call_of({"model": "m", "prompt": "x"}, path)
    assert json.loads(call.encoded("m", logprobs=True))["logprobs"] is not None
    assert json.loads(call.encoded("m", logprobs=True))["logprobs"] == wanted
    assert not call.logprobs_asked
    assert call_of({"model": "m", "logprobs": wanted}, path).logprobs_asked
    assert not call_of({"model": "m", "logprobs": None}, path).logprobs_asked


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        (b"{", "invalid_body", "not a JSON object"),
        (b"[1]", "invalid_body", "not a JSON object"),
        (b'{"model": "m\xff"}', "invalid_body", "model"),
        (b"{}", "invalid_body", "model is missing"),
        (b'{"model": 3}', "invalid_body", "model must be a name"),
        (b'{"model": ""}', "invalid_body", "model must be a name"),
        (b'{"model": "m", "stream": "yes"}', "invalid_body", "stream must be true or false"),
    ],
)
def test_what_cannot_be_read_is_refused(body, code, says):
    refusal = read_call(CHAT, body)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code) == (400, code)
    assert says in refusal.message


@pytest.mark.parametrize("field", ["messages", "max_tokens", "unheard_of", "stream_options"])
def test_a_body_too_deep_to_be_read_is_refused(field):
    depth = 100_000
    body = f'{{"model": "m", "stream": true, "{field}": {"[" * depth}{"]" * depth}}}'.encode()
    refusal = read_call(CHAT, body)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code) == (400, "invalid_body")


def test_a_prompt_too_deep_to_be_read_is_for_the_engine():
    """What the frames below leave room for at first, those of a later look may not."""
    deep = b'{"model": "m", "messages": ' + b"[" * 700 + b"]" * 700 + b"}"
    call = read_call(CHAT, deep)
    assert isinstance(call, Call)

    def look(n_frames: int) -> float:
        return call.prompt.tokens if n_frames == 0 else look(n_frames - 1)

    assert look(300) == 1400 / 4


@pytest.mark.parametrize("raw", ["true", "false", "null"])
def test_stream_may_be_null(raw):
    call = read_call(CHAT, f'{{"model": "m", "stream": {raw}}}'.encode())
    assert isinstance(call, Call)
    assert call.streams is (raw == "true")


@pytest.mark.parametrize(
    ("limits", "found"),
    [
        ({}, None),
        ({"max_tokens": 5}, 5),
        ({"max_tokens": 5, "max_completion_tokens": 9}, 9),
        ({"max_tokens": 5, "max_completion_tokens": None}, 5),
        ({"max_tokens": "many"}, None),
        ({"max_tokens": 0}, None),
        ({"max_tokens": 10**400}, 1 << 40),
    ],
)
def test_the_limit_of_the_answer(limits, found):
    assert call_of({"model": "m", **limits}).max_tokens == found


def test_a_router_sees_the_turns_and_not_the_instructions():
    parts = [
        {"type": "text", "text": "look:"},
        {"type": "image_url", "image_url": {"url": "data:" + "A" * 4000}},
        {"type": "text", "text": "what is it?"},
    ]
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "developer", "content": [{"type": "text", "text": "no jokes"}]},
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
        {"role": "user", "content": parts},
    ]
    prompt = call_of({"model": "m", "messages": messages}).prompt
    assert prompt.asked == "hello\n\nlook:\n\nwhat is it?"
    assert prompt.system == "be brief\nno jokes"
    assert prompt.tokens < 100  # a picture is no text


def test_prompts_are_counted_by_their_characters():
    text = "four" * 100
    assert call_of({"model": "m", "prompt": text}, TEXT).prompt == (text, "", 100.0, 1)
    assert call_of({"model": "m", "prompt": [text, text]}, TEXT).prompt.tokens == 200.0
    assert call_of({"model": "m", "prompt": [1, 2, 3]}, TEXT).prompt == ("", "", 3.0, 1)
    assert call_of({"model": "m", "prompt": [[1, 2], [3]]}, TEXT).prompt.tokens == 3.0
    assert call_of({"model": "m", "input": [text]}, VECTORS).prompt.tokens == 100.0
    chat = {"model": "m", "messages": [{"role": "user", "content": text}]}
    tools = [{"type": "function", "function": {"name": "f" * 400}}]
    assert call_of(chat).prompt.tokens == 104.0
    assert call_of({**chat, "tools": tools}).prompt.tokens > 200.0


@pytest.mark.parametrize(
    "body", [{"messages": "hi"}, {"messages": [{"content": 3}]}, {}, {"messages": [[1]]}]
)
def test_strange_prompts_are_for_the_engine_to_judge(body):
    call = call_of({"model": "m", **body})
    assert call.prompt.asked == ""
    assert json.loads(call.encoded("m")) == {"model": "m", **body}


def test_the_user_of_a_client():
    assert call_of({"model": "m", "user": "u1"}).user == "u1"
    assert call_of({"model": "m", "user": 7}).user is None
    assert call_of({"model": "m"}).user is None


@pytest.mark.parametrize("strange", [{"text": None}, {"type": "input_audio", "text": None}])
def test_a_part_without_text_does_not_make_text_of_a_picture(strange):
    picture = {"type": "image_url", "image_url": {"url": "data:" + "A" * 40_000}}
    turn = {"role": None, "content": ["hello", strange, picture]}
    assert call_of({"model": "m", "messages": [turn]}).prompt.tokens < 100


@pytest.mark.parametrize(
    ("path", "fields", "n"),
    [
        (CHAT, {}, 1),
        (CHAT, {"n": None}, 1),
        (CHAT, {"n": 3}, 3),
        (CHAT, {"n": "x"}, 1),
        (CHAT, {"n": -5}, 1),
        (CHAT, {"n": 10**30}, 128),
        (TEXT, {"prompt": "a", "n": 2, "best_of": 5}, 5),
        (TEXT, {"prompt": ["a", "b"], "n": 2}, 4),
        (TEXT, {"prompt": [1, 2, 3]}, 1),
        (TEXT, {"prompt": [[1, 2], [3]]}, 2),
        (TEXT, {"prompt": []}, 1),
        (VECTORS, {"input": ["a", "b"]}, 1),
    ],
)
def test_how_many_answers_are_asked_for(path, fields, n):
    assert call_of({"model": "m", **fields}, path).n_answers == n
