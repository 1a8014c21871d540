"""The policies of scheduling/ as the reference asks for them: each looks at the state anew."""

from __future__ import annotations

from collections.abc import Sequence

from reference_engine import Arrival, Batch, Rank, ReferenceReplica

from planner.scheduling.balance import Policy, Workers
from planner.scheduling.batch import BatchPolicy, DecodeWorkers


def arrival_by(policy: Policy) -> Arrival:
    def arrival(tokens: int, ranks: Sequence[Rank]) -> int:
        workers = Workers(
            n_running=[len(rank.running) for rank in ranks],
            n_waiting=[len(rank.waiting) for rank in ranks],
            kv_tokens=[known_tokens(rank) for rank in ranks],
            is_up=[True] * len(ranks),
        )
        return policy.pick(tokens, workers)

    return arrival


def batch_by(policy: BatchPolicy) -> Batch:
    def batch(waiting: Sequence[int], ranks: Sequence[Rank]) -> Sequence[tuple[int, int]]:
        workers = DecodeWorkers(
            load_tokens=[known_tokens(rank) for rank in ranks],
            free_slots=[
                rank.settings.max_num_seqs - len(rank.running) - len(rank.waiting) for rank in ranks
            ],
        )
        return policy(waiting, workers)

    return batch


def known_tokens(rank: Rank) -> int:
    return sum(request.tokens for request in rank.running + rank.waiting)


def workers_of(replicas: Sequence[ReferenceReplica], is_up: Sequence[bool]) -> Workers:
    return Workers(
        n_running=[replica.n_running for replica in replicas],
        n_waiting=[replica.n_waiting for replica in replicas],
        kv_tokens=[replica.kv_tokens for replica in replicas],
        is_up=list(is_up),
    )
