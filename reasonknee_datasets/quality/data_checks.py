"""The list of data checks with severities and remedies, and what they found, with counts and the worst examples."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from reasonknee_datasets.errors import RepositoryError, nearest
from reasonknee_datasets.printable import printable

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class DataCheck:
    """One check.

    Attributes
    ----------
    name : str
        As ``--allow`` takes it. A check of the release with the same meaning has the same name.
    severity : {"error", "warning"}
        An error stops, unless it is allowed.
    meaning : str
        Description of the problem.
    remedy : str
        Remedy.
    """

    name: str
    severity: Severity
    meaning: str
    remedy: str


_CONVERT_AGAIN = "Convert the series again from DICOM with `reasonknee convert`"
_PREPARE_AGAIN = "Compare the row with the official release and prepare the repository again"

_ALL = (
    # Splits and visits
    DataCheck(
        "patient-in-two-splits",
        "error",
        "a patient has volumes in more than one split",
        "Move all knees and visits of the patient into one split",
    ),
    DataCheck(
        "visit-order",
        "error",
        "the dates of a patient's visits are not in the order of the visits",
        "Compare visit and study with OAI's index, and correct the split file",
    ),
    DataCheck(
        "volume-mismatch",
        "error",
        "a row's split, patient, visit, side or study are not those of its volume",
        _PREPARE_AGAIN,
    ),
    # Texts and grades
    DataCheck("bad-grade", "error", "a grade is not a legal value of its slot", _PREPARE_AGAIN),
    DataCheck(
        "question-mismatch",
        "error",
        "category, finding, subregion or prompt do not belong to the question number",
        _PREPARE_AGAIN,
    ),
    DataCheck(
        "grade-contradiction",
        "error",
        "the reasoning or the answer states another grade than the row",
        "Read the text: either the grade or the text belongs to another row",
    ),
    DataCheck(
        "shared-reasoning",
        "warning",
        "one reasoning text is used for two different grades of the same question",
        "Read the text: it cannot be right for both rows",
    ),
    # Boxes
    DataCheck("box-empty", "error", "a box has no voxels", _PREPARE_AGAIN),
    DataCheck("box-outside", "error", "a box reaches outside its volume", _PREPARE_AGAIN),
    DataCheck(
        "box-size",
        "error",
        "a box is smaller or larger than its structure can be",
        "Check the box convention and the spacing of the volume",
    ),
    DataCheck(
        "unusual-box-size",
        "warning",
        "a box is smaller or larger than most boxes of its structure",
        "Look at the picture: a lesion may be small, and a region large",
    ),
    DataCheck(
        "side-mismatch",
        "error",
        "the medial and lateral boxes are as in a knee of the other side",
        "Check knee_side in the split file and the affine of the image: one of them is mirrored",
    ),
    # Images
    DataCheck(
        "unreadable-image",
        "error",
        "an image is missing or cannot be decoded",
        "Name the folder that contains volumes/ with --volumes-dir; convert damaged images again with "
        "`reasonknee convert`",
    ),
    DataCheck("constant-image", "error", "an image is constant, or nearly so", _CONVERT_AGAIN),
    DataCheck(
        "spacing",
        "error",
        "spacing or slice direction are far from the protocol",
        "Check the affine of the image: units, lost spacing or permuted axes are usual causes",
    ),
    DataCheck(
        "slice-thickness",
        "warning",
        "slices are thicker than the protocol's",
        "Check that no slices are missing; a few official volumes have thick slices",
    ),
    DataCheck(
        "intensity-range",
        "error",
        "intensities are outside the range of 12-bit images",
        "Convert the series again without windowing or rescaling",
    ),
    DataCheck(
        "unusual-intensity",
        "warning",
        "intensities are far from those of the other volumes",
        "Compare the values with those of the DICOM files: scanner gains differ, but rarely by so much",
    ),
    DataCheck(
        "rescaled-image",
        "error",
        "intensities were rescaled or quantised after acquisition",
        "Convert the series again without rescaling: the values must be those of the DICOM files",
    ),
    DataCheck(
        "duplicate-image",
        "error",
        "two volumes have the same voxels",
        "Find out which volume is the right one, and convert the other series again",
    ),
    DataCheck(
        "near-duplicate-image",
        "error",
        "two volumes show the same acquisition with small changes",
        "Find out which volume is the right one, and convert the other series again",
    ),
)

CHECKS: Mapping[str, DataCheck] = {check.name: check for check in _ALL}
"""Every check by name, in the order of reports."""


def check_allowed_names(allow: Iterable[str]) -> frozenset[str]:
    """Check the names that a caller allows.

    Raises
    ------
    RepositoryError
        If there is no such check.

    Examples
    --------
    >>> sorted(check_allowed_names(["spacing"]))
    ['spacing']
    """
    allowed = frozenset(allow)
    for name in sorted(allowed - CHECKS.keys()):
        raise RepositoryError(f"Unknown check {name!r} to allow. {nearest(name, CHECKS)}.")
    return allowed


EXAMPLES = 5  # examples kept of each check; the count is exact


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
