"""How wide a text is, and the text that fits.

Widths are those of DejaVu Sans, which is wider than what browsers take for interfaces: what fits
by them fits everywhere.
"""

from __future__ import annotations

from unicodedata import east_asian_width

from planner.report.drawing.marks import Anchor, Label, Role

# Advance widths of ' ' to '~' in 1/2048 of the size (DejaVu Sans 2.37, its table hmtx).
_ADVANCE = (
    651, 821, 942, 1716, 1303, 1946, 1597, 563, 799, 799, 1024, 1716, 651, 739, 651, 690,
    1303, 1303, 1303, 1303, 1303, 1303, 1303, 1303, 1303, 1303, 690, 690, 1716, 1716, 1716, 1087,
    2048, 1401, 1405, 1430, 1577, 1294, 1178, 1587, 1540, 604, 604, 1343, 1141, 1767, 1532, 1612,
    1235, 1612, 1423, 1300, 1251, 1499, 1401, 2025, 1403, 1251, 1403, 799, 690, 799, 1716, 1024,
    1024, 1255, 1300, 1126, 1300, 1260, 721, 1300, 1298, 569, 569, 1186, 569, 1995, 1298, 1253,
    1300, 1300, 842, 1067, 803, 1298, 1212, 1675, 1212, 1212, 1075, 1303, 690, 1303, 1716,
)  # fmt: skip
_EM = 2048
_OTHER = {"…": 2048, "·": 651, "–": 1024, "≤": 1716, "×": 1716}
_UNKNOWN, _WIDE = 1400, 2048
BOLD = 1.13  # bold letters over regular ones, on average
ELLIPSIS = "…"


def text_width(text: str, size: float, is_bold: bool = False) -> float:
    """Returns the width of a text in px at a font size in px."""
    advance = sum(_advance(character) for character in text)
    return advance / _EM * size * (BOLD if is_bold else 1.0)


def _advance(character: str) -> int:
    code = ord(character)
    if 32 <= code < 127:
        return _ADVANCE[code - 32]
    if character in _OTHER:
        return _OTHER[character]
    return _WIDE if east_asian_width(character) in "WF" else _UNKNOWN


def cut(text: str, size: float, room: float, is_bold: bool = False) -> str:
    """Returns a text, cut in its middle where it is wider than `room` px: names differ at ends."""
    if text_width(text, size, is_bold) <= room:
        return text
    for keep in range(len(text) - 1, 0, -1):
        head = (keep + 1) // 2
        short = text[:head].rstrip() + ELLIPSIS + text[len(text) - (keep - head) :].lstrip()
        if text_width(short, size, is_bold) <= room:
            return short
    return ELLIPSIS


def label(
    x: float,
    y: float,
    text: str,
    room: float = float("inf"),
    role: Role = "ink",
    size: float = 12.0,
    anchor: Anchor = "start",
    is_bold: bool = False,
    has_halo: bool = False,
) -> Label:
    """Returns a label that is at most `room` px wide; one that was cut knows its full text."""
    short = cut(text, size, room, is_bold)
    full = "" if short == text else text
    return Label(x, y, short, role, size, anchor, is_bold, has_halo, full)


def left_of(mark: Label) -> float:
    """Returns where a label begins, in px from the left."""
    width = text_width(mark.text, mark.size, mark.is_bold)
    return mark.x - {"start": 0.0, "middle": 0.5, "end": 1.0}[mark.anchor] * width


def right_of(mark: Label) -> float:
    """Returns where a label ends, in px from the left."""
    return left_of(mark) + text_width(mark.text, mark.size, mark.is_bold)
