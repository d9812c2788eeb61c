"""DICOM files read from memory as slices: header facts and voxels.

A decoder allocates what the compressed data claims, whatever Rows and Columns say: some bytes of JPEG 2000 can claim
60,000 x 60,000 pixels. The two are compared before anything is decoded.
"""

from __future__ import annotations

import io
import math
import struct
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.errors import missing_extra
from reasonknee_datasets.oai.conversion_errors import Refusal

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


_J2K_START = b"\xff\x4f\xff\x51"
_JPEG_START = b"\xff\xd8"
# Start of frame of every JPEG process, that of JPEG-LS (F7) included; C4, C8 and CC are other markers.
_FRAME_MARKERS = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})


def read_coded_size(frame: bytes) -> tuple[int, int] | None:
    """Read (rows, columns) of one compressed frame; None where it is neither JPEG, JPEG-LS nor JPEG 2000.

    Examples
    --------
    >>> read_coded_size(bytes.fromhex("ff4fff51002f0000 00000180 00000160"))
    (352, 384)
    >>> read_coded_size(bytes.fromhex("ffd8 ffe00003aa ffc0000b08 0160 0180 01"))
    (352, 384)
    """
    start = frame.find(_J2K_START, 0, 4096)  # behind the boxes of a JP2 file, where there are some
    if start >= 0 and len(frame) >= start + 16:
        columns, rows = struct.unpack_from(">II", frame, start + 8)
        return rows, columns
    if not frame.startswith(_JPEG_START):
        return None
    place = 2
    while place + 9 <= len(frame) and frame[place] == 0xFF:
        marker, length = frame[place + 1], int.from_bytes(frame[place + 2 : place + 4], "big")
        if marker in _FRAME_MARKERS:
            rows, columns = struct.unpack_from(">HH", frame, place + 5)
            return rows, columns
        place += 1 if marker == 0xFF else 2 + length
    return None


MAX_PIXEL_BYTES = 1 << 30  # most bytes of pixels that one file may claim; an OAI series of 176 slices has 52 MB

_DEFLATED = "1.2.840.10008.1.2.1.99"
_UNCOMPRESSED = {
    (True, True): "1.2.840.10008.1.2",
    (False, True): "1.2.840.10008.1.2.1",
    (False, False): "1.2.840.10008.1.2.2",
}
_IDENTITY = ("PatientID", "StudyDate", "AccessionNumber", "SeriesDescription", "StudyDescription", "SeriesInstanceUID")
_WITHOUT_PREAMBLE = (b"\x02\x00", b"\x08\x00", b"\x00\x08")  # group 2, group 8 little endian, group 8 big endian


@dataclass(frozen=True, slots=True)
class Header:
    """Identity of a series, as one file states it; an absent value is an empty string."""

    # PatientID, StudyDate, AccessionNumber, SeriesDescription, StudyDescription, without surrounding blanks.
    patient: str
    study_date: str
    accession: str
    description: str
    study_description: str
    series_uid: str  # SeriesInstanceUID


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """One image of a series."""

    name: str  # file name, with the frame number where a file has several
    header: Header  # identity of its series
    uid: str  # SOPInstanceUID, with the frame number where a file has several
    instance: int | None  # InstanceNumber
    acquisition: tuple[str, ...]  # AcquisitionNumber, EchoNumbers, EchoTime and TemporalPositionIdentifier
    # (6,) float array or None: ImageOrientationPatient: directions of a row and of a column (LPS+).
    orientation: NDArray[np.float64] | None
    # (3,) float array or None: ImagePositionPatient: centre of the first voxel in mm (LPS+).
    position: NDArray[np.float64] | None
    spacing: tuple[float, float] | None  # distance between rows and between columns in mm
    # Rescaling of the stored voxels.
    slope: float
    intercept: float
    voxels: NDArray[Any]  # (rows, columns) array: as stored


