"""The exported config.yaml of LiteLLM: every entry weighted, nothing secret.

That LiteLLM takes it so is tried in test_litellm_routes.py.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from dataclasses import replace
from typing import Any

import pytest
from gateway_fleets import BIG, HOSTED, NEW, SHARES, SMALL, documents, made_fleet, made_route
from gateway_fleets import hosted_fleet as fleet_with_hosted

from planner.errors import InputError
from planner.export.fleet import MILLION, Fleet
from planner.export.litellm import POOL_PREFIX, files


def _config(fleet: Fleet) -> dict[str, Any]:
    (file,) = files(fleet)
    assert file.path == "config.yaml"
    return documents(file.text)[0]


def _params(config: dict[str, Any], model_name: str) -> list[dict[str, Any]]:
    return [e["litellm_params"] for e in config["model_list"] if e["model_name"] == model_name]


def test_every_entry_has_a_whole_weight_and_classes_sum_to_a_million(any_fleet: Fleet) -> None:
    config = _config(any_fleet)
    sums: Counter[str] = Counter()
    for entry in config["model_list"]:
        weight = entry["litellm_params"]["weight"]
        assert type(weight) is int
        assert weight > 0
        sums[entry["model_name"]] += weight
    assert set(sums.values()) == {MILLION}
    assert set(sums) >= {route.class_name for route in any_fleet.routes}


def test_nothing_but_the_weight_decides(any_fleet: Fleet) -> None:
    config = _config(any_fleet)
    known = {"model", "api_base", "api_key", "weight", "rpm"}
    assert all(set(e["litellm_params"]) <= known for e in config["model_list"])
    assert all(set(e["model_info"]) == {"id"} for e in config["model_list"])
    assert config["router_settings"]["routing_strategy"] == "simple-shuffle"
    assert "optional_pre_call_checks" not in config["router_settings"]


def test_shares_models_and_addresses_are_the_plans() -> None:
    config = _config(made_fleet())
    for name, shares in SHARES.items():
        found = {p["model"]: (p["weight"], p["api_base"]) for p in _params(config, name)}
        assert found == {
            f"hosted_vllm/served/{pool}": (share, f"http://{pool.replace('.', '-')}:8000/v1")
            for pool, share in shares.items()
        }


def _drawn(entries: list[dict[str, Any]], n: int) -> Counter[str]:
    """Returns how often each entry's id is drawn, as LiteLLM's "simple-shuffle" is documented.

    An entry without a weight counts as 0 where another has one; without any, all count alike.
    """
    weights = [entry["litellm_params"].get("weight", 0) for entry in entries]
    drawn = random.Random(0).choices(entries, weights if any(weights) else None, k=n)
    return Counter(entry["model_info"]["id"].split("/")[1] for entry in drawn)


def _furthest_ratio(entries: list[dict[str, Any]], shares: dict[str, int]) -> float:
    drawn = _drawn(entries, 40_000)
    return max(abs(drawn[pool] / 40_000 - share / MILLION) for pool, share in shares.items())


@pytest.mark.parametrize("n_servers", [1, 3])
def test_drawn_as_litellm_documents_it_entries_keep_to_the_shares(n_servers: int) -> None:
    """What LiteLLM itself does with the file is tried in test_litellm_routes.py, where it is."""
    urls = {p: [f"http://10.0.0.{i}:8000/v1" for i in range(n_servers)] for p in (BIG, SMALL, NEW)}
    entries = _config(made_fleet(urls))["model_list"]
    for name, shares in SHARES.items():
        own = [entry for entry in entries if entry["model_name"] == name]
        assert _furthest_ratio(own, shares) < 0.005
        if len(shares) > 1:  # were weights missing, it would be seen
            del own[0]["litellm_params"]["weight"]
            assert _furthest_ratio(own, shares) > 0.05
            for entry in own:
                entry["litellm_params"].pop("weight", None)
            assert _furthest_ratio(own, shares) > 0.05


def test_a_request_is_tried_by_each_fallback_once_and_not_again() -> None:
    settings = _config(made_fleet())["router_settings"]
    assert settings["num_retries"] == 0
    assert settings["max_fallbacks"] == 3


def test_keys_of_our_own_servers_are_named() -> None:
    fleet = made_fleet()
    fleet = replace(
        fleet, engines=tuple(replace(each, api_key_env="OWN_KEY") for each in fleet.engines)
    )
    for entry in _config(fleet)["model_list"]:
        assert entry["litellm_params"]["api_key"] == "os.environ/OWN_KEY"
        assert entry["litellm_params"]["model"].startswith("hosted_vllm/")


def test_a_key_that_litellm_would_lend_is_said() -> None:
    fleet = fleet_with_hosted()
    assert "OPENAI_API_KEY" not in files(fleet)[0].text
    lent = replace(fleet, hosted=(replace(HOSTED, api_key_env="OPENAI_API_KEY"),))
    assert "give OPENAI_API_KEY another name" in " ".join(files(lent)[0].text.split("\n# "))


def test_nothing_is_told_to_anybody() -> None:
    settings = _config(made_fleet())["litellm_settings"]
    assert settings["telemetry"] is False
    assert settings["turn_off_message_logging"] is True
    assert settings["disable_hf_tokenizer_download"] is True


def test_a_share_is_split_exactly_between_servers() -> None:
    urls = [f"http://10.0.0.{i}:8000/v1" for i in (1, 2, 3)]
    config = _config(made_fleet({BIG: urls}))
    parts = [p for p in _params(config, "gsm") if p["model"].endswith(BIG)]
    assert [p["api_base"] for p in parts] == urls
    assert [p["weight"] for p in parts] == [207_496, 207_496, 207_495]
    by_name = [p["weight"] for p in _params(config, POOL_PREFIX + BIG)]
    assert by_name == [333_334, 333_333, 333_333]


def test_a_share_of_nothing_has_no_entry() -> None:
    route = made_route("c", {BIG: MILLION, SMALL: 0})
    config = _config(made_fleet(routes=[route]))
    assert len(_params(config, "c")) == 1
    assert len(_params(config, POOL_PREFIX + SMALL)) == 1  # it may still take over


def test_less_than_a_millionth_for_each_server_goes_to_the_first() -> None:
    route = made_route("c", {BIG: MILLION - 1, SMALL: 1})
    config = _config(made_fleet({SMALL: ["http://a:1/v1", "http://b:1/v1"]}, routes=[route]))
    assert [p["weight"] for p in _params(config, "c")] == [MILLION - 1, 1]


def test_ids_are_unique_and_say_what_they_are() -> None:
    config = _config(made_fleet({BIG: ["http://a:1/v1", "http://b:1/v1"]}))
    ids = [entry["model_info"]["id"] for entry in config["model_list"]]
    assert len(set(ids)) == len(ids)
    assert f"gsm/{BIG}/2" in ids
    assert f"crux/{NEW}" in ids
    assert f"pool/{SMALL}" in ids


def test_fallbacks_are_pools_in_the_plans_order() -> None:
    settings = _config(made_fleet())["router_settings"]
    fallbacks = {name: pools for each in settings["fallbacks"] for name, pools in each.items()}
    assert fallbacks["gsm"] == [POOL_PREFIX + pool for pool in (BIG, SMALL, NEW)]
    assert fallbacks["crux"] == [POOL_PREFIX + pool for pool in (NEW, BIG, SMALL)]
    assert settings["max_fallbacks"] == 3
    assert settings["model_group_alias"] == {f"rb/{name}": name for name in SHARES}


def test_keys_are_named_and_hosted_pools_are_limited() -> None:
    config = _config(fleet_with_hosted())
    (hosted,) = [p for p in _params(config, "chat") if p["model"] == "openai/gpt-x"]
    assert hosted == {
        "model": "openai/gpt-x",
        "api_key": "os.environ/GPT_KEY",
        "rpm": 180,
        "api_base": HOSTED.url,
        "weight": 400_000,
    }
    assert config["general_settings"] == {"master_key": "os.environ/LITELLM_MASTER_KEY"}
    keys = defaultdict(set)
    for entry in config["model_list"]:
        keys[entry["litellm_params"].get("api_key")].add(entry["litellm_params"]["model"])
    assert set(keys) == {None, "os.environ/GPT_KEY"}


def test_a_provider_without_key_and_address_gets_no_prompts_of_ours() -> None:
    nobody = replace(HOSTED, url=None, api_key_env=None)
    fleet = replace(fleet_with_hosted(), hosted=(nobody,))
    (hosted,) = [p for p in _params(_config(fleet), "chat") if p["model"].endswith("/gpt-x")]
    assert hosted["api_base"] == "https://gpt.invalid/v1"
    assert hosted["model"] == "hosted_vllm/gpt-x"
    assert "api_key" not in hosted


def test_the_head_says_what_is_to_be_known() -> None:
    text = files(made_fleet(notes=("this was guessed",)))[0].text
    assert "ab" * 32 in text
    assert "# this was guessed\n" in text
    assert "gsm, crux, math-l5" in text


def test_cascades_are_refused(cascade_fleet: Fleet) -> None:
    with pytest.raises(InputError, match="cascades"):
        files(cascade_fleet)


def test_the_same_fleet_makes_the_same_bytes(any_fleet: Fleet) -> None:
    assert files(any_fleet) == files(replace(any_fleet))
