"""Whether two mathematical answers are the same: as text, or as values at several points.

Read are numbers, variables, + - * / ^ !, roots, fractions, absolute values, the usual functions,
tuples, intervals, sets and unions, in plain notation or LaTeX. Nothing is ever executed.

Program
    text   -> without layout (\\left, \\, $ ...), in one spelling
    tree   -> recursive descent, at most MOST_CHARS characters, MOST_TOKENS tokens and MOST_DEPTH
              levels
    value  -> complex numbers at N_POINTS fixed points of the variables
    equal  -> the same brackets and items, each item close at every point where both are defined
"""

from __future__ import annotations

import cmath
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

MOST_CHARS = 400
MOST_TOKENS = 200
MOST_DEPTH = 40
N_POINTS = 6
FEWEST_POINTS = 3  # at which both must be defined
_VARIABLE_TOLERANCE = 1e-6
_ZERO = 1e-12

_SPELLINGS = (
    (r"\\(left|right|displaystyle|[,;:! ]|quad|qquad)(?![a-zA-Z])|\$|~", ""),
    (r"\{,\}", ","),
    (r"\\(?:d|t|c)frac", r"\\frac"),
    (r"\\frac(\d)(\d)", r"\\frac{\1}{\2}"),
    (r"\\(?:text|mathrm|mbox|textbf|mathbf)\s*\{([^{}]*)\}", r" \1 "),
    (r"\^\s*(?:\\circ|\{\\circ\})|°|\\?%|\\degree", ""),
    (r"\\cdot|\\times|×|·|\*\*", lambda m: "^" if m[0] == "**" else "*"),
    (r"\\div|÷", "/"),
    (r"−|–", "-"),
    (r"\\infty|∞", " inf "),
    (r"π", " pi "),
    (r"√", r"\\sqrt "),
    (r"\\cup|∪", " ∪ "),
    (r"\\lvert|\\rvert", "|"),
    (r"²", "^2"),
    (r"³", "^3"),
    (r"\b(?:or|and)\b", ","),
    (r"(?<![\d/])(\d{1,9})\s+(\d{1,9})\s*/\s*(\d{1,9})", r"(\1+\2/\3)"),
)  # fmt: skip
_THOUSANDS = re.compile(r"(?<![\d,.])\d{1,3}(?:,\d{3})+(?![\d,])")
_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d{1,3}(?![\d.]))?|\.\d+)"
    r"|(?P<name>\\?[a-zA-Z]+(?:_(?:\{\w+\}|\w))?)"
    r"|(?P<sign>\\[{}|]|[-+*/^!()\[\]{}|,=∪]))"
)
_FUNCTIONS: dict[str, Callable[[complex], complex]] = {
    "sin": cmath.sin, "cos": cmath.cos, "tan": cmath.tan,
    "sec": lambda z: 1 / cmath.cos(z), "csc": lambda z: 1 / cmath.sin(z),
    "cot": lambda z: 1 / cmath.tan(z),
    "arcsin": cmath.asin, "arccos": cmath.acos, "arctan": cmath.atan,
    "sinh": cmath.sinh, "cosh": cmath.cosh, "tanh": cmath.tanh,
    "ln": cmath.log, "log": cmath.log10, "exp": cmath.exp, "sqrt": cmath.sqrt,
    "abs": lambda z: complex(abs(z)),
}  # fmt: skip
_CONSTANTS = {"pi": cmath.pi, "e": cmath.e, "i": 1j, "inf": math.inf}
_CLOSING = {"(": ")]", "[": ")]", "\\{": ("\\}",)}
# Words, some with a full stop behind them; no repeat of a repeat, which `re` may try for ever.
_UNIT = re.compile(r"(?<=[\d)}])\s*[a-zA-Z](?:[a-zA-Z\s]|(?<=[a-zA-Z])\.)*(?:\^\{?[23]\}?)?\s*$")


@dataclass(frozen=True)
class Node:
    """A part of an expression: a number, a variable, an operation, a call or a collection."""

    kind: str  # "number", "variable", "call", "list", "set", "union", or one of + - * / ^ !
    name: str = ""  # of a variable or a function; the brackets of a list
    value: complex = 0j
    parts: tuple[Node, ...] = ()


