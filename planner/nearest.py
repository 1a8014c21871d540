"""The names that a mistyped one may have meant."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

ALIKE = 0.5  # least similarity of difflib: `chek` is 0.89 like `check`, `pol` 0.33 like `plan`
BEGUN_ALIKE = (
    0.8  # of how a longer name begins: `lama` is 0.89 like the first letters of `llama-8b`
)
LEAST_PART = 4  # letters that say enough to be looked for within a name


def nearest(name: str, known: Iterable[str], n: int = 1) -> list[str]:
    """Returns the known names that a wrong one may have meant, the likeliest first; few or none.

    Letter case counts for nothing. First come the names that begin with what was typed, as
    `max_cost_usd_per_h` does with `max_cost`; then those that are like it as a whole; then those
    that begin almost so, or have it within: `lama` means `llama-3.1-8b`, `latency` means
    `max_latency_increase_ratio`.

    Args:
        name: what was typed.
        known: what would have been right.
        n: at most so many.
    """
    import difflib  # where all is well nobody needs it

    asked = name.casefold()
    spelled: dict[str, list[str]] = {}
    for each in sorted(set(known)):
        spelled.setdefault(each.casefold(), []).append(each)
    begun = [each for each in spelled if len(asked) > 1 and each.startswith(asked)]
    alike = difflib.get_close_matches(asked, spelled, n=n, cutoff=ALIKE)
    found = dict.fromkeys((*_likest(asked, begun), *alike, *_partly(asked, spelled)))
    return [original for each in found for original in spelled[each]][:n]


def _partly(asked: str, known: Iterable[str]) -> list[str]:
    """Returns names that begin almost so, then those that have it within; of equals the likest."""
    from difflib import SequenceMatcher

    if len(asked) < LEAST_PART:
        return []
    names = list(known)

    def begins(each: str) -> float:
        first = each[: len(asked) + 1]
        return SequenceMatcher(None, asked, first, autojunk=False).ratio()

    almost = [each for each in names if len(each) > len(asked) and begins(each) >= BEGUN_ALIKE]
    within = [each for each in names if asked in each]
    return [*_likest(asked, almost), *_likest(asked, within)]


def _likest(asked: str, names: Sequence[str]) -> list[str]:
    """Returns names with the likest first; of equals in the order of letters."""
    from difflib import SequenceMatcher

    def unlike(each: str) -> tuple[float, str]:
        return -SequenceMatcher(None, asked, each, autojunk=False).ratio(), each

    return sorted(names, key=unlike)


def meant(name: str, known: Iterable[str]) -> str:
    """Returns the question that helps after a wrong name, or what there is to choose from."""
    names = sorted(set(known))
    near = nearest(name, names)
    listed = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return f"did you mean {near[0]}?" if near else f"known: {listed or 'none'}"
