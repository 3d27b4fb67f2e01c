"""Build Prometheus metrics from numbers that the components of the gateway have counted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from gateway.histogram import Histogram

PREFIX = "smpp_gateway_"

Values = Mapping[Any, float]
"""Label values (a single one, a tuple, or ``()`` without labels) -> value."""


def counter(name: str, documentation: str, labels: Iterable[str], values: Values) -> Metric:
    """Return a counter; the exposition appends ``_total`` to its name."""
    return _filled(CounterMetricFamily(PREFIX + name, documentation, labels=list(labels)), values)


def gauge(name: str, documentation: str, labels: Iterable[str], values: Values) -> Metric:
    """Return a gauge."""
    return _filled(GaugeMetricFamily(PREFIX + name, documentation, labels=list(labels)), values)


def histogram(name: str, documentation: str, labels: Iterable[str], histograms: Mapping[Any, Histogram]) -> Metric:
    """Return a histogram with the buckets of our own."""
    metric = HistogramMetricFamily(PREFIX + name, documentation, labels=list(labels))
    for key, one in list(histograms.items()):
        metric.add_metric(_label_values(key), one.buckets(), sum_value=one.sum)
    return metric


def _filled(metric: CounterMetricFamily | GaugeMetricFamily, values: Values) -> Metric:
    for key, value in list(values.items()):
        metric.add_metric(_label_values(key), value)
    return metric


def _label_values(key: object) -> list[str]:
    return [str(part) for part in key] if isinstance(key, tuple) else [str(key)]
