"""Class of the incident that a finding may open, and when what it tells began. Pure."""

from __future__ import annotations

from redistill.streams.wire.events import DriftFound, IncidentClass
from redistill.times import microseconds

__all__ = ["change_bounds", "class_while_open", "incident_class_of"]


def incident_class_of(finding: DriftFound) -> tuple[IncidentClass | None, str]:
    """The class of incident that a finding may open, or why it opens none."""
    match finding.kind:
        case "accuracy" if finding.impact.harmful is True and finding.impact.basis == "measured":
            return "harm", ""
        case "accuracy":
            return None, "harm is not established by measurement: shown, nobody is called"
        case "quality" if finding.severity != "info":
            return "data_bug", ""
        case "calibration" if finding.impact.harmful is True:
            return "calibration", ""
        case "latency" if finding.impact.harmful is True:
            return "serving", ""
        case "confidence":
            return None, "unusual doubt asks for labels; it opens no incident"
        case _:
            return None, f"{finding.kind} explains and ranks; it opens no incident of its own"


def class_while_open(finding: DriftFound) -> IncidentClass | None:
    """The class that a resolved finding had while it was open (a resolved one harms nobody)."""
    classes: dict[str, IncidentClass] = {
        "accuracy": "harm",
        "quality": "data_bug",
        "calibration": "calibration",
        "latency": "serving",
    }
    return classes.get(finding.kind)


def change_bounds(finding: DriftFound) -> tuple[int, int]:
    """Bounds of the time at which the change began: microseconds since 1970."""
    point = finding.change_point
    start, end = (
        (point.low, point.high)
        if point is not None
        else (finding.window.start, finding.window.start)
    )
    return microseconds(start), microseconds(end)
