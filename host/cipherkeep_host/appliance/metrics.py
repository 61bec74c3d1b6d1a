"""The only place for what the supervisor counts about the processes it keeps running."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class Processes(Collector):
    """Which of them run, and how often each was started again, looked up when somebody asks."""

    def __init__(self, pids: Callable[[], Mapping[str, int | None]], restarts: Callable[[], Mapping[str, int]]) -> None:
        self._pids = pids
        self._restarts = restarts

    def collect(self) -> Iterable[Metric]:
        """See `Collector`."""
        up = GaugeMetricFamily("appliance_process_up", "Whether a process runs", labels=["process"])
        for name, pid in self._pids().items():
            up.add_metric([name], float(pid is not None))
        again = CounterMetricFamily("appliance_restarts", "Starts after an end", labels=["process"])
        for name, count in self._restarts().items():
            again.add_metric([name], count)
        return [up, again]
