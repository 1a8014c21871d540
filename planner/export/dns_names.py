"""Names of pools and classes as labels that hosts, services and projects may have (RFC 1035).

A label follows from its own name alone: who adds or removes a pool renames no other, and a renamed
pool would start anew. So where two names make one label, nobody gets it: that is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from hashlib import sha256

from planner.errors import Fault, InputError

DNS_LENGTH = 50
"""At most, of 63: pods and replicas get a number behind it."""


def dns_name(name: str) -> str:
    """Returns a label of RFC 1035 for a name; a long one is cut, and gets a hash of all of it.

    >>> dns_name("Llama-3.1_8B"), dns_name("8b"), len(dns_name("x" * 80))
    ('llama-3-1-8b', 'p-8b', 50)
    """
    label = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if not label[:1].isalpha():
        label = f"p-{label}".rstrip("-")
    return short_name(label, name, DNS_LENGTH)


def dns_names(names: Iterable[str], field: str = "deployment") -> dict[str, str]:
    """Returns the label of each of some names.

    Raises InputError where two are the same; `field` of plan.json is what they are names of.
    """
    labels = {name: dns_name(name) for name in names}
    refuse_look_alikes(labels, field)
    return labels


def refuse_look_alikes(labels: Mapping[str, str], field: str) -> None:
    """Raises InputError where two names have one label: their objects would be one."""
    of: dict[str, str] = {}
    faults = []
    for name, label in labels.items():
        if label in of:
            what = f"would be called {label} by DNS, as {of[label]} is"
            faults.append(Fault("plan.json", f"{field}.{name}", what, "give it another name"))
        of.setdefault(label, name)
    if faults:
        raise InputError(faults)


def short_name(name: str, unique: str, longest: int) -> str:
    """Returns a name that fits: cut where it is too long, with a hash of what it stands for."""
    if len(name) <= longest:
        return name
    mark = sha256(unique.encode()).hexdigest()[:6]
    return f"{name[: longest - 7].rstrip('-')}-{mark}"
