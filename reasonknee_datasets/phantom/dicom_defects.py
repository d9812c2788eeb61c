"""Defects of OAI downloads, planted on purpose, each with a name."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.phantom.dicom_series import (
    EXPLICIT_BIG,
    RLE,
    SeriesFacts,
    get_pixels,
    make_uid,
    set_pixels,
    set_syntax,
)

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Slices = list["Dataset"]
Change = Callable[[Slices, SeriesFacts], Slices]
Archive = Literal["cut", "climbs", "links", "claims"]


@dataclass(frozen=True, slots=True)
class Defect:
    """One planted defect."""

    name: str
    # Expected outcome of a conversion: right all the same, or refused, or missing.
    status: Literal["converted", "refused", "missing"]
    kind: str = ""  # the refusal's name; empty for others
    change: Change | None = None  # changes the slices before they are written
    # Change of the written files: names in .dcm, names in another order, other files among them, one cut short.
    files: str = ""
    archive: str = ""  # change of the archive, in the form that has archives; elsewhere the series is left as it is
    place: str = ""  # left out, under other names, or contradicted by the index


def _each(change: Callable[[Dataset], object]) -> Change:
    """Change every slice by itself."""

    def change_all(slices: Slices, facts: SeriesFacts) -> Slices:
        for each in slices:
            change(each)
        return slices

    return change_all


def _tags(**values: object) -> Change:
    """Set attributes in every slice."""

    def change(each: Dataset) -> None:
        for keyword, value in values.items():
            setattr(each, keyword, value)

    return _each(change)


def _position(dataset: Dataset) -> NDArray[np.float64]:
    return np.array(dataset.ImagePositionPatient, float)


def _move(dataset: Dataset, by: NDArray[np.float64]) -> None:
    dataset.ImagePositionPatient = [f"{value:.7f}" for value in _position(dataset) + by]


def _step(slices: Slices) -> NDArray[np.float64]:
    return np.asarray((_position(slices[-1]) - _position(slices[0])) / (len(slices) - 1))


def _copy(dataset: Dataset, name: str) -> Dataset:
    copy = deepcopy(dataset)
    copy.SOPInstanceUID = make_uid(dataset.SOPInstanceUID, name)
    return copy


def _backwards(slices: Slices, facts: SeriesFacts) -> Slices:
    """Write InstanceNumbers that run against the positions."""
    for number, each in enumerate(reversed(slices)):
        each.InstanceNumber = str(number + 1)
    return slices[::-1]


def _another_plane(slices: Slices, name: str) -> list[Dataset]:
    """Copy the slices as coronal images."""
    turned = [_copy(each, name) for each in slices]
    for each in turned:
        row, column = np.array(each.ImageOrientationPatient, float).reshape(2, 3)
        each.ImageOrientationPatient = [f"{value:.9f}" for value in (*np.cross(row, column), *column)]
    return turned


def _only_localizers(slices: Slices, facts: SeriesFacts) -> Slices:
    three = [slices[0], *_another_plane(slices[1:2], "coronal"), *slices[2:3]]
    row, column = np.array(three[2].ImageOrientationPatient, float).reshape(2, 3)
    three[2].ImageOrientationPatient = [f"{value:.9f}" for value in (*row, *np.cross(row, column))]
    return three


def _changed_slice(slices: Slices, facts: SeriesFacts) -> Slices:
    again = _copy(slices[2], "changed")
    set_pixels(again, get_pixels(again)[::-1])
    return [*slices, again]


def _other_localizer(slices: Slices, facts: SeriesFacts) -> Slices:
    """Put an image of another series among them."""
    other = _another_plane(slices[:1], "localizer")[0]
    other.SeriesInstanceUID = make_uid(facts.series, "localizer")
    other.AccessionNumber, other.SeriesDescription = f"0166{int(facts.series) - 1}", "3_PLANE_LOCALIZER"
    return [other, *slices]


def _two_series(slices: Slices, facts: SeriesFacts) -> Slices:
    second = [_copy(each, "second") for each in slices]
    for each in second:
        each.SeriesInstanceUID = make_uid(facts.series, "second")
    return slices + second


def _again(slices: Slices, shift: float) -> Slices:
    second = [_copy(each, "acquisition") for each in slices]
    step = _step(slices)
    for each in second:
        each.AcquisitionNumber = "2"
        _move(each, shift * step)
        set_pixels(each, get_pixels(each) // 2)
    return slices + second


def _with_one_more(slices: Slices, facts: SeriesFacts) -> Slices:
    more = _copy(slices[-1], "more")
    _move(more, _step(slices))
    more.InstanceNumber = str(len(slices) + 1)
    return [*slices, more]


def _uneven(slices: Slices, facts: SeriesFacts) -> Slices:
    step = _step(slices)
    for number, each in enumerate(slices[len(slices) // 2 :]):
        _move(each, 0.05 * (number + 1) * step)
    return slices


def _sheared(slices: Slices, facts: SeriesFacts) -> Slices:
    for number, each in enumerate(slices):
        _move(each, np.array([0.0, 0.1 * number, 0.0]))
    return slices


def _rescale(each: Dataset) -> None:
    """Store value + 1024, as CT does, with the rescaling that takes it back."""
    set_pixels(each, get_pixels(each).astype(np.int32) + 1024)
    each.RescaleSlope, each.RescaleIntercept = "1", "-1024"


def _colour(slices: Slices, facts: SeriesFacts) -> Slices:
    shot = slices[0]
    pixels = get_pixels(shot).astype(np.uint8)
    shot.SamplesPerPixel, shot.PhotometricInterpretation, shot.PlanarConfiguration = 3, "RGB", 0
    shot.BitsAllocated, shot.BitsStored, shot.HighBit = 8, 8, 7
    shot.PixelData = np.repeat(pixels[..., None], 3, axis=2).tobytes()
    return slices


def _other_size(slices: Slices, facts: SeriesFacts) -> Slices:
    set_pixels(slices[1], get_pixels(slices[1])[:-8])
    return slices


def _impossible_size(slices: Slices, facts: SeriesFacts) -> Slices:
    slices[0].Rows = slices[0].Columns = 65_535
    return slices


def _multi_frame(slices: Slices, facts: SeriesFacts) -> Slices:
    """Write all slices as the frames of one enhanced MR image."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    whole, frames = deepcopy(slices[0]), []
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = whole.PixelSpacing, whole.SliceThickness
    orientation.ImageOrientationPatient = whole.ImageOrientationPatient
    shared.PixelMeasuresSequence = Sequence([measures])
    shared.PlaneOrientationSequence = Sequence([orientation])
    for each in reversed(slices):
        frame, position = Dataset(), Dataset()
        position.ImagePositionPatient = each.ImagePositionPatient
        frame.PlanePositionSequence = Sequence([position])
        frames.append(frame)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        delattr(whole, keyword)
    whole.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4.1"
    whole.SharedFunctionalGroupsSequence = Sequence([shared])
    whole.PerFrameFunctionalGroupsSequence = Sequence(frames)
    whole.NumberOfFrames = len(slices)
    whole.PixelData = b"".join(each.PixelData for each in reversed(slices))
    return [whole]


