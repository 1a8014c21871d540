"""`rb serve` in front of real engines: four llama.cpp servers of two models, asked by real clients.

The plan is that of the demo, one of its pools on two servers of the smaller model. What is served
is thousands of times smaller than what was planned: without serving.json no time counts.
"""

from __future__ import annotations

import asyncio
import functools
import json
import shutil
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from llamacpp import Replica
from prometheus_client.parser import text_string_to_metric_families
from serving import POOLS, ROUTES, Serving, engine, plan_folder, serving, until

openai = pytest.importorskip("openai")

SMALL, MIDDLE = "llama-3.1-8b", "llama-3.1-70b"  # what the plan calls the two models
PLACES = {POOLS[0]: (MIDDLE, 1), POOLS[1]: (SMALL, 2), POOLS[2]: (MIDDLE, 1)}
TURNS = [{"role": "user", "content": "Say a word"}]
ASKED = {"messages": TURNS, "max_tokens": 12, "temperature": 0.0, "seed": 1}
NUMBER = {
    "type": "json_schema",
    "json_schema": {
        "name": "number",
        "schema": {
            "type": "object",
            "properties": {"x": {"enum": [1, 2]}},
            "required": ["x"],
            "additionalProperties": False,
        },
    },
}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]


@dataclass
class Site:
    """The engines, and `rb serve` in front of them."""

    replicas: dict[str, list[Replica]]
    rb: Serving

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.rb.port}/v1"

    @property
    def engines(self) -> list[Replica]:
        return [replica for each in self.replicas.values() for replica in each]

    def client(self, kind: type = openai.OpenAI, **options: object):
        return kind(base_url=self.url, api_key="none", max_retries=0, timeout=60, **options)

    def states(self) -> dict[str, str]:
        """How `rb serve` sees each instance."""
        return {row["instance"]: row["state"] for row in self.rows()}

    def rows(self) -> list[dict]:
        return json.loads(self.rb.get("/rb/status")[1])["instances"]

    def n_in_flight(self) -> int:
        """How many requests `rb serve` has at the engines."""
        return sum(row["n_in_flight"] for row in self.rows())

    def n_processing(self) -> int:
        """How many requests the engines say that they work on."""
        return sum(int(sample(engine, "llamacpp:requests_processing")) for engine in self.engines)


def sample(engine: Replica, name: str) -> float:
    with urllib.request.urlopen(f"{engine.url}/metrics", timeout=10) as page:
        families = text_string_to_metric_families(page.read().decode())
        return next(s.value for f in families for s in f.samples if s.name == name)


