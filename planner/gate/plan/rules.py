"""The rules that every plan is held to, in the order in which findings are told."""

from __future__ import annotations

from planner.gate.finding import PLAN_AGAIN, Rule, Severity


def _rule(
    id: str, summary: str, why: str, fix: str = PLAN_AGAIN, severity: Severity = "error"
) -> Rule:
    return Rule(id, severity, "plan", summary, why, fix)


PLAN_RULES: tuple[Rule, ...] = (
    # ---- What was kept from the run that made the plan
    _rule(
        "stale",
        "the plan was made of the inputs that lie there today",
        "An answer to another question, or about other measurements, answers nothing (§7).",
    ),
    _rule(
        "incomplete",
        "the search that made the plan ran to its end",
        "After an interruption a better plan may exist.",
        severity="warning",
    ),
    _rule(
        "simulated",
        "no limit was missed for certain when the plan was simulated",
        "Where simulation contradicts a plan, the plan is wrong (§9).",
        "plan with --effort thorough, or loosen the limit",
    ),
    _rule(
        "simulation-differs",
        "what is said of the simulation is of this plan, and its verdicts follow from its figures",
        "A verdict that was edited, or of another deployment, is none (§9).",
    ),
    # ---- What it orders
    _rule(
        "unknown-pool",
        "every pool is one that the question may be answered with",
        "Traffic to a pool without a profile, scores or GPUs goes nowhere.",
        "correct the name, or allow the pool in the question",
    ),
    _rule(
        "unknown-class",
        "every class is one of the question",
        "A route of a class that nobody sends is a route that somebody else lacks.",
        "correct the name",
    ),
    _rule(
        "unknown-cascade",
        "every cascade is one that today's scores prove to be worth it",
        "A first model in front of a second one costs both where it does not help.",
    ),
    _rule(
        "cascade-drift",
        "a cascade escalates as often, and is as good, as today's scores say",
        "Load and quality of both its models follow from these two figures.",
    ),
    _rule(
        "duplicate",
        "no pool, route or cascade is given twice",
        "Of two entries nobody knows which one counts.",
        "keep one entry",
    ),
    _rule(
        "shares-sum",
        "the shares of a class, or of a cascade's stage, have 6 decimals and sum to exactly 1",
        "What is missing is traffic that no one serves (§6).",
        "correct the shares, or plan again",
    ),
    _rule(
        "no-replica",
        "traffic goes only where a replica runs",
        "A share on a pool without replicas is refused, request by request.",
        "deploy the pool, or move the share",
    ),
    _rule(
        "not-allowed",
        "a class goes only to pools that it may use",
        "The question's pools and not_pools, and the scores, say who may answer a class.",
        "move the share to another pool",
    ),
    _rule(
        "routes-missing",
        "routes.json lies beside plan.json",
        "It is what the runtime reads: without it the plan is not enforced.",
    ),
    _rule(
        "routes-differ",
        "routes.json says what plan.json says",
        "Else what was judged is not what is served.",
    ),
    _rule(
        "sheet-differs",
        "serving.json, where there is one, says what the plan and today's inputs give",
        "The runtime admits, predicts and watches by its figures.",
    ),
    # ---- What the deployment takes
    _rule(
        "deployment-row",
        "model, GPU, GPUs and rent of a deployment row follow from its profile and replicas",
        "Whoever orders hardware reads this row.",
    ),
    _rule(
        "replica-range",
        "replicas lie within the ranges that the question allows",
        "A range is a promise to somebody: what runs already, what a provider allows.",
    ),
    _rule(
        "memory",
        "weights and shares of GPUs fit the memory that there is",
        "A replica that does not fit does not start.",
        "use more or larger GPUs per replica",
    ),
    _rule(
        "node",
        "a replica fits into one node unless its pool spans nodes",
        "Tensor parallelism across nodes is another pool, with other measurements.",
        "lower tensor_parallel, or set spans_nodes: true",
    ),
    _rule(
        "idle",
        "no pool has more replicas than all traffic would keep busy",
        "Replicas that would idle with all traffic on them are money for nothing.",
        severity="warning",
    ),
    _rule(
        "stock",
        "no more GPUs of a kind are taken than exist",
        "What is not there cannot be rented.",
        "raise the stock, or plan again",
    ),
    _rule(
        "halves",
        "replicas of more than half a node are no more than the nodes that have room for one",
        "Enough GPUs in all are no place for a replica that needs a node's larger half.",
        "raise the stock, or plan again",
    ),
    _rule(
        "copies",
        "no two shards of one model need the same GPU",
        "Two copies of the same weights on one GPU take memory and serve no one faster.",
        "raise the stock, or plan again",
    ),
    _rule(
        "placement",
        "every replica has its places: whole, on one node, within each GPU's compute and memory",
        "Counts can add up where no arrangement does.",
    ),
    _rule(
        "budget",
        "rent and hosted requests together are within the question's budget",
        "The budget is the one limit that is signed by somebody else.",
        "raise budget_usd_per_h, or plan again",
    ),
    _rule(
        "supply",
        "no more GPUs are reserved, or used beside the reserved ones, than there are",
        "Money of a day is counted on what is reserved and what is rented by the hour.",
    ),
    _rule(
        "periods",
        "a plan with periods is of the question's periods, and its changes and money add up",
        "Each hour is served and paid by one of them.",
    ),
    # ---- What its users will see
    _rule(
        "capacity",
        "every pool keeps the question's headroom free",
        "At the brim a queue is as long as chance will have it.",
        "more replicas, or move shares away",
    ),
    _rule(
        "no-latency",
        "classes with a latency limit go only to pools whose latency was measured",
        "A limit cannot be held by a pool of which no time is known.",
        "measure it (points.csv), or move the share",
    ),
    _rule(
        "limit",
        "every latency limit is met by today's tables",
        "It is what was promised to users (§2).",
        "more or faster replicas, or a looser limit",
    ),
    _rule(
        "quality-floor",
        "quality of all traffic, and of each class, is at its floor or above",
        "Else money is saved on the answers (§4).",
        "more replicas of better models, or a lower floor",
    ),
    _rule(
        "not-survived",
        "the plan keeps its promises in every scenario that the question asks for",
        "Failures and bursts come whether or not they were planned for.",
        "more replicas, or ask for less in robust",
    ),
    _rule(
        "survives-differ",
        "what the plan says of its scenarios is what the same inputs give",
        "An edited survival is none.",
    ),
    _rule(
        "extrapolated",
        "every pool runs within its measured loads",
        "Outside them latencies are continued, not known (§8).",
        "measure the pool near the load that the finding names",
        severity="warning",
    ),
    _rule(
        "mix-shift",
        "the figures were predicted at class mixes close to the plan's own",
        "A pool's speed depends on who is sent there (§5).",
        "rb plan DIR with more effort",
        severity="warning",
    ),
    _rule(
        "prediction-drift",
        "the plan's own figures are what the same inputs give (a warning where mix-shift says why)",
        "A figure that was edited, or made by another version, is not a prediction.",
    ),
    _rule(
        "proof",
        "bounds, gaps and reasons agree with the figures that they are about",
        "A plan better than its own bound has a wrong bound (§5).",
    ),
)
