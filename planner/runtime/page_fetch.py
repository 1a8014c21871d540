"""One page by HTTP, for a command that asks once: bounded in size, no proxy, nothing kept open."""

from __future__ import annotations

from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from planner.errors import InputError

SILENCE_S = 10.0
"""A server that sends nothing for so long is given up."""

MOST_BYTES = 64 << 20


class _NoRedirect(HTTPRedirectHandler):
    """A page of metrics is where it was said to be: who sends us elsewhere is somebody else."""

    def redirect_request(self, *_: object) -> None:
        return None


def is_url(place: str) -> bool:
    """Returns whether a place is an address, and not a file."""
    return place.lower().startswith(("http://", "https://"))


def fetch_page(url: str) -> str:
    """Returns the text of a page.

    The proxies that an environment may name are not asked: metrics are near.

    Raises:
        InputError: nobody answers, or not with a page of text.
    """
    try:
        if not urlsplit(url).hostname:
            raise ValueError("names no host")
        opener = build_opener(ProxyHandler({}), _NoRedirect())
        with opener.open(Request(url, headers={"Accept": "text/plain"}), timeout=SILENCE_S) as page:
            content: bytes = page.read(MOST_BYTES + 1)
    except HTTPError as error:
        error.close()
        raise _refused(url, f"answers with status {error.code}") from error
    except URLError as error:
        raise _refused(url, f"does not answer: {_why(error.reason)}") from error
    except (OSError, HTTPException, ValueError) as error:
        raise _refused(url, f"does not answer: {_why(error)}") from error
    if len(content) > MOST_BYTES:
        raise _refused(url, f"has more than {MOST_BYTES >> 20} MiB")
    return content.decode("utf-8", "replace")


def _why(error: object) -> str:
    if isinstance(error, TimeoutError):
        return f"nothing came for {SILENCE_S:.0f} s"
    return str(getattr(error, "strerror", None) or error) or type(error).__name__


def _refused(url: str, what: str) -> InputError:
    fix = "give the address of rb serve with /metrics, e.g. http://127.0.0.1:8000/metrics"
    return InputError.single(url, "", what, fix)