def spelled(text: str) -> str:
    """Returns a mathematical text in one spelling, without layout and blanks."""
    for pattern, to in _SPELLINGS:
        text = re.sub(pattern, to, text)
    if "(" not in text and "[" not in text:
        text = _THOUSANDS.sub(lambda m: m[0].replace(",", ""), text)
    return " ".join(text.split()).strip(" .,;")


def squeezed(text: str) -> str:
    """Returns the spelling by which two texts are compared: no blanks, no case."""
    return spelled(text).replace(" ", "").replace("\\", "").casefold()


def parse(text: str) -> Node | None:
    """Returns the tree of an expression, None where the text is none or is too large."""
    if len(text) > MOST_CHARS:
        return None
    try:
        return _Parser(spelled(text)).whole()
    except _NoExpressionError:
        return None


def same(answer: str, reference: str, tolerance: float) -> bool:
    """Returns whether two expressions are equal: as text, or in value.

    Args:
        answer: may have a unit behind it where the reference has no letters.
        reference: what is right.
        tolerance: of constants, relative; whole numbers must be equal.
    """
    if squeezed(answer) == squeezed(reference):
        return bool(squeezed(reference))
    right = parse(reference)
    if right is None:
        return False
    tries = [answer]
    if not re.search(r"[a-zA-Z]", reference):
        tries.append(_UNIT.sub("", spelled(answer[:MOST_CHARS])))
    trees = (parse(text) for text in tries)
    return any(tree is not None and _equal(tree, right, tolerance) for tree in trees)


def close(a: complex, b: complex, tolerance: float) -> bool:
    """Returns whether two constants are equal: whole numbers exactly, others within a ratio."""
    if a == b:
        return True
    if not (cmath.isfinite(a) and cmath.isfinite(b)) or (_is_whole(a) and _is_whole(b)):
        return False
    return abs(a - b) <= max(tolerance * max(abs(a), abs(b)), _ZERO)


def _is_whole(z: complex) -> bool:
    return z.imag == 0 and math.isfinite(z.real) and z.real == round(z.real)


# ---- Equality ------------------------------------------------------------------------------------


def _equal(a: Node, b: Node, tolerance: float) -> bool:
    collections = ("list", "set", "union")
    if a.kind in collections or b.kind in collections:
        if (a.kind, a.name, len(a.parts)) != (b.kind, b.name, len(b.parts)):
            return False
        if a.kind == "list":
            return all(_equal(x, y, tolerance) for x, y in zip(a.parts, b.parts, strict=True))
        return _matched(a.parts, b.parts, tolerance)
    names = _variables(a) | _variables(b)
    if not names:
        values = _value(a, {}), _value(b, {})
        return None not in values and close(values[0] or 0j, values[1] or 0j, tolerance)
    return _equal_at_points(a, b, sorted(names))


def _matched(a: tuple[Node, ...], b: tuple[Node, ...], tolerance: float) -> bool:
    """Returns whether each item of one collection has a partner of its own in the other."""
    left = list(b)
    for item in a:
        partner = next((k for k, other in enumerate(left) if _equal(item, other, tolerance)), None)
        if partner is None:
            return False
        del left[partner]
    return True


def _equal_at_points(a: Node, b: Node, names: list[str]) -> bool:
    n_defined = 0
    for k in range(N_POINTS):
        point = {name: _coordinate(name, k) for name in names}
        values = _value(a, point), _value(b, point)
        if values == (None, None):
            continue
        if values[0] is None or values[1] is None:
            return False
        gap = abs(values[0] - values[1])
        if not math.isfinite(gap) or gap > max(_VARIABLE_TOLERANCE * abs(values[1]), _ZERO):
            return False
        n_defined += 1
    return n_defined >= FEWEST_POINTS


def _coordinate(name: str, k: int) -> complex:
    """Returns the k-th value of a variable: spread over (-2, 2), another one for each name."""
    seed = sum((at + 1) * ord(char) for at, char in enumerate(name))
    return complex(-2 + 4 * ((seed * 0.618033988749895 + k * 0.7548776662466927) % 1))


