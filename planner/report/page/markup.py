"""HTML that cannot be broken into: only what is made here is markup, all other text is escaped.

element("td", "<script>")            <td>&lt;script&gt;</td>
element("p", element("b", "x"))      <p><b>x</b></p>
embedded_json({"a": "</script>"})    {"a":"\\u003c/script\\u003e"}
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape

VOID = frozenset({"br", "col", "hr", "img", "input", "link", "meta"})


class Html(str):
    """Markup that is known to be safe, made by this module or by a drawing."""

    __slots__ = ()


Child = str | Iterable[str] | None
Attribute = str | int | float | bool | None


def clean(text: str) -> str:
    """Returns text without what no reader sees: controls, direction overrides, odd separators."""
    return "".join(c if c.isprintable() else " " for c in text)


def text(value: str) -> Html:
    """Returns text as markup that shows it as it is; markup stays what it is."""
    return value if isinstance(value, Html) else Html(escape(clean(value), quote=True))


def element(name: str, /, *children: Child, **attributes: Attribute) -> Html:
    """Returns an element with its children; those that are no Html are escaped.

    Args:
        name: of the element.
        children: text, markup, or several of either; None is left out.
        attributes: `class_` is class, `aria_label` is aria-label; True: without a value, None and
            False: left out.
    """
    start = f"<{name}{_attributes(attributes)}>"
    if name in VOID:
        return Html(start)
    return Html(f"{start}{joined(*children)}</{name}>")


def joined(*children: Child) -> Html:
    """Returns the children one after the other."""
    parts: list[str] = []
    for child in children:
        if child is None:
            continue
        parts += [text(child)] if isinstance(child, str) else [text(each) for each in child]
    return Html("".join(parts))


def embedded_json(data: object) -> Html:
    """Returns JSON that may stand inside a <script>: nothing in it ends the element."""
    plain = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        plain = plain.replace(sign, f"\\u{ord(sign):04x}")
    return Html(plain)


def _attributes(attributes: dict[str, Attribute]) -> str:
    found = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        name = key.rstrip("_").replace("_", "-")
        found.append(f" {name}" if value is True else f' {name}="{text(str(value))}"')
    return "".join(found)
