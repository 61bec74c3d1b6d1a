"""The only place that names the connector's metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """One registry for one connector."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.chain_height = Gauge("connector_chain_height", "Newest block seen", registry=registry)
        self.done_height = Gauge("connector_done_height", "Height up to which all is done", registry=registry)
        self.open_requests = Gauge("connector_open_requests", "Requests left open below it", registry=registry)
        self.answers = Counter("connector_answers", "Answers sent, by verdict", ["verdict"], registry=registry)
        self.failures = Counter("connector_failures", "Attempts that failed, by code", ["code"], registry=registry)
        self.sessions = Counter("connector_sessions", "Sessions with the enclave begun", registry=registry)
        self.process_seconds = Histogram(
            "connector_process_seconds",
            "Time of one call that answers a batch",
            buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5, 30, 120),
            registry=registry,
        )
