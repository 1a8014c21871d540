"""A small planning instance whose exact front is known: the yardstick of the search methods.

Three models on three GPU types with four GPUs each, tensor parallel 1, 2 or 4: 21 ways to
run a model (options), 23,562 deployments, six limits on the mean latency. Synthetic and
deterministic: latencies follow a roofline with public GPU figures, qualities a logistic
curve per request class. A point is (replicas of each option, level of the latency limit).

Notation
    n        class of requests, share p_n of arrivals, w_n output tokens    (K,), sum p = 1
    m        model; q_nm mean quality of its answers to class n             (K, M), 0..1
    o        option: one model on one GPU type with one tensor parallel size
    z_o      replicas of option o                                           (O,) integers
    Lambda   arrivals                                                       requests/s
    s        segment of the convex occupancy curve of an option: width_s    tokens/s
             slope_s: requests in the system per token/s                    seconds/token
    x_nm     share of class n that goes to model m                          (K, M)
    y_s      output tokens/s on segment s                                   (O, S)
    T        limit on the mean latency                                      seconds
    mu_m     price of a token/s on model m; lambda price of a request in the system

Program of one point (Little's law makes the mean latency linear)
    maximise sum_n p_n sum_m q_nm x_nm
    s.t.     sum_m x_nm = 1                                       for every class
             Lambda sum_n p_n w_nm x_nm = sum_{s in m} y_s        for every model     (mu_m)
             sum_s slope_s y_s <= Lambda T                                           (lambda)
             0 <= y_s <= z_o width_s
Bound of any (mu, lambda >= 0), linear in z: the reason why the truth needs few programs
    sum_n p_n max_m(q_nm - Lambda mu_m w_n) + sum_s z_o width_s max(0, mu_m - lambda slope_s)
        + lambda Lambda T
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from planner.search import pareto
from planner.search.problem import Box, Outcome, Problem

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LIMITS_S = np.array([3.0, 5.0, 8.0, 12.0, 20.0, 40.0])
N_GPUS_PER_TYPE = 4
N_CLASSES = 24
INPUT_TOKENS = 800
MEAN_OUTPUT_TOKENS = 300.0
ARRIVALS_RPS = 30.0

# billions of parameters, KV cache MiB per token, skill on the logistic scale of difficulty
MODELS = {"8b": (8.0, 0.125, 0.45), "32b": (32.0, 0.25, 0.66), "70b": (70.0, 0.3125, 0.80)}
# memory GiB, bandwidth GB/s, dense 16-bit TFLOPS (data sheets), price $/h (assumed)
GPUS = {
    "l40s": (48.0, 864.0, 362.0, 1.1),
    "a100": (80.0, 2039.0, 312.0, 1.9),
    "h200": (141.0, 4800.0, 989.0, 3.8),
}
WORST_COST_USD_PER_H = 30.0
WORST_QUALITY = 0.4
WORST_LATENCY_S = 60.0
_TOLERANCE = 1e-8


@dataclass(frozen=True)
class Option:
    """One way to run a model, and the convex occupancy curve of one replica."""

    model: int
    gpu: int
    tensor_parallel: int
    cost_usd_per_h: float
    widths_tokens_per_s: Floats
    slopes_s_per_token: Floats


def options() -> list[Option]:
    """Returns every option whose weights fit into 90 % of its memory with a tenth to spare."""
    found = []
    for m, (billions, kv_mib, _) in enumerate(MODELS.values()):
        for g, (memory_gib, *_, price) in enumerate(GPUS.values()):
            for tp in (1, 2, 4):
                free_gib = 0.9 * memory_gib * tp - 2.0 * billions * 1e9 / 2**30
                if free_gib < 0.1 * memory_gib * tp:
                    continue
                tokens = free_gib * 1024 / kv_mib
                batch = min(256.0, 0.9 * tokens / (INPUT_TOKENS + MEAN_OUTPUT_TOKENS))
                widths, slopes = _occupancy(m, g, tp, batch)
                found.append(Option(m, g, tp, price * tp, widths, slopes))
    return found


def _occupancy(m: int, g: int, tp: int, largest_batch: float) -> tuple[Floats, Floats]:
    """Segments of the occupancy over the load: chords between growing batch sizes.

    A step of batch b takes max(memory time, compute time) + communication, and each step
    also prefills b / MEAN_OUTPUT_TOKENS requests; the load is b / step.
    """
    billions, kv_mib, _ = list(MODELS.values())[m]
    _, bandwidth_gb_per_s, tflops, _ = list(GPUS.values())[g]
    batch = np.append(0.0, np.geomspace(1.0, largest_batch, 6))
    context = INPUT_TOKENS + MEAN_OUTPUT_TOKENS / 2
    read_gb = 2.0 * billions + batch * context * kv_mib * 2**20 / 1e9
    memory_s = read_gb / (0.7 * bandwidth_gb_per_s * tp)
    compute_s = 2.0 * billions * batch / (0.5 * tflops * tp * 1e3)
    communication_s = 0.002 + 0.002 * (tp > 1) + 0.001 * (tp > 2)
    prefill_s = 2.0 * billions * INPUT_TOKENS / (0.5 * tflops * tp * 1e3)
    step_s = np.maximum(memory_s, compute_s) + communication_s
    step_s = step_s + batch * prefill_s / MEAN_OUTPUT_TOKENS
    load = batch / step_s
    return np.diff(load), np.diff(batch) / np.diff(load)


class Instance:
    """The data, the program of one point, and the exact front over all points."""

    def __init__(
        self, n_gpus_per_type: int = N_GPUS_PER_TYPE, arrivals_rps: float = ARRIVALS_RPS
    ) -> None:
        self.options = options()
        self.n_gpus_per_type = n_gpus_per_type
        self.arrivals_rps = arrivals_rps
        rng = np.random.default_rng(20240501)
        self.shares = rng.dirichlet(np.full(N_CLASSES, 4.0))
        tokens = rng.lognormal(0.0, 0.5, N_CLASSES)
        self.tokens = tokens * MEAN_OUTPUT_TOKENS / (self.shares @ tokens)
        difficulty = rng.beta(2.0, 2.0, N_CLASSES)
        skill = np.array([model[2] for model in MODELS.values()])
        noise = rng.normal(0.0, 0.35, (N_CLASSES, len(MODELS)))
        self.quality = 1.0 / (1.0 + np.exp(-6.0 * (skill - difficulty[:, None]) - noise))
        self.model_of = np.array([o.model for o in self.options])
        self.cost = np.array([o.cost_usd_per_h for o in self.options])
        self.widths = np.array([o.widths_tokens_per_s for o in self.options])
        self.slopes = np.array([o.slopes_s_per_token for o in self.options])
        self.load = arrivals_rps * MEAN_OUTPUT_TOKENS

    @cached_property
    def box(self) -> Box:
        """Returns the box of all (replicas, limit level): one row per GPU type."""
        gpus = np.array([o.gpu for o in self.options])
        size = np.array([o.tensor_parallel for o in self.options])
        rows = np.where(gpus == np.arange(len(GPUS))[:, None], size, 0).astype(np.float64)
        n_options = len(self.options)
        return Box(
            lower=np.zeros(n_options + 1, dtype=np.int64),
            upper=np.append(self.n_gpus_per_type // size, len(LIMITS_S) - 1).astype(np.int64),
            rows=np.hstack([rows, np.zeros((len(GPUS), 1))]),
            limits=np.full(len(GPUS), float(self.n_gpus_per_type)),
        )

    def problem(self) -> Problem:
        """Returns the search problem: cost, minus quality, log2 of the latency limit."""
        return Problem(
            box=self.box,
            n_objectives=3,
            evaluate=self.evaluate,
            reference=np.array([WORST_COST_USD_PER_H, -WORST_QUALITY, np.log2(WORST_LATENCY_S)]),
            known=self.known,
            features=self.features,
        )

    def known(self, points: Ints) -> Floats:
        """Returns cost, NaN (the quality must be evaluated), log2 of the limit, (n, 3)."""
        cost = points[:, :-1] @ self.cost
        return np.column_stack(
            [cost, np.full(len(points), np.nan), np.log2(LIMITS_S[points[:, -1]])]
        )

    def features(self, points: Ints) -> Floats:
        """Returns what a surrogate should see of each point, (n, 9).

        Per model the log capacity and the log base latency over the limit (of its slowest
        option where it has no replica), the log headroom, the cost $/h, log2 of the limit.
        Headroom: the load at which each option alone has a mean latency of the limit, summed,
        over the load.
        """
        replicas, log_limit = points[:, :-1], np.log2(LIMITS_S[points[:, -1]])
        capacity = self.widths.sum(axis=1)
        base_s = self.slopes[:, 0] * MEAN_OUTPUT_TOKENS
        columns = []
        for m in range(len(MODELS)):
            mine = self.model_of == m
            total = replicas[:, mine] @ capacity[mine]
            weighted = replicas[:, mine] @ (capacity * base_s)[mine]
            mean_s = np.where(total > 0, weighted / np.maximum(total, 1e-9), base_s[mine].max())
            columns += [np.log2(1.0 + 16.0 * total / self.load), np.log2(mean_s) - log_limit]
        usable = np.sum(replicas * self.usable_tokens_per_s[points[:, -1]], axis=1)
        headroom = np.log2(0.1 + usable / self.load)
        return np.column_stack([*columns, headroom, replicas @ self.cost, log_limit])

    @cached_property
    def usable_tokens_per_s(self) -> Floats:
        """Returns the load of one replica alone at a mean latency of each limit, (6, O)."""
        load = np.cumsum(self.widths, axis=1)
        latency_s = np.cumsum(self.widths * self.slopes, axis=1) / load * MEAN_OUTPUT_TOKENS
        # Along the first segment the latency is constant: below it the limit is out of reach.
        return np.array(
            [
                [np.interp(limit_s, t, r, left=0.0) for t, r in zip(latency_s, load, strict=True)]
                for limit_s in LIMITS_S
            ]
        )

    def evaluate(self, point: Ints) -> Outcome:
        """Returns the best routing of `point`: (cost $/h, -quality, log2 limit), violation."""
        limit_s = float(LIMITS_S[point[-1]])
        violation, fallback = self.phase_one(point[None, :-1], limit_s)
        quality = fallback[0] if violation[0] > 0 else self.route(point[:-1], limit_s)[0]
        known = self.known(point[None, :])[0]
        return Outcome(np.array([known[0], -quality, known[2]]), float(violation[0]))

    def phase_one(self, replicas: Ints, limit_s: float) -> tuple[Floats, Floats]:
        """Returns how far each deployment (n, O) misses, and its quality if it does, (n,) each.

        A deployment misses by log2 of least latency over limit, plus its unserved share.
        """
        latency_s, unserved, quality, _ = self.least_latency(replicas)
        late = np.maximum(0.0, np.log2(latency_s / limit_s))
        return np.where(late < _TOLERANCE, 0.0, late) + unserved, quality

    def least_latency(self, replicas: Ints) -> tuple[Floats, Floats, Floats, Floats]:
        """Returns what filling all segments of each deployment (n, O) by slope gives, (n,) each.

        The least mean latency in s, an unserved request counting as 400 s; the unserved share;
        the mean quality; the slope of the last segment in use.
        """
        order = np.argsort(self.slopes.ravel(), kind="stable")
        option = order // self.slopes.shape[1]
        width = replicas[:, option] * self.widths.ravel()[order]
        before = np.cumsum(width, axis=1) - width
        filled = np.clip(self.load - before, 0.0, width)
        served = filled.sum(axis=1)
        unserved = np.maximum(0.0, 1.0 - served / self.load)
        unserved = np.where(unserved < _TOLERANCE, 0.0, unserved)
        latency_s = filled @ self.slopes.ravel()[order] / self.arrivals_rps + 400.0 * unserved
        mean_quality = (self.shares * self.tokens) @ self.quality / MEAN_OUTPUT_TOKENS
        quality = filled @ mean_quality[self.model_of[option]] / self.load
        last = np.max(np.where(filled > 0.0, self.slopes.ravel()[order], 0.0), axis=1)
        return latency_s, unserved, quality, last

    def route(self, replicas: Ints, limit_s: float) -> tuple[float, Floats]:
        """Returns the best mean quality within the limit, and the prices (mu, lambda), (M + 1,).

        Raises ValueError where no routing meets the limit.
        """
        rows = [self._merged(replicas, m) for m in range(len(MODELS))]
        widths = np.concatenate([w for w, _ in rows])
        slopes = np.concatenate([s for _, s in rows])
        model = np.repeat(np.arange(len(MODELS)), [len(w) for w, _ in rows])
        n_shares = self.quality.size
        tokens_per_s = self.shares * self.tokens * self.arrivals_rps / self.load
        equal = np.zeros((N_CLASSES + len(MODELS), n_shares + len(widths)))
        equal[:N_CLASSES, :n_shares] = np.repeat(np.eye(N_CLASSES), len(MODELS), axis=1)
        equal[N_CLASSES:, :n_shares] = np.kron(tokens_per_s, np.eye(len(MODELS)))
        equal[N_CLASSES:, n_shares:] = -1.0 * (model == np.arange(len(MODELS))[:, None])
        late = np.concatenate(
            [np.zeros(n_shares), slopes * self.load / (self.arrivals_rps * limit_s)]
        )
        found = linprog(
            -np.concatenate([(self.shares[:, None] * self.quality).ravel(), np.zeros(len(widths))]),
            A_ub=late[None, :],
            b_ub=[1.0],
            A_eq=equal,
            b_eq=np.append(np.ones(N_CLASSES), np.zeros(len(MODELS))),
            bounds=np.column_stack(
                [np.zeros(len(late)), np.append(np.ones(n_shares), widths / self.load)]
            ),
            method="highs",
        )
        if found.status != 0:
            raise ValueError(f"no routing: {found.message}")
        prices = np.append(-found.eqlin.marginals[N_CLASSES:], -found.ineqlin.marginals)
        return -float(found.fun), prices

    def _merged(self, replicas: Ints, m: int) -> tuple[Floats, Floats]:
        """Widths and slopes of the segments that the replicas of model m offer."""
        used = (self.model_of == m) & (replicas > 0)
        widths = replicas[used, None] * self.widths[used]
        return widths.ravel(), self.slopes[used].ravel()

    def bound(self, prices: Floats, limit_s: float) -> tuple[float, Floats]:
        """Returns (constant, gain per replica (O,)): constant + z @ gain >= quality of any z."""
        mu, price_late = prices[:-1], max(0.0, float(prices[-1]))
        tokens = self.shares * self.tokens * self.arrivals_rps / self.load
        served = self.shares[:, None] * self.quality - np.outer(tokens, mu)
        late = self.slopes * self.load / (self.arrivals_rps * limit_s)
        worth = np.maximum(0.0, mu[self.model_of][:, None] - price_late * late)
        gain = np.sum(worth * self.widths / self.load, axis=1)
        return float(served.max(axis=1).sum()) + price_late, gain

    def upper(self, prices: Floats, limit_s: float, replicas: Ints) -> Floats:
        """Returns a bound on the quality of each deployment (n, O) within the limit, (n,)."""
        constant, gain = self.bound(prices, limit_s)
        return np.asarray(constant + replicas @ gain)

    def truth(self, prices: list[Floats] | None = None) -> tuple[Ints, Floats]:
        """Returns the points (n, O + 1) and values (n, 3) of the exact front.

        To `prices` are added those of every program solved on the way, (M + 1,) each.

        Exact within 1e-7 of quality: a deployment is left out only when a bound proves that
        a solved one of no higher cost is as good. Solving all 88,217 acceptable points
        instead (136 s) gave the same hypervolume to 15 digits.
        """
        replicas = self.deployments()
        cost = replicas @ self.cost
        points, values = [], []
        prices = [] if prices is None else prices
        for level, limit_s in enumerate(LIMITS_S):
            solved = self._best_at(replicas, cost, float(limit_s), prices)
            for i, quality in solved.items():
                points.append(np.append(replicas[i], level))
                values.append([cost[i], -quality, np.log2(limit_s)])
        # Two sums of one cost, two solves of one optimum differ in the last digits.
        keep = pareto.non_dominated(np.array(values).round(7))
        return np.array(points)[keep], np.array(values)[keep]

    def deployments(self) -> Ints:
        """Returns all deployments without the limit level, (n, O)."""
        box = self.box
        return Box(box.lower[:-1], box.upper[:-1], box.rows[:, :-1], box.limits).points(10**6)

    def _best_at(
        self, replicas: Ints, cost: Floats, limit_s: float, prices: list[Floats]
    ) -> dict[int, float]:
        """Qualities of the deployments solved at one limit; `prices` is read and extended."""
        alive = np.flatnonzero(self.phase_one(replicas, limit_s)[0] == 0.0)
        alive = alive[np.argsort(cost[alive], kind="stable")]
        upper = np.full(len(alive), np.inf)
        for known in prices:
            upper = np.minimum(upper, self.upper(known, limit_s, replicas[alive]))
        solved: dict[int, float] = {}
        best = np.full(len(replicas), -np.inf)  # of the solved ones of no higher cost
        while len(alive):
            gap = upper - best[alive]
            open_ = gap > 1e-7
            alive, upper, gap = alive[open_], upper[open_], gap[open_]
            if not len(alive):
                break
            pick = int(np.argmax(gap)) if np.isfinite(gap).all() else int(np.argmin(-upper))
            i = int(alive[pick])
            solved[i], new = self.route(replicas[i], limit_s)
            prices.append(new)
            best = np.where(cost >= cost[i], np.maximum(best, solved[i]), best)
            upper = np.minimum(upper, self.upper(new, limit_s, replicas[alive]))
            upper[pick] = -np.inf
        return solved
