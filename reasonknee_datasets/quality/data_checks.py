"""The list of data checks: names, severities, meanings and remedies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from reasonknee_datasets.errors import RepositoryError, nearest

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
    DataCheck("unreadable-image", "error", "an image cannot be decoded", _CONVERT_AGAIN),
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
