"""Plans of a few pools with figures that follow from rates, shares and work per request alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from planner.spec.plan import DeployedPool, Plan, PoolFigure, Predicted, Provenance, Route

HASHES: dict[str, str] = {}


@dataclass(frozen=True)
class Kind:
    """A pool: its GPU, the GPUs of a replica, the work of a request in full replicas per req/s."""

    gpu: str = "h100"
    n_gpus: int = 1
    work: float = 1.0


def small_plan(
    kinds: Mapping[str, Kind],
    replicas: Mapping[str, int],
    shares: Mapping[tuple[str, str], float],
    rates: Mapping[str, float],
    hashes: Mapping[str, str] | None = None,
) -> Plan:
    """Returns a plan whose utilisations are those of its shares."""
    deployed = {pool: n for pool, n in replicas.items() if n}
    flow = {
        pool: sum(rates[c] * share for (c, p), share in shares.items() if p == pool)
        for pool in deployed
    }
    figures = tuple(
        PoolFigure(
            pool=pool,
            utilisation_ratio=flow[pool] * kinds[pool].work / n,
            rate_rps=flow[pool],
            output_tokens_per_s=0.0,
            goodput_rps=0.0,
            usd_per_million_output_tokens=None,
            extrapolated=False,
        )
        for pool, n in deployed.items()
    )
    return Plan(
        title="small",
        complete=True,
        deployment=tuple(
            DeployedPool(
                pool=pool,
                model_name=f"model-{pool}",
                gpu=kinds[pool].gpu,
                tensor_parallel=kinds[pool].n_gpus,
                replicas=n,
                n_gpus=float(n * kinds[pool].n_gpus),
                usd_per_h=float(n),
            )
            for pool, n in deployed.items()
        ),
        routing=tuple(
            Route.model_validate({"class": c, "pool": p, "share": share})
            for (c, p), share in shares.items()
            if share
        ),
        prices=(),
        predicted=Predicted(
            rate_rps=sum(rates.values()),
            class_rps=dict(rates),
            cost_usd_per_h=float(sum(deployed.values())),
            usd_per_million_output_tokens=None,
            quality=0.5,
            class_quality=dict.fromkeys(rates, 0.5),
            latency=(),
            latency_ratio=None,
            pools=figures,
            mix_shift_ratio=0.0,
            origin="measured",
        ),
        front=(),
        why=("small",),
        provenance=Provenance(
            rb_version="0", method="by hand", seed=0, effort="none", n_evaluations=1,
            inputs=dict(hashes or HASHES),
        ),
    )  # fmt: skip
