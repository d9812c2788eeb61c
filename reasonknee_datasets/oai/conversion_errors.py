"""Reasons for which a series, an archive or a volume is not converted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from reasonknee_datasets.errors import ConvertError

REFUSALS: Mapping[str, str] = MappingProxyType(
    {
        # Files
        "damaged-file": "a file, an archive or its pixel data is cut short or unreadable",
        "unsafe-archive": "an archive has links, devices, absolute paths, `..` or encrypted members",
        "too-large": "a file, an archive or a header states more bytes than any knee series has",
        "unsupported-pixels": "pixel data is in colour, inverted, deflated or in an unknown transfer syntax",
        # Stacks
        "no-image": "no DICOM image has a position and an orientation",
        "localizer": "too few parallel slices for a volume",
        "mixed-series": "images of several series are in one place",
        "mixed-planes": "slices are in several planes",
        "mixed-sizes": "slices differ in rows, columns or pixel spacing",
        "two-acquisitions": "two acquisitions or echoes of the same slices are in one place",
        "duplicate-slices": "several different images have the same position",
        "missing-slices": "a slice is missing",
        "uneven-spacing": "the distance between slices varies",
        "tilted-stack": "slices are not stacked along their normal",
        # Identity
        "wrong-patient": "the header names another patient",
        "wrong-date": "the header names another study date",
        "wrong-series": "the header names another series",
        "wrong-sequence": "the header names another sequence than sagittal 3D DESS",
        "wrong-visit": "header or index names another visit",
        "wrong-side": "header or index names the other knee",
        "unproven": "neither a header nor a mask proves which series it is",
        "unknown-visit": "neither header, folder nor index names the visit",
        # Grids
        "grid": "the volume differs from its mask's grid by more than a permutation and flips of its axes",
        "bad-mask": "the mask's header cannot be read",
        "no-orientation": "the axes of a NIfTI volume are unknown, or contradict its content",
        "ambiguous": "a NIfTI volume fits several rows",
        # Output
        "not-ours": "a file that `convert` did not write is in the place of the result",
        "unwritable": "the result cannot be written",
    }
)
"""Every reason, with its meaning: the names that the report uses."""


class Refusal(ConvertError):  # noqa: N818 - a refusal is an outcome of the report as well as an error
    """A source that is not converted.

    Parameters
    ----------
    kind : str
        One of `REFUSALS`.
    message : str
        Problem, place and remedy.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        assert kind in REFUSALS, kind
        self.kind = kind

    def __reduce__(self) -> tuple[type[Refusal], tuple[str, str]]:
        return Refusal, (self.kind, str(self))


def check_folder(folder: Path, remedy: str) -> None:
    """Check that a folder is there; otherwise raise a `ConvertError` with the remedy."""
    if not folder.is_dir():
        problem = "is a file, not a folder" if folder.exists() else "does not exist"
        raise ConvertError(f"{folder} {problem}. {remedy}")