def _variables(node: Node) -> set[str]:
    own = {node.name} if node.kind == "variable" else set()
    return own.union(*(_variables(part) for part in node.parts))


def _value(node: Node, point: Mapping[str, complex]) -> complex | None:
    """Returns the value of an expression at a point, None where it has none."""
    try:
        z = _evaluated(node, point)
    except (ArithmeticError, ValueError):
        return None
    return None if cmath.isnan(z) else z


def _evaluated(node: Node, point: Mapping[str, complex]) -> complex:
    if node.kind == "number":
        return node.value
    if node.kind == "variable":
        return point[node.name]
    values = [_evaluated(part, point) for part in node.parts]
    if node.kind == "call":
        return complex(_FUNCTIONS[node.name](values[0]))
    if node.kind == "!":
        return complex(_factorial(values[0]))
    return _OPERATIONS[node.kind](values[0], values[1])


_OPERATIONS: dict[str, Callable[[complex, complex], complex]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "^": lambda a, b: a**b,
}


def _factorial(z: complex) -> float:
    if not _is_whole(z) or not 0 <= z.real <= 170:
        raise ValueError("no factorial")
    return float(math.factorial(int(z.real)))


# ---- Parsing -------------------------------------------------------------------------------------


class _NoExpressionError(Exception):
    """The text is no expression that is read here."""


