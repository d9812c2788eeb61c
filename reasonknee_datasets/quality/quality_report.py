"""Report of data checks: findings by check, with counts and the worst examples."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from reasonknee_datasets.printable import printable
from reasonknee_datasets.quality.data_checks import CHECKS, DataCheck

EXAMPLES = 5
"""Examples kept of each check; the count is exact."""


@dataclass(frozen=True, slots=True)
class Example:
    """One finding: the id of the row, volume or patient, what is wrong, and how badly (larger is worse)."""

    id: str
    message: str
    badness: float = 0.0


@dataclass(frozen=True, slots=True)
class FindingGroup:
    """All findings of one check; ``examples`` are the worst of them."""

    check: DataCheck
    count: int
    examples: tuple[Example, ...]
    allowed: bool


@dataclass(slots=True)
class Findings:
    """Collects findings."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[Example]] = field(default_factory=dict)

    def add(self, check: str, place: str, message: str, badness: float = 0.0, count: int = 1) -> None:
        """Count a finding, and keep it if it is among the worst; of equals the first ones are kept."""
        self.counts[CHECKS[check].name] += count
        kept = self.examples.setdefault(check, [])
        kept.append(Example(place, message, badness))
        kept.sort(key=lambda example: -example.badness)
        del kept[EXAMPLES:]

    def group(self, allowed: frozenset[str]) -> tuple[FindingGroup, ...]:
        """Group what was found, in the order of `CHECKS`."""
        return tuple(
            FindingGroup(check, self.counts[name], tuple(self.examples[name]), name in allowed)
            for name, check in CHECKS.items()
            if self.counts[name]
        )


@dataclass(frozen=True, slots=True)
class QualityReport:
    """Outcome of all data checks; its string is what ``reasonknee check`` prints.

    Attributes
    ----------
    rows, volumes, images : int
        Numbers of checked items; ``images`` were decoded.
    groups : tuple of FindingGroup
        The checks that found something, in the order of `CHECKS`.
    """

    rows: int
    volumes: int
    images: int
    groups: tuple[FindingGroup, ...]

    @property
    def refused(self) -> tuple[FindingGroup, ...]:
        """Groups of errors that are not allowed."""
        return tuple(group for group in self.groups if group.check.severity == "error" and not group.allowed)

    @property
    def counts(self) -> Mapping[str, int]:
        """Number of findings by check."""
        return {group.check.name: group.count for group in self.groups}

    def to_json(self) -> str:
        """Write the report as JSON."""
        groups = [
            {
                **asdict(group.check),
                "count": group.count,
                "allowed": group.allowed,
                "examples": [asdict(example) for example in group.examples],
            }
            for group in self.groups
        ]
        passed = [name for name in CHECKS if name not in self.counts]
        tree: dict[str, Any] = {"rows": self.rows, "volumes": self.volumes, "images": self.images}
        return json.dumps({**tree, "ok": not self.refused, "findings": groups, "passed": passed}, indent=1) + "\n"

    def describe(self, groups: tuple[FindingGroup, ...]) -> str:
        """Write groups as text."""
        lines: list[str] = []
        for group in groups:
            tag = "allowed" if group.allowed else group.check.severity
            lines.append(f"{group.check.name} ({tag}): {group.count:,}, {group.check.meaning}. {group.check.remedy}.")
            lines += [f"  {example.id}: {example.message}" for example in group.examples]
            more = group.count - len(group.examples)
            lines += [f"  ... and {more:,} more"] if more else []
        return "\n".join(map(printable, lines))  # names in rows may come from strangers

    def __str__(self) -> str:
        head = f"{self.rows:,} rows and {self.images:,} images of {self.volumes:,} volumes checked"
        if not self.groups:
            return f"{head}: nothing found"
        return f"{head}\n{self.describe(self.groups)}"