def _wrong_side(slices: Slices, facts: SeriesFacts) -> Slices:
    other = "LEFT" if facts.side == "right" else "RIGHT"
    return _tags(SeriesDescription=f"SAG_3D_DESS_{other}")(slices, facts)


_GOOD = (
    Defect("numbered-backwards", "converted", change=_backwards),
    Defect("reference-image", "converted", change=lambda each, _: [*_another_plane(each[:1], "reference"), *each]),
    Defect("copied-slice", "converted", change=lambda slices, _: [*slices, _copy(slices[2], "again")]),
    Defect("localizer-among-slices", "converted", change=_other_localizer),
    Defect("big-endian", "converted", change=_each(lambda each: set_syntax(each, EXPLICIT_BIG))),
    Defect("run-length-encoded", "converted", change=_each(lambda each: set_syntax(each, RLE))),
    Defect("rescaled", "converted", change=_each(_rescale)),
    Defect("signed-pixels", "converted", change=_tags(PixelRepresentation=1)),
    Defect("multi-frame", "converted", change=_multi_frame),
    Defect("without-accession", "converted", change=_tags(AccessionNumber="")),
    Defect("dcm-suffix", "converted", files="suffix"),
    Defect("names-in-another-order", "converted", files="shuffle"),
    Defect("other-files", "converted", files="strangers"),
    Defect("renamed-folders", "converted", place="renamed"),
)
_BAD = (
    Defect("not-downloaded", "missing", place="absent"),
    Defect("slice-missing", "refused", "missing-slices", lambda s, _: s[: len(s) // 2] + s[len(s) // 2 + 1 :]),
    Defect("last-slice-missing", "refused", "grid", lambda slices, _: slices[:-1]),
    Defect("one-slice-more", "refused", "grid", _with_one_more),
    Defect("moved", "refused", "grid", _each(lambda each: _move(each, np.array([0.0, 3.0, 0.0])))),
    Defect("changed-copy", "refused", "duplicate-slices", _changed_slice),
    Defect("two-acquisitions", "refused", "two-acquisitions", lambda slices, _: _again(slices, 0.0)),
    Defect("interleaved-acquisitions", "refused", "two-acquisitions", lambda slices, _: _again(slices, 0.5)),
    Defect("uneven-spacing", "refused", "uneven-spacing", _uneven),
    Defect("sheared", "refused", "tilted-stack", _sheared),
    Defect(
        "half-coronal",
        "refused",
        "mixed-planes",
        lambda s, _: [*s[: len(s) // 2], *_another_plane(s[len(s) // 2 :], "coronal")],
    ),
    Defect("only-localizers", "refused", "localizer", _only_localizers),
    Defect("two-series", "refused", "mixed-series", _two_series),
    Defect("other-size", "refused", "mixed-sizes", _other_size),
    Defect("wrong-patient", "refused", "wrong-patient", _tags(PatientID="0999999")),
    Defect("wrong-date", "refused", "wrong-date", _tags(StudyDate="20010101")),
    Defect(
        "wrong-series",
        "refused",
        "wrong-series",
        lambda slices, facts: _tags(AccessionNumber=f"0166{int(facts.series) + 1}")(slices, facts),
    ),
    Defect("wrong-sequence", "refused", "wrong-sequence", _tags(SeriesDescription="SAG_T2_MAP_RIGHT")),
    Defect("wrong-side", "refused", "wrong-side", _wrong_side),
    Defect(
        "wrong-visit",
        "refused",
        "wrong-visit",
        lambda slices, facts: _tags(StudyDescription=f"OAI^MR^96 MONTH^{facts.side.upper()} ")(slices, facts),
    ),
    Defect("side-in-index", "refused", "wrong-side", place="index"),
    Defect("colour", "refused", "unsupported-pixels", _colour),
    Defect("impossible-size", "refused", "too-large", _impossible_size),
    Defect("file-cut-short", "refused", "damaged-file", files="cut"),
    Defect("archive-cut-short", "refused", "damaged-file", archive="cut"),
    Defect("archive-climbs", "refused", "unsafe-archive", archive="climbs"),
    Defect("archive-links", "refused", "unsafe-archive", archive="links"),
    Defect("archive-claims", "refused", "too-large", archive="claims"),
)
DEFECTS: tuple[Defect, ...] = (*_BAD, *_GOOD)
"""All of them; harmful ones first, so that they fall on the train split, which has the most volumes."""
