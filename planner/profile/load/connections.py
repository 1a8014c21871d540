"""The connections to one server: kept for several requests until that proves unsafe."""

from __future__ import annotations

import errno
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import aiohttp

_CONNECT_S = 10.0
# Below the 5 s after which uvicorn closes an idle connection: a request must not meet the closing.
_KEEP_ALIVE_S = 2.0
# asyncio puts the address where the system's words would be.
_REASONS = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset",
    errno.EHOSTUNREACH: "no route to the host",
    errno.ENETUNREACH: "network unreachable",
    errno.ETIMEDOUT: "connection timed out",
}


class Connections:
    """Posts to one address; an async context manager."""

    def __init__(self, address: str, api_key: str | None) -> None:
        self.address = address
        self._api_key = api_key
        self._sessions: list[aiohttp.ClientSession] = []  # requests take the last one

    async def __aenter__(self) -> Connections:
        """Returns the connections, ready to post."""
        self._open(reuse=True)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Returns nothing; closes all connections."""
        while self._sessions:
            await self._sessions.pop().close()

    @property
    def are_reused(self) -> bool:
        """Returns whether requests share connections: until the server closes one unannounced."""
        return len(self._sessions) <= 1

    async def post(self, body: bytes) -> aiohttp.ClientResponse:
        """Returns the server's response to a body, with its status and nothing read yet.

        Some servers close a connection that they said they would keep (llama.cpp, after a stream).
        A request that meets this is sent again, and all later ones get connections of their own.
        """
        import aiohttp

        session = self._sessions[-1]
        try:
            return await session.post(self.address, data=body)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            never_connected = isinstance(error, aiohttp.ClientConnectorError)
            if never_connected or session is not self._sessions[0]:
                raise
        if self.are_reused:
            self._open(reuse=False)
        return await self._sessions[-1].post(self.address, data=body)

    def _open(self, *, reuse: bool) -> None:
        """Returns nothing; connections are from now on for several requests, or for one each."""
        import aiohttp

        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        if self._api_key:
            headers["Authorization"] = f"Bearer {self._api_key}"
        connector = aiohttp.TCPConnector(
            limit=0, force_close=not reuse, keepalive_timeout=_KEEP_ALIVE_S if reuse else None
        )
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S)
        self._sessions.append(
            aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers)
        )


def reason(error: Exception) -> str:
    """Returns why a connection failed, in words."""
    known = _REASONS.get(getattr(error, "errno", None) or 0)
    said = known or getattr(error, "strerror", None) or str(error)
    return str(said) or type(error).__name__
