from __future__ import annotations

import shlex

from made_fleets import demo_fleet, sglang_fleet

from planner.export.targets import target_of


def test_every_pool_is_started_with_sglang():
    texts = {file.path: file.text for file in target_of("sglang").files(sglang_fleet())}
    for engine in sglang_fleet().engines:
        script = texts[f"start/{engine.dns_name}.sh"]
        command = script[script.index("exec ") :].replace("\\\n", " ")
        words = shlex.split(command)
        assert words[1:4] == ["python3", "-m", "sglang.launch_server"]
        assert words[words.index("--tp-size") + 1] == str(engine.tensor_parallel)


def test_it_is_told_that_nobody_measured_it_so():
    texts = [file.text for file in target_of("sglang").files(sglang_fleet())]
    assert any("was measured with vllm 0.11.1, and is started with sglang" in t for t in texts)


def test_the_router_s_folder_is_that_of_vllm_but_for_its_head():
    """Where engines listen has nothing to do with which they are."""

    def endpoints(target: str, fleet: object) -> list[str]:
        files = target_of(target).files(fleet)  # type: ignore[arg-type]
        text = next(f.text for f in files if f.path == "plan/endpoints.yaml")
        return [line for line in text.splitlines() if not line.startswith("#")]

    assert endpoints("sglang", sglang_fleet()) == endpoints("vllm", demo_fleet())