def read_dicom(name: str, data: bytes, *, pixels: bool = True) -> Dataset | None:
    """Parse one DICOM file.

    Parameters
    ----------
    data : bytes
        The whole file, or without ``pixels`` a beginning that includes the header.
    pixels : bool
        Read on to the pixels.

    Returns
    -------
    Dataset or None
        None where the bytes are not a DICOM image: another kind of file, or a DICOM file without pixels.

    Raises
    ------
    Refusal
        If it is a damaged DICOM file.
    """
    try:
        import pydicom
        from pydicom.uid import UID
    except ImportError as error:
        raise missing_extra("pydicom", "dicom", "reading DICOM files") from error
    plain = data[128:132] != b"DICM"
    if plain and data[:2] not in _WITHOUT_PREAMBLE:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of values outside their value representation, which OAI headers have
            # A deflated data set is inflated without any limit while it is parsed.
            if _DEFLATED.encode() in data[:2048]:
                raise Refusal("unsupported-pixels", f"{name} has a deflated transfer syntax. Save it uncompressed.")
            dataset = pydicom.dcmread(io.BytesIO(data), force=plain, stop_before_pixels=not pixels)
            if "TransferSyntaxUID" not in dataset.file_meta:
                # A data set without file meta information is uncompressed, in the encoding that it was parsed in.
                implicit, little = dataset.original_encoding
                dataset.file_meta.TransferSyntaxUID = UID(_UNCOMPRESSED[bool(implicit), bool(little)])
            return dataset if "Rows" in dataset and "Columns" in dataset else None
    except Refusal:
        raise
    except Exception as error:  # hostile bytes raise whatever the parser meets first
        if plain:
            return None
        raise Refusal("damaged-file", f"{name} cannot be parsed as DICOM ({error}). Download it again.") from error


def read_dicom_header(dataset: Dataset) -> Header:
    """Read the identity of a file's series."""
    return Header(*(str(dataset.get(keyword) or "").strip() for keyword in _IDENTITY))


def read_slices(name: str, data: bytes) -> list[Slice]:
    """Read every image of one DICOM file; none where the bytes are not a DICOM image.

    `data`: the whole file. Raises Refusal if the file is damaged, or its pixels are of a kind that is not converted.
    """
    dataset = read_dicom(name, data)
    if dataset is None or "PixelData" not in dataset:
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom parses values when they are first used
            return _make_slices(name, dataset)
    except Refusal:
        raise
    except Exception as error:  # values of the wrong type anywhere in a hostile header
        raise Refusal("damaged-file", f"{name} has an unreadable header ({error}). Download it again.") from error


def _make_slices(name: str, dataset: Dataset) -> list[Slice]:
    _check_pixels(name, dataset)
    frames = int(dataset.get("NumberOfFrames") or 1)
    _check_coded_size(name, dataset, frames)
    voxels = _decode(name, dataset, frames)
    if frames == 1 and "PerFrameFunctionalGroupsSequence" not in dataset:
        return [_make_slice(name, dataset, [dataset], voxels)]
    return [
        _make_slice(f"{name} frame {number + 1}", dataset, groups, voxels[number], number)
        for number, groups in enumerate(_functional_groups(name, dataset, frames))
    ]


def _check_pixels(name: str, dataset: Dataset) -> None:
    """Refuse colour, inverted and impossibly large images before they are decoded."""
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    frames, bits = int(dataset.get("NumberOfFrames") or 1), int(dataset.get("BitsAllocated") or 0)
    if min(rows, columns, frames) < 1 or bits not in (8, 16, 32):
        got = f"{frames} frames of {rows}x{columns} with {bits} bits"
        raise Refusal("damaged-file", f"{name} states {got}. Download or copy it again.")
    if rows * columns * frames * bits // 8 > MAX_PIXEL_BYTES:
        got = f"{frames} frames of {rows}x{columns}"
        raise Refusal("too-large", f"{name} states {got}, more than {MAX_PIXEL_BYTES:,} bytes.")
    if int(dataset.get("SamplesPerPixel") or 1) != 1 or dataset.get("PhotometricInterpretation") != "MONOCHROME2":
        kind = dataset.get("PhotometricInterpretation")
        raise Refusal("unsupported-pixels", f"{name} is {kind}, where MR images are MONOCHROME2. Remove the file.")


