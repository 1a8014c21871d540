"""Parts of a text that must not exceed a number of lines: the least important rows give way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Block:
    """Some rows under a head; where rows are left out, a last one says how many."""

    rows: tuple[str, ...]
    head: tuple[str, ...] = ()
    least: int = 1  # rows that stay, however little room there is
    more: str = "and {n} more"  # with {n} for how many rows are left out
    room: int | None = None  # rows that may be shown, the last one included; None: all

    @property
    def lines(self) -> tuple[str, ...]:
        """Returns the head and the rows that there is room for; nothing of a block without rows."""
        if not self.rows:
            return ()
        if self.room is None or len(self.rows) <= self.room:
            return self.head + self.rows
        kept = max(self.room - 1, 0)
        more = self.more if kept else self.more.replace("and ", "", 1)
        return (*self.head, *self.rows[:kept], more.format(n=len(self.rows) - kept))

    @property
    def n_shown(self) -> int:
        """Returns how many lines it takes below its head."""
        return len(self.rows) if self.room is None else min(len(self.rows), self.room)

    @property
    def can_give(self) -> int:
        """Returns by how many lines it may still shrink; the one that says `more` stays."""
        return max(self.n_shown - self.least - 1, 0)

    def smaller(self) -> Block:
        """Returns the block with one line less."""
        return replace(self, room=self.n_shown - 1)


def fitted(blocks: Sequence[Block], most: int) -> str:
    """Returns the blocks with a blank line between them, in at most so many lines where possible.

    The block that can give most gives first; of equals the later one, so what matters comes first.
    """
    kept = list(blocks)
    while n_lines(kept) > most:
        index = max(range(len(kept)), key=lambda i: (kept[i].can_give, i), default=None)
        if index is None or not kept[index].can_give:
            break
        kept[index] = kept[index].smaller()
    return "\n\n".join("\n".join(block.lines) for block in kept if block.lines) + "\n"


def n_lines(blocks: Sequence[Block]) -> int:
    """Returns how many lines the blocks take, blank ones between them included."""
    counts = [len(block.lines) for block in blocks if block.lines]
    return sum(counts) + max(len(counts) - 1, 0)
