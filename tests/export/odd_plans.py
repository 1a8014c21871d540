"""The demo's plan under names that are allowed and that nobody should choose."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from made_fleets import demo_source

from planner.export.fleet import Fleet
from planner.export.fleet_of import fleet_of
from planner.spec.plan import Plan
from planner.spec.pool import Profile
from planner.spec.sheet import ServingSheet

LONG = "Llama_3.1+70B.on-" + "B200." * 12 + "end"  # 80 characters, as many as a name may have
POOLS = {
    "llama-3.1-70b-b200-tp2": LONG,
    "llama-3.1-70b-h100-tp4": LONG.replace("+", "_"),  # the same in every host name
    "llama-3.1-8b-h100": "1e3",
}
CLASSES = {"gsm": "no", "crux": "0o17", "math-l5": "X." + "y_+" * 26}
"""A boolean of YAML 1.1, a number of 1.2, and 80 characters that no host name takes."""


@cache
def odd_fleet() -> Fleet:
    """Returns the fleet of the renamed plan, made as `rb export` makes it; nothing is named."""
    source = demo_source()
    assert source.sheet is not None
    profiles = {new: _called(new, source.profiles[old]) for old, new in POOLS.items()}
    plan = Plan.model_validate_json(_renamed(source.plan.model_dump_json(by_alias=True)))
    sheet = ServingSheet.model_validate_json(_renamed(source.sheet.model_dump_json(by_alias=True)))
    return fleet_of(replace(source, plan=plan, sheet=sheet, profiles=profiles, files=None))


def _called(name: str, profile: Profile) -> Profile:
    return replace(profile, pool=profile.pool.model_copy(update={"name": name}))


def _renamed(text: str) -> str:
    """Returns a file of JSON with other names of pools and classes."""
    for old, new in {**POOLS, **CLASSES}.items():
        assert f'"{old}"' in text
        text = text.replace(f'"{old}"', f'"{new}"')
    return text
