"""Counts the service's answers and rows, for Prometheus."""

from __future__ import annotations

import prometheus_client

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Counters of one service; two services in one process do not share them."""

    content_type = prometheus_client.CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = prometheus_client.CollectorRegistry()
        self._answers = prometheus_client.Histogram(
            "cdnet_answer_seconds",
            "Time until a request was answered, by route and status.",
            ["route", "status"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._added = prometheus_client.Counter(
            "cdnet_rows_added", "Rows that were new.", registry=self._registry
        )
        self._deleted = prometheus_client.Counter(
            "cdnet_rows_deleted", "Rows that were deleted.", registry=self._registry
        )
        self._rows = prometheus_client.Gauge(
            "cdnet_rows", "Rows in the gallery.", registry=self._registry
        )

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Counts an answer; `route` is a path of the API, such as `/v1/rows`."""
        self._answers.labels(route, str(status)).observe(seconds)

    def added(self, rows: int) -> None:
        """Counts new rows."""
        self._added.inc(rows)

    def deleted(self, rows: int) -> None:
        """Counts deleted rows."""
        self._deleted.inc(rows)

    def text(self, rows: int) -> bytes:
        """Returns all metrics; `rows` is the number of rows in the gallery now."""
        self._rows.set(rows)
        return prometheus_client.generate_latest(self._registry)
