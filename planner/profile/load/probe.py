"""What can be known of an endpoint before any load: is it there, does it answer, what is it?

Each thing that would make measuring useless is a fault with its remedy. A missing /metrics page is
none: it only means that queues and the KV cache stay unseen.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from planner.errors import InputError
from planner.files.faults import unknown_name
from planner.metrics_page import EngineState, read_page
from planner.profile.load.client import Answer, Client, Endpoint, Outcome
from planner.profile.load.connections import reason
from planner.profile.load.prompts import Calibration, Lengths, PromptSource, calibrate

if TYPE_CHECKING:
    import aiohttp

GET_S = 10.0  # for the list of models and the /metrics page
FEW_TOKENS = 8  # asked for to see whether an answer streams
MISSED_RATIO = 0.1  # of the wanted answer length that is remarked on
PROBED_RATIOS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4)  # words per wanted token: some take two
_URL = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?(/[^\s#]*)?")
_NOT_ALLOWED = (401, 403)
_USAGE_FIX = "serve with usage in streams (stream_options.include_usage)"
_KEY_FIX = "give --api-key-env NAME, the name of the variable that holds the key"


@dataclass(frozen=True)
class Probed:
    """What was found out about an endpoint."""

    calibration: Calibration
    state: EngineState | None
    alone_s: float  # one request of the wanted lengths, with nothing else running
    notes: tuple[str, ...]


def checked_url(url: str) -> str:
    """Returns the URL of a server without a slash at its end.

    Raises:
        InputError: it is no http(s) URL, or holds a secret, which would end up in files.
    """
    if "@" in url or "?" in url:
        what = "must hold no user, password or query: it is written to a file"
        raise InputError.single("--url", "", what, _KEY_FIX)
    if not _URL.fullmatch(url):
        what = f"must be the address of a server, got {url[:200]!r}"
        raise InputError.single("--url", "", what, "give for example http://localhost:8000")
    return url.rstrip("/")


class Watch:
    """Looks at an endpoint's other pages; an async context manager with connections of its own."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Watch:
        """Returns the watch, ready to look."""
        import aiohttp

        key = self.endpoint.api_key
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=GET_S),
            headers={"Authorization": f"Bearer {key}"} if key else {},
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Returns nothing; closes the connections."""
        if self._session is not None:
            await self._session.close()

    async def state(self) -> EngineState | None:
        """Returns what the /metrics page says, None where there is none that is known."""
        status, text = await self.get("/metrics")
        return read_page(text) if status == 200 else None

    async def get(self, path: str) -> tuple[int, str]:
        """Returns (status, text) of a page of the server; status 0 and the reason where none is."""
        import aiohttp

        assert self._session is not None, "use the watch as a context manager"
        try:
            async with self._session.get(_root(self.endpoint.url) + path) as response:
                return response.status, (await response.read()).decode("utf-8", "replace")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return 0, reason(error)


async def probe(client: Client, watch: Watch, lengths: Lengths, seed: int) -> Probed:
    """Returns what an endpoint is and how it counts tokens; sends a handful of requests.

    Raises:
        InputError: it cannot be measured: not there, not allowed, another model, no streaming, no
            token counts, or prompts that it refuses.
    """
    endpoint = client.endpoint
    await _check_model(watch, endpoint)
    prompts = PromptSource(lengths, seed=seed)
    _answered(await client.probe(prompts.probe(1, FEW_TOKENS)), endpoint)
    notes = []
    if "ignore_eos" not in client.dialect.optional:
        notes.append("the server takes no ignore_eos: answers may end before the wanted length")
    calibration = await _calibrated(client, prompts)
    wanted = PromptSource(lengths, seed=seed, calibration=calibration)
    ask = wanted.ask(0)
    whole = _answered(await client.send(ask), endpoint)
    if whole.n_output > 1 and whole.done_s <= whole.first_s:
        notes.append("the answer came in one piece: something on the way holds the stream back")
    if whole.n_output < (1.0 - MISSED_RATIO) * ask.n_output:
        notes.append(f"answers end early: {whole.n_output} tokens where {ask.n_output} were asked")
    state = await watch.state()
    if state is None:
        notes.append("no /metrics page of a known engine: queues and KV cache stay unseen")
    return Probed(calibration, state, whole.done_s - whole.sent_s, tuple(notes))


async def _check_model(watch: Watch, endpoint: Endpoint) -> None:
    """Raises InputError where the server is not there, lets nobody in, or serves another model."""
    status, text = await watch.get("/v1/models")
    if status == 0:
        raise _fault(endpoint, f"cannot connect: {text}", "start the server, or correct --url")
    if status in _NOT_ALLOWED:
        raise _not_allowed(endpoint, status)
    names = _model_names(text) if status == 200 else []
    if names and endpoint.model_name not in names:
        raise InputError([unknown_name("--model", "", endpoint.model_name, names, "served model")])


def _model_names(text: str) -> list[str]:
    """Returns the ids in a list of models, none where the text is no such list."""
    try:
        data = json.loads(text)
        return [str(model["id"]) for model in data["data"]]
    except (ValueError, RecursionError, KeyError, TypeError):
        return []


async def _calibrated(client: Client, prompts: PromptSource) -> Calibration:
    """Returns how many tokens the server counts per word, from a few prompts of fewer words."""
    longest = float(prompts.lengths.input_tokens.max())
    lengths = sorted({max(round(longest * ratio), 1) for ratio in PROBED_RATIOS})
    asks = [prompts.probe(n) for n in lengths]
    answers = [_answered(await client.send(ask), client.endpoint) for ask in asks]
    try:
        return calibrate([ask.n_words for ask in asks], [answer.n_input for answer in answers])
    except ValueError as error:
        raise _fault(
            client.endpoint, f"counts prompt tokens in no usable way: {error}", _USAGE_FIX
        ) from None


def _answered(answer: Answer, endpoint: Endpoint) -> Answer:
    """Returns an answer that is one.

    Raises:
        InputError: it is none; the message says why and what to do.
    """
    status, detail = answer.status, answer.detail
    match answer.outcome:
        case Outcome.OK:
            return answer
        case Outcome.CONNECTION:
            raise _fault(endpoint, f"cannot connect: {detail}", "start the server")
        case Outcome.HTTP if status in _NOT_ALLOWED:
            raise _not_allowed(endpoint, status)
        case Outcome.HTTP if status == 404:
            what = f"knows no such model or path (404): {detail}"
            raise _fault(endpoint, what, "correct --model, --url or --api")
        case Outcome.HTTP:
            what = f"refused a request ({status}): {detail}"
            raise _fault(endpoint, what, "see what it says; fewer --input-tokens may help")
        case Outcome.NO_USAGE:
            raise _fault(endpoint, "streams without token counts (usage)", _USAGE_FIX)
        case Outcome.TIMEOUT:
            raise _fault(endpoint, detail, "ask for fewer --output-tokens, or look at the server")
        case _:
            what = f"does not stream an answer: {detail}"
            raise _fault(endpoint, what, "switch streaming on, or try the other --api")


def _not_allowed(endpoint: Endpoint, status: int) -> InputError:
    said = "the key was refused" if endpoint.api_key else "a key is needed"
    return _fault(endpoint, f"{said} ({status})", _KEY_FIX)


def _fault(endpoint: Endpoint, what: str, fix: str) -> InputError:
    """Returns the error of an endpoint; a key that the server repeats is blotted out."""
    if endpoint.api_key:
        what = what.replace(endpoint.api_key, "***")
    return InputError.single(endpoint.url, "", what, fix)


def _root(url: str) -> str:
    """Returns the address of the server itself, without the path of its interface."""
    return re.sub(r"/v1(/.*)?$", "", url)
