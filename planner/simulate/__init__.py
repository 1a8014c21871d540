"""Floor 2: a whole cluster under real arrivals, event by event, exact to the picosecond.

A cluster of one's own, without any file:

    import numpy as np
    from planner.arrivals import poisson
    from planner.simulate.cluster import Cluster, PoolSetup, run
    from planner.simulate.demand import Demand
    from planner.simulate.settings import EngineSettings, StepTimes


    def engine(step_ms):
        steps = StepTimes.linear(64, step_ms, sequence_ms=0.05, prompt_token_ms=0.02)
        return EngineSettings(steps, 64, max_num_batched_tokens=2048, kv_blocks=10_000)


    pools = [PoolSetup("fast", engine(8.0), n_replicas=2), PoolSetup("slow", engine(20.0), 1)]
    cluster = Cluster.of(pools, {"chat": {"fast": 0.8, "slow": 0.2}}, balance="fewest_requests")
    arrived_s = poisson(20.0, seed=0, duration_s=600.0)
    random, n = np.random.default_rng(0), arrived_s.size
    prompt, answer = random.geometric(1 / 600, n), random.geometric(1 / 250, n)
    records = run(cluster, Demand.of(arrived_s, prompt, answer, n_pools=2)).records
    print(f"p95 TTFT {np.percentile(records.ttft_ms, 95):.0f} ms of {n:,} requests")
    # p95 TTFT 61 ms of 12,088 requests

A plan that `rb plan` has made, under the arrivals of its question:

    from pathlib import Path
    from planner.files.inputs import read_inputs
    from planner.files.plans import need_plan_and_routes
    from planner.simulate.rehearse import Options, rehearse
    from planner.simulate.scene import scene_of

    folder = Path("plans/a100")
    scene = scene_of(read_inputs(folder))
    done = rehearse(scene, *need_plan_and_routes(folder), Options(rate_factor=1.2))
    for figure in done.simulated.latency:
        print(figure.metric, figure.statistic, figure.ms, figure.at_most_ms, figure.verdict)

`Options(seeds=(0, 1, 2))` runs each seed in a process of its own: a script then needs
`if __name__ == "__main__":`. Records (records.py) are one row per request, as numpy columns;
`planner.simulate.failures.parse` reads failures as `rb simulate --fail` takes them.
"""