class _Parser:
    """Recursive descent over the tokens of one text."""

    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, str]] = []
        at = 0
        while at < len(text):
            found = _TOKEN.match(text, at)
            if found is None or found.lastgroup is None:
                raise _NoExpressionError
            self._tokens += _split(found.lastgroup, found[found.lastgroup])
            at = found.end()
        if len(self._tokens) > MOST_TOKENS:
            raise _NoExpressionError
        self._at = 0
        self._depth = 0

    def whole(self) -> Node:
        """Returns the tree of the whole text; of an equation, its right side."""
        items = self._items()
        if self._sign() == "=" and len(items) == 1 and items[0].kind in ("variable", "*", "call"):
            self._at += 1
            items = self._items()
        if self._at < len(self._tokens):
            raise _NoExpressionError
        return items[0] if len(items) == 1 else Node("set", parts=tuple(items))

    def _sign(self) -> str:
        """Returns the sign that comes next, empty where none does."""
        if self._at >= len(self._tokens):
            return ""
        kind, text = self._tokens[self._at]
        return text if kind == "sign" else ""

    def _take(self, sign: str) -> bool:
        if self._sign() != sign:
            return False
        self._at += 1
        return True

    def _need(self, sign: str) -> None:
        if not self._take(sign):
            raise _NoExpressionError

    def _items(self) -> list[Node]:
        items = [self._union()]
        while self._take(","):
            items.append(self._union())
        return items

    def _union(self) -> Node:
        parts = [self._sum()]
        while self._take("∪"):
            parts.append(self._sum())
        return parts[0] if len(parts) == 1 else Node("union", parts=tuple(parts))

    def _sum(self) -> Node:
        self._depth += 1
        if self._depth > MOST_DEPTH:
            raise _NoExpressionError
        node = self._product()
        while (sign := self._sign()) in ("+", "-"):
            self._at += 1
            node = _operation(sign, node, self._product())
        self._depth -= 1
        return node

    def _product(self) -> Node:
        node = self._factor()
        while True:
            sign = self._sign()
            if sign in ("*", "/"):
                self._at += 1
                node = _operation(sign, node, self._factor())
            elif self._begins_a_factor():
                was_whole = node.kind == "number" and _is_whole(node.value)
                is_mixed = was_whole and self._tokens[self._at][1] == "\\frac"
                node = _operation("+" if is_mixed else "*", node, self._power())
            else:
                return node

    def _begins_a_factor(self) -> bool:
        if self._at >= len(self._tokens):
            return False
        kind, text = self._tokens[self._at]
        return kind == "name" or (kind == "sign" and text in ("(", "{"))

    def _factor(self) -> Node:
        if self._take("+"):
            return self._deeper(self._factor)
        if self._take("-"):
            return _operation("-", Node("number"), self._deeper(self._factor))
        return self._power()

    def _power(self) -> Node:
        node = self._atom()
        while self._take("!"):
            node = Node("!", parts=(node,))
        if self._take("^"):
            return _operation("^", node, self._deeper(self._factor))
        return node

    def _deeper(self, read: Callable[[], Node]) -> Node:
        self._depth += 1
        if self._depth > MOST_DEPTH:
            raise _NoExpressionError
        node = read()
        self._depth -= 1
        return node

    def _atom(self) -> Node:
        if self._at >= len(self._tokens):
            raise _NoExpressionError
        kind, text = self._tokens[self._at]
        self._at += 1
        if kind == "number":
            if math.isinf(float(text)):
                raise _NoExpressionError
            return Node("number", value=complex(float(text)))
        if kind == "name":
            return self._named(text)
        if text == "{":
            node = self._sum()
            self._need("}")
            return node
        if text == "|":
            node = self._sum()
            self._need("|")
            return Node("call", "abs", parts=(node,))
        if text in _CLOSING:
            return self._bracketed(text)
        raise _NoExpressionError

    def _bracketed(self, opening: str) -> Node:
        if opening == "\\{" and self._take("\\}"):
            return Node("set")
        items = tuple(self._items())
        closing = self._sign()
        if not closing or closing not in _CLOSING[opening]:
            raise _NoExpressionError
        self._at += 1
        if opening == "\\{":
            return Node("set", parts=items)
        if len(items) == 1 and (opening, closing) == ("(", ")"):
            return items[0]
        return Node("list", opening + closing, parts=items)

    def _named(self, text: str) -> Node:
        if text == "\\frac":
            return _operation("/", self._deeper(self._atom), self._deeper(self._atom))
        name = text.removeprefix("\\")
        if name == "sqrt" and self._take("["):
            degree = self._sum()
            self._need("]")
            root = _operation("/", _ONE, degree)
            return _operation("^", self._deeper(self._atom), root)
        if name.startswith("log_"):
            base = _Parser(name.removeprefix("log_").strip("{}")).whole()
            logs = [Node("call", "ln", parts=(z,)) for z in (self._argument(), base)]
            return _operation("/", *logs)
        if name in _FUNCTIONS:
            return self._call(name)
        if name in _CONSTANTS:
            return Node("number", value=complex(_CONSTANTS[name]))
        return Node("variable", name)

    def _call(self, name: str) -> Node:
        """Returns a function of what follows, as in sin^2 x or sin(x)."""
        if name == "sqrt":
            return Node("call", name, parts=(self._deeper(self._atom),))
        power = self._deeper(self._atom) if self._take("^") else None
        node = Node("call", name, parts=(self._argument(),))
        return node if power is None else _operation("^", node, power)

    def _argument(self) -> Node:
        """Returns what follows a function: a group, or a product's first factor as in sin 2x."""
        if self._sign() in ("(", "{", "|"):
            return self._deeper(self._atom)
        node = self._deeper(self._power)
        while self._at < len(self._tokens) and self._is_plain_variable():
            node = _operation("*", node, self._power())
        return node

    def _is_plain_variable(self) -> bool:
        kind, text = self._tokens[self._at]
        name = text.removeprefix("\\")
        return kind == "name" and name not in _FUNCTIONS and text != "\\frac"


_ONE = Node("number", value=1 + 0j)


def _operation(sign: str, a: Node, b: Node) -> Node:
    if {a.kind, b.kind} & {"list", "set", "union"}:
        raise _NoExpressionError  # no arithmetic on collections
    return Node(sign, parts=(a, b))


def _split(kind: str, text: str) -> list[tuple[str, str]]:
    """Returns the tokens in a run of letters: a known name, or one variable per letter."""
    plain = text.removeprefix("\\")
    is_known = plain in _FUNCTIONS or plain in _CONSTANTS
    if kind != "name" or is_known or text.startswith("\\") or "_" in text or len(text) == 1:
        return [(kind, text)]
    return [(kind, letter) for letter in text]
