"""Names of pools and classes as labels that hosts, services and projects may have (RFC 1035)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import sha256

DNS_LENGTH = 50
"""At most, of 63: pods and replicas get a number behind it."""


def dns_names(names: Sequence[str]) -> dict[str, str]:
    """Returns a label of RFC 1035 for each of some names; names that look alike get a hash."""
    plain = {name: _label(name) for name in names}
    seen = list(plain.values())
    return {
        name: label if seen.count(label) == 1 else _hashed(label, name)
        for name, label in plain.items()
    }


def _label(name: str) -> str:
    label = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    label = label if label[:1].isalpha() else f"p-{label}"
    return label if len(label) <= DNS_LENGTH else _hashed(label, name)


def _hashed(label: str, name: str) -> str:
    return f"{label[: DNS_LENGTH - 7].rstrip('-')}-{sha256(name.encode()).hexdigest()[:6]}"
