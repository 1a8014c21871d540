"""Prices by model in routes.json: there where the runtime may choose by the prompt, else absent."""

import json

from planner.files.plans import need_plan_and_routes, routes_of, write_plan
from planner.spec.plan import Plan, QualityBasis, QualityEstimate

PRICES = {"llama-3.1-8b": 0.02, "llama-3.1-70b": 0.31}


def with_prices(plan: Plan, prices: dict[str, float]) -> Plan:
    estimate = QualityEstimate(quality=0.7, low=0.6, high=0.8)
    basis = QualityBasis(
        by_class=estimate, held_out=True, n_prompts=1, why="made", model_prices=prices
    )
    return plan.model_copy(update={"quality_basis": basis})


def test_the_runtime_gets_the_prices_of_the_plan(demo_plan, tmp_path):
    write_plan(tmp_path, with_prices(demo_plan, PRICES))
    assert json.loads((tmp_path / "routes.json").read_text())["model_prices"] == PRICES
    plan, routes = need_plan_and_routes(tmp_path)
    assert routes.model_prices == PRICES and routes == routes_of(plan)


def test_without_them_the_file_is_as_before(demo_plan, tmp_path):
    without = demo_plan.model_copy(update={"quality_basis": None})
    for plan in (without, with_prices(demo_plan, {})):
        write_plan(tmp_path, plan)
        assert "model_prices" not in json.loads((tmp_path / "routes.json").read_text())
        assert need_plan_and_routes(tmp_path)[1].model_prices == {}
