"""Families of metrics in Prometheus' words, from what the parts have counted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from gateway.histogram import Histogram

PREFIX = "smpp_gateway_"

Values = Mapping[Any, float]
"""Label values (one, or a tuple of them) to a value."""


def _labels(key: object) -> list[str]:
    return [str(part) for part in key] if isinstance(key, tuple) else [str(key)]


def counter(name: str, words: str, labels: Iterable[str], values: Values) -> Metric:
    """A counter; ``_total`` is put behind its name."""
    family = CounterMetricFamily(PREFIX + name, words, labels=list(labels))
    for key, value in list(values.items()):
        family.add_metric(_labels(key), value)
    return family


def gauge(
    name: str, words: str, values: Values | tuple[str, str], labels: Iterable[str] = ("version", "node")
) -> Metric:
    """A gauge; a plain pair of labels is 1."""
    family = GaugeMetricFamily(PREFIX + name, words, labels=list(labels))
    for key, value in ({values: 1.0} if isinstance(values, tuple) else dict(values)).items():
        family.add_metric(_labels(key), value)
    return family


def histogram(name: str, words: str, labels: Iterable[str], seen: Mapping[Any, Histogram]) -> Metric:
    """A histogram of ours in their words."""
    family = HistogramMetricFamily(PREFIX + name, words, labels=list(labels))
    for key, one in list(seen.items()):
        family.add_metric(_labels(key), one.buckets(), sum_value=one.sum)
    return family
