"""Prometheus' text format (version 0.0.4): measurements in, one text out. Pure.

Twenty lines do here what a client library would do with a registry that all nodes of a process share.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

__all__ = ["MEDIA_TYPE", "Metric", "counter", "exposition", "gauge"]

MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Metric(NamedTuple):
    """One measurement, or one for each value of a label."""

    name: str
    kind: str
    help: str
    values: Mapping[str, float]
    """By value of the label; under an empty text when there is no label."""
    label: str


def gauge(name: str, help: str, value: "float | Mapping[str, float]", label: str = "") -> Metric:
    """What goes up and down."""
    return Metric(name, "gauge", help, _by_label(value), label)


def counter(name: str, help: str, value: "float | Mapping[str, float]", label: str = "") -> Metric:
    """What only goes up, and begins at 0 with the process; its name ends with `_total`."""
    return Metric(name, "counter", help, _by_label(value), label)


def exposition(metrics: Iterable[Metric]) -> str:
    """The text of all of them."""
    return "".join(map(_written, metrics))


def _by_label(value: "float | Mapping[str, float]") -> Mapping[str, float]:
    return value if isinstance(value, Mapping) else {"": value}


def _written(metric: Metric) -> str:
    lines = [f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.kind}"]
    for label, value in metric.values.items():
        labelled = f'{{{metric.label}="{_escaped(label)}"}}' if metric.label else ""
        lines.append(f"{metric.name}{labelled} {value!r}")
    return "\n".join(lines) + "\n"


def _escaped(label: str) -> str:
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
