"""The only place for what the application counts and times."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class Metrics:
    """One set for each process, in its own registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.height = Gauge("cipherkeep_chain_height", "Newest committed block", registry=self.registry)
        self.transactions = Counter(
            "cipherkeep_chain_transactions", "Executed transactions by verdict", ["code"], registry=self.registry
        )
        self.checks = Counter(
            "cipherkeep_chain_checks", "Checked transactions by verdict", ["code"], registry=self.registry
        )
        self.finalize = Histogram(
            "cipherkeep_chain_finalize_seconds",
            "Executing a block and computing its app hash",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.commit = Histogram(
            "cipherkeep_chain_commit_seconds", "Making a block durable", buckets=_SECONDS, registry=self.registry
        )
