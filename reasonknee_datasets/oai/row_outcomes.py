"""Outcome of each row: a line of the report."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Status = Literal["converted", "present", "found", "missing", "refused", "pending"]

STATUSES: dict[Status, str] = {
    "converted": "written in this run",
    "present": "already there, written by an earlier run, and on its mask's grid",
    "found": "in the download, and its header agrees (dry run)",
    "missing": "not in the download",
    "refused": "in the download, but not converted: see kind and message",
    "pending": "not reached before the run ended",
}


@dataclass(frozen=True, slots=True)
class RowOutcome:
    """One row of the report.

    Attributes
    ----------
    patient, visit, date, series, side, split : str
        The row; empty where it is not known.
    status : str
        One of `STATUSES`.
    kind : str
        One of `REFUSALS` where the row is refused.
    message : str
        Why it is refused or missing.
    output : str
        The image, relative to the output folder.
    source : str
        Where the series was read.
    shape, spacing : str
        Of the written array, such as 160x384x384 and 0.7x0.3646x0.3646 (mm).
    grid_mm : float or None
        How far the corners of the source's grid lay from the mask's; None without a mask.
    notes : str
        Images that were left out, and identity that could not be proven.
    address : str
        Where the series can be ordered.
    seconds : float
        Time that it took.
    """

    patient: str
    visit: str
    date: str
    series: str
    side: str
    split: str
    status: Status
    kind: str = ""
    message: str = ""
    output: str = ""
    source: str = ""
    shape: str = ""
    spacing: str = ""
    grid_mm: float | None = None
    notes: str = ""
    address: str = ""
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the row as a mapping of its columns."""
        return asdict(self)
