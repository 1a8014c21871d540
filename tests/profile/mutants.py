"""Damaged copies of a good file: what an importer must refuse by name, or still read rightly."""

import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping

from planner.errors import InputError
from planner.profile.fields import Reading

ODD = [None, True, "", "x", "inf", -1, 0, 0.5, 1e16, 10**40, float("nan"), float("inf"), [], {}]
JUNK = ["\x00", "{", "]", ",", '"', "\ufeff", "NaN", "&a", "\t", "9" * 5000, "é", ":"]


def damaged(text: str, n: int, seed: int = 7) -> Iterator[str]:
    """Yields n texts, each with one change of its characters, the same for the same seed."""
    rng = random.Random(seed)
    for _ in range(n):
        at = rng.randrange(len(text))
        end = min(len(text), at + rng.randrange(1, 200))
        yield rng.choice(
            [
                text[:at],
                text[:at] + text[end:],
                text[:at] + rng.choice(JUNK) + text[at:],
                text[:at] + text[at:end] + text[at:],
                text[:at] + rng.choice(JUNK) + text[end:],
            ]
        )


def altered(data: object, n: int, seed: int = 7) -> Iterator[str]:
    """Yields n JSON texts of data, each with one value replaced by an odd one, or taken away."""
    rng = random.Random(seed)
    places = list(_places(data))
    for _ in range(n):
        copy = json.loads(json.dumps(data))
        path = rng.choice(places)
        inner = copy
        for key in path[:-1]:
            inner = inner[key]
        if rng.random() < 0.3:
            del inner[path[-1]]
        else:
            inner[path[-1]] = rng.choice(ODD)
        yield json.dumps(copy)


def _places(data: object, path: tuple = ()) -> Iterator[tuple]:
    """Yields the path of every value inside data."""
    inner = data.items() if isinstance(data, dict) else enumerate(data)
    for key, value in inner:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from _places(value, (*path, key))


def readings(
    parse: Callable[[Mapping[str, str]], list[Reading]],
    files: Mapping[str, str],
    name: str,
    texts: Iterable[str],
) -> Iterator[tuple[str, list[Reading]]]:
    """Yields (text, what was read) for the texts that are accepted in the place of one file.

    The others must be refused with faults that name a file and say what to do.
    """
    for text in texts:
        try:
            found = parse({**files, name: text})
        except InputError as error:
            unnamed = [f for f in error.faults if f.file not in {*files, name} or not f.fix]
            if unnamed:
                raise AssertionError(f"faults without a file or a fix: {unnamed}") from error
            continue
        yield text, found