def _check_coded_size(name: str, dataset: Dataset, frames: int) -> None:
    """Refuse compressed frames of another size than the header's."""
    if not dataset.file_meta.TransferSyntaxUID.is_compressed:
        return
    from pydicom.encaps import generate_frames

    expected = (int(dataset.Rows), int(dataset.Columns))
    for number, frame in enumerate(generate_frames(dataset.PixelData, number_of_frames=frames)):
        size = read_coded_size(frame)
        if size not in (None, expected):
            raise Refusal(
                "damaged-file", f"{name} states {expected} pixels, but frame {number + 1} is coded as {size}."
            )


def _decode(name: str, dataset: Dataset, frames: int) -> NDArray[Any]:
    """Decode the pixels as stored, without any rescaling."""
    try:
        voxels = np.asarray(dataset.pixel_array)
    except (NotImplementedError, RuntimeError) as error:
        syntax = dataset.file_meta.TransferSyntaxUID.name
        # The reason of pydicom names the plugins that would be needed.
        raise Refusal("unsupported-pixels", f"{name} has pixels in {syntax}: {error}") from error
    except Exception as error:
        raise Refusal("damaged-file", f"{name} has unreadable pixel data ({error}). Download it again.") from error
    expected = (int(dataset.Rows), int(dataset.Columns))
    expected_shape = expected if frames == 1 else (frames, *expected)
    if voxels.shape != expected_shape:
        raise Refusal("damaged-file", f"{name} states {expected_shape} pixels but has {voxels.shape}.")
    if frames == 1 and "PerFrameFunctionalGroupsSequence" in dataset:
        return voxels[None]
    return voxels


def _functional_groups(name: str, dataset: Dataset, frames: int) -> list[list[Dataset]]:
    """List for every frame the data sets in which its attributes may be, nearest first."""
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence")
    if per_frame is None or len(per_frame) != frames:
        raise Refusal("no-image", f"{name} has {frames} frames without a position for each of them.")
    shared = list(dataset.get("SharedFunctionalGroupsSequence") or [])
    return [
        [inner for group in (frame, *shared) for element in group if element.VR == "SQ" for inner in element.value]
        + [dataset]
        for frame in per_frame
    ]


def _make_slice(
    name: str, dataset: Dataset, groups: Sequence[Dataset], voxels: NDArray[Any], frame: int | None = None
) -> Slice:
    def find(keyword: str) -> Any:
        return next((group.get(keyword) for group in groups if group.get(keyword) not in (None, "")), None)

    def numbers(keyword: str, count: int) -> NDArray[np.float64] | None:
        value = find(keyword)
        read = np.array([], float) if value is None else np.array([float(each) for each in value])
        return read if read.shape == (count,) and np.isfinite(read).all() else None

    spacing = numbers("PixelSpacing", 2)
    echo = find("EchoTime") if find("EchoTime") is not None else find("EffectiveEchoTime")
    acquisition = (find("AcquisitionNumber"), find("EchoNumbers"), echo, find("TemporalPositionIdentifier"))
    instance = find("InstanceNumber")
    slope, intercept = (
        default if (value := find(keyword)) is None else float(value)
        for keyword, default in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0))
    )
    if not (math.isfinite(slope) and math.isfinite(intercept) and slope != 0):
        got = f"RescaleSlope {slope} and RescaleIntercept {intercept}"
        raise Refusal("damaged-file", f"{name} has {got}, which would lose voxel values. Download it again.")
    return Slice(
        name=name,
        header=read_dicom_header(dataset),
        uid=str(dataset.get("SOPInstanceUID") or name) + ("" if frame is None else f".{frame}"),
        instance=frame + 1 if frame is not None else None if instance is None else int(instance),
        acquisition=tuple("" if each is None else str(each) for each in acquisition),
        orientation=numbers("ImageOrientationPatient", 6),
        position=numbers("ImagePositionPatient", 3),
        spacing=None if spacing is None or spacing.min() <= 0 else (float(spacing[0]), float(spacing[1])),
        slope=slope,
        intercept=intercept,
        voxels=voxels,
    )