@pytest.fixture(scope="module")
def site(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    import tiny_model

    made = tmp_path_factory.mktemp("middle")
    files = {SMALL: tiny_gguf, MIDDLE: tiny_model.make(made, tiny_model.MIDDLE)}
    replicas = {
        pool: [Replica(files[model], slots=4, alias=model) for _ in range(n)]
        for pool, (model, n) in PLACES.items()
    }
    with ExitStack() as stack:
        for replica in (replica for each in replicas.values() for replica in each):
            stack.callback(replica.kill)
            replica.start()
        for replica in (replica for each in replicas.values() for replica in each):
            replica.wait()
        folder = plan_folder(tmp_path_factory.mktemp("served") / "plan", "")
        (folder / "endpoints.yaml").write_text(
            json.dumps(
                {
                    pool: [{"url": e.url, "served_model_name": e.alias} for e in each]
                    for pool, each in replicas.items()
                }
            )
        )
        rb = stack.enter_context(serving(folder))
        yield Site(replicas, rb)


# ---- Clients -------------------------------------------------------------------------------------


def test_openai_gets_what_the_engine_says(site):
    """The same words as from the engine itself, whole and streamed, and the same usage."""
    own = openai.OpenAI(base_url=f"{site.replicas[POOLS[1]][0].url}/v1", api_key="none")
    said = own.chat.completions.create(model="any", **ASKED)
    client = site.client()
    whole = client.chat.completions.with_raw_response.create(model=SMALL, **ASKED)
    assert whole.headers["x-rb-pool"] == POOLS[1]
    assert whole.headers["x-rb-plan"] == json.loads(ROUTES.read_text())["plan_hash"][:12]
    assert whole.parse().choices == said.choices
    assert whole.parse().usage == said.usage
    for more in ({}, {"stream_options": {"include_usage": True}}):
        chunks = list(client.chat.completions.create(model=SMALL, stream=True, **ASKED, **more))
        pieces = [c.choices[0].delta.content or "" for c in chunks if c.choices]
        assert "".join(pieces) == said.choices[0].message.content
        assert len([piece for piece in pieces if piece]) == ASKED["max_tokens"]
        usages = [c.usage for c in chunks if c.usage]
        assert usages == ([said.usage] if more else [])
    own.close()
    client.close()


def test_openai_completions_and_models(site):
    with site.client() as client:
        text = client.completions.create(model=MIDDLE, prompt="A word", max_tokens=5)
        assert text.usage.completion_tokens == 5
        assert text.choices[0].text
        names = {each.id for each in client.models.list()}
        assert {"rb/auto", "rb/gsm", SMALL, MIDDLE, *POOLS} <= names


def test_json_and_tools_are_obeyed_by_the_engine(site):
    with site.client() as client:
        asked = {**ASKED, "max_tokens": 100, "model": "rb/gsm"}
        answer = client.chat.completions.create(**asked, response_format=NUMBER)
        assert json.loads(answer.choices[0].message.content)["x"] in (1, 2)
        assert client.chat.completions.create(**asked, tools=TOOLS).choices


def test_openai_raises_what_it_should(site):
    with site.client() as client:
        with pytest.raises(openai.NotFoundError) as unknown:
            client.chat.completions.create(model="gpt-4", **ASKED)
        assert unknown.value.code == "model_not_found"
        long = {**ASKED, "messages": [{"role": "user", "content": "word " * 4000}]}
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(model="rb/auto", **long)
        assert refused.value.type == "exceed_context_size_error"  # llama.cpp's own words
        with pytest.raises(openai.InternalServerError) as none:
            client.embeddings.create(model=SMALL, input="x")
        assert none.value.status_code == 501
    assert set(site.states().values()) == {"up"}  # to refuse is no failure


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("streams", [False, True])
def test_curl(site, streams):
    body = json.dumps({"model": "rb/crux", "stream": streams, **ASKED})
    ran = subprocess.run(
        ["curl", "-sSN", "-i", f"{site.url}/chat/completions", "-d", body,
         "-H", "Content-Type: application/json"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    head, _, rest = ran.stdout.partition("\n\n")
    assert head.startswith("HTTP/1.1 200")
    assert f"x-rb-pool: {POOLS[2]}" in head  # the only one of this class
    if streams:
        events = [line for line in rest.split("\n\n") if line]
        assert len(events) >= ASKED["max_tokens"] + 1
        assert all(event.startswith("data: ") for event in events)
        assert events[-1] == "data: [DONE]"
    else:
        assert json.loads(rest)["usage"]["completion_tokens"] == ASKED["max_tokens"]


def test_langchain(site):
    package = pytest.importorskip("langchain_openai")
    chat = package.ChatOpenAI(
        base_url=site.url, api_key="none", model="rb/auto", max_tokens=12, temperature=0.0
    )
    answer = chat.invoke("Say a word")
    assert answer.content
    assert answer.usage_metadata["output_tokens"] == 12
    assert "".join(chunk.content for chunk in chat.stream("Say a word")).strip()


def fields(body: bytes) -> dict[str, bytes]:
    """The fields of a request, each in the bytes that it came in."""
    import msgspec

    return {k: bytes(v) for k, v in msgspec.json.decode(body, type=dict[str, msgspec.Raw]).items()}


def test_what_a_client_asks_for_arrives_byte_for_byte(tmp_path):
    """As without `rb serve`, but for the name of the model, and the usage that it asks for."""
    asked = {
        **ASKED,
        "messages": [{"role": "user", "content": "\u00e9\U0001f600 \u2028 </script>"}],
        "tools": TOOLS,
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "response_format": NUMBER,
        "temperature": 0.30000000000000004,
        "seed": 2**53 + 1,
        "extra_body": {"no_such_field": {"b": [1, {}], "a": None}, "top_k": 1e2, "": "x"},
    }
    usage = {"stream_options": {"include_usage": True, "no_such_option": 1}}
    folder = tmp_path / "plan"
    with engine() as upstream, serving(plan_folder(folder, upstream.url)) as rb:
        for url in (upstream.url, f"http://127.0.0.1:{rb.port}"):
            with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
                chat = client.chat.completions
                chat.create(model="rb/crux", **asked)
                list(chat.create(model="rb/crux", stream=True, **asked))
                list(chat.create(model="rb/crux", stream=True, **usage, **asked))
    bodies = [fields(body) for body in upstream.bodies]
    for k, (sent, came) in enumerate(zip(bodies[:3], bodies[3:], strict=True)):
        assert {*sent} >= {"messages", "tools", "response_format", "no_such_field", "top_k", ""}
        expected = {**sent, "model": json.dumps(POOLS[2]).encode()}
        if k == 1:
            assert json.loads(came["stream_options"]) == {"include_usage": True}
            expected["stream_options"] = came["stream_options"]
        assert came == expected


# ---- The plan ------------------------------------------------------------------------------------


async def pools_asked(site: Site, n: int, model: str) -> list[tuple[str, str]]:
    """Pool and instance of each of so many requests, eight at a time."""
    places = asyncio.Semaphore(8)
    async with site.client(openai.AsyncOpenAI) as client:

        async def ask(k: int) -> tuple[str, str]:
            async with places:
                asked = {**ASKED, "max_tokens": 4 + k % 5, "model": model, "stream": k % 2 == 0}
                got = await client.chat.completions.with_raw_response.create(**asked)
                if asked["stream"]:
                    assert len([c async for c in got.parse() if c.choices]) > asked["max_tokens"]
                else:
                    assert got.parse().usage.completion_tokens == asked["max_tokens"]
                return got.headers["x-rb-pool"], got.headers["x-rb-instance"]

        return list(await asyncio.gather(*(ask(k) for k in range(n))))


@pytest.mark.parametrize(
    ("n", "class_name"),
    [
        (100, "gsm"),
        pytest.param(1000, "gsm", marks=pytest.mark.slow),
        pytest.param(1000, "math-l5", marks=pytest.mark.slow),
    ],
)
def test_shares_are_those_of_the_plan(site, n, class_name):
    planned = json.loads(ROUTES.read_text())["classes"][class_name]
    before = {e.url: sample(e, "llamacpp:n_decode_total") for e in site.engines}
    seen = asyncio.run(pools_asked(site, n, f"rb/{class_name}"))
    pools = Counter(pool for pool, _ in seen)
    assert sum(pools.values()) == n
    for each in planned:
        assert abs(pools[each["pool"]] / n - each["share"]) <= 0.01
    instances = Counter(instance for _, instance in seen)
    assert len(instances) == 4  # both servers of the small model too
    for each in site.engines:
        assert sample(each, "llamacpp:n_decode_total") > before[each.url]


# ---- Faults --------------------------------------------------------------------------------------


def test_who_leaves_frees_the_engine(site):
    """Streams only: llama.cpp goes on with what it generates whole, whoever has left."""
    line = site.rb.connection()
    asked = {**ASKED, "model": POOLS[0], "max_tokens": 1900, "stream": True}
    line.request("POST", "/v1/chat/completions", json.dumps(asked))
    answer = line.getresponse()
    assert answer.fp.read1()
    assert (site.n_processing(), site.n_in_flight()) == (1, 1)
    left_s = time.monotonic()
    answer.close()
    line.close()
    until(lambda: site.n_in_flight() == 0, "nothing is in flight")
    until(lambda: site.n_processing() == 0, "the engine stops")
    assert time.monotonic() - left_s < 1.0  # the whole answer takes seconds


@dataclass
class Story:
    """What became of one streamed request in the middle of a fault."""

    asked_s: float
    instance: str = ""
    n_pieces: int = 0
    error: str = ""


async def traffic(site: Site, stories: list[Story], is_over: Callable[[], bool]) -> None:
    """Six clients that stream one answer after another for as long as nobody says stop."""

    async def one(client) -> None:
        while not is_over():
            stories.append(story := Story(time.monotonic()))
            asked = {**ASKED, "model": SMALL, "max_tokens": 40, "stream": True}
            try:
                got = await client.chat.completions.with_raw_response.create(**asked)
                story.instance = got.headers["x-rb-instance"]
                async for chunk in got.parse():
                    story.n_pieces += bool(chunk.choices and chunk.choices[0].delta.content)
            except Exception as error:  # clients differ in what they make of a stream that is cut
                story.error = repr(error)

    async with site.client(openai.AsyncOpenAI) as client:
        await asyncio.gather(*(one(client) for _ in range(6)))


@pytest.mark.slow
def test_a_server_that_dies_costs_only_what_it_had_begun(site):
    """Killed in the middle of traffic, ejected, started again and back."""
    pool = POOLS[1]
    victim, name = site.replicas[pool][1], f"{pool}/1"
    stories: list[Story] = []
    moments: dict[str, float] = {}

    def n_of(instance: str, since: str) -> int:
        return sum(s.instance == instance and s.asked_s > moments[since] for s in stories)

    async def play() -> None:
        over = asyncio.Event()
        clients = asyncio.create_task(traffic(site, stories, over.is_set))
        await reached(lambda: len(stories) > 60)
        moments["killed"] = time.monotonic()
        await asyncio.to_thread(victim.kill)
        await reached(lambda: site.states()[name] in ("ejected", "half-open"))
        moments["ejected"] = time.monotonic()
        await asyncio.sleep(2.0)
        moments["started"] = time.monotonic()
        await asyncio.to_thread(victim.start)
        await reached(lambda: site.states()[name] == "slow start")
        moments["back"] = time.monotonic()
        await reached(lambda: n_of(name, "back") > 0)
        over.set()
        await clients

    async def reached(is_so: Callable[[], bool]) -> None:
        end_s = time.monotonic() + 40.0
        while not await asyncio.to_thread(is_so):
            assert time.monotonic() < end_s
            await asyncio.sleep(0.02)

    n_errors = functools.partial(site.rb.count, "rb_requests_total", outcome="error", rb_pool=pool)
    n_before = n_errors()
    asyncio.run(play())
    cut = [s for s in stories if s.error]
    assert all(s.instance == name for s in cut), cut  # the answer had begun: its head was there
    assert len(cut) <= 6 and all(s.asked_s < moments["ejected"] for s in cut)
    assert all(s.n_pieces == 40 for s in stories if not s.error)
    ejected, started = moments["ejected"], moments["started"]
    between = [s for s in stories if ejected < s.asked_s < started]
    assert between and {s.instance for s in between} == {f"{pool}/0"}
    assert n_errors() - n_before == len(cut)
