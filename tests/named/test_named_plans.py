"""Whole plans by the published methods: they keep every promise, and say whose they are."""

import pytest
from questions import inputs_of, small

from planner.files.plans import plan_text
from planner.gate.check import check
from planner.plan import make_plan

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("method", "name"), [("boute", "BOute"), ("routerwise", "RouterWise")])
def test_a_plan_of_a_published_method(method, name, tmp_path):
    if method == "boute":
        pytest.importorskip("torch")
    inputs = inputs_of(tmp_path, small())
    plan = make_plan(inputs, "quick", method, seed=1)
    assert name in plan.provenance.method
    assert {entry.pool: entry.replicas for entry in plan.deployment} == {
        "llama-3.1-70b-h100-tp4": 1,
        "llama-3.1-8b-h100": 1,
    }
    errors = {finding.code for finding in check(inputs, plan, None) if finding.severity == "error"}
    assert errors <= {"routes-missing"}  # no file was written here
    assert plan_text(make_plan(inputs, "quick", method, seed=1)) == plan_text(plan)
