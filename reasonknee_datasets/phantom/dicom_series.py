"""A synthetic volume as a sagittal DICOM series, as OAI's DESS series are written."""

from __future__ import annotations

import hashlib
import io
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.errors import missing_extra
from reasonknee_datasets.orientation import Reorientation

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

EXPLICIT_LITTLE, EXPLICIT_BIG, RLE = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5"
_MR_STORAGE = "1.2.840.10008.5.1.4.1.1.4"
_ORDER = ("R", "P", "I")  # slices, columns and rows run so: rows of a sagittal image begin at the front and top


@dataclass(frozen=True, slots=True)
class SeriesFacts:
    """Identity of a synthetic series."""

    patient: str
    visit: str
    date: str
    series: str
    side: str

    @property
    def description(self) -> str:
        """SeriesDescription, as OAI writes it."""
        return f"SAG_3D_DESS_{self.side.upper()}"

    @property
    def identity(self) -> tuple[str, str, str]:
        """Patient, date and series."""
        return self.patient, self.date, self.series

    @property
    def study_description(self) -> str:
        """StudyDescription, with OAI's trailing space."""
        name = "ENROLLMENT" if self.visit == "00M" else f"{int(self.visit[:-1])} MONTH"
        return f"OAI^MR^{name}^{self.side.upper()} "


def make_uid(*parts: object) -> str:
    """Derive a UID from what it names: the same parts give the same UID."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:15]
    return f"2.25.{int.from_bytes(digest, 'big')}"


def make_slices(voxels: NDArray[Any], affine: NDArray[np.float64], facts: SeriesFacts) -> list[Dataset]:
    """Write a volume as one data set a slice, in the order of their positions.

    `voxels` (i, j, k) int16 array: not negative. `affine` (4, 4) float array: voxel centre to world (RAS+, mm). Raises
    MissingExtraError if pydicom is not installed.
    """
    turn = _sagittal(affine, voxels.shape)
    turned, placed = turn.apply_array(voxels), turn.apply_affine(affine, voxels.shape)
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ placed
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    column, row = lps[:3, 1] / spacing[1], lps[:3, 2] / spacing[2]
    series = []
    for number in range(turned.shape[0]):
        position = lps[:3, 3] + number * lps[:3, 0]
        dataset = _new_dataset(facts, number)
        dataset.ImageOrientationPatient = [f"{value:.9f}" for value in (*column, *row)]
        dataset.ImagePositionPatient = [f"{value:.7f}" for value in position]
        dataset.PixelSpacing = [f"{spacing[2]:.9f}", f"{spacing[1]:.9f}"]
        dataset.SliceThickness = f"{spacing[0]:.9f}"
        set_pixels(dataset, turned[number].T)  # rows by columns
        series.append(dataset)
    return series


def _sagittal(affine: NDArray[np.float64], shape: tuple[int, ...]) -> Reorientation:
    """Find the turn to slices, columns and rows in the directions of `_ORDER`."""
    wanted = np.array([[1.0, 0, 0], [0, -1.0, 0], [0, 0, -1.0]])

    def fit(turn: Reorientation) -> float:
        linear = turn.apply_affine(affine, shape)[:3, :3]
        return float((linear / np.linalg.norm(linear, axis=0) * wanted).sum())

    return max(Reorientation.all(), key=fit)


def check_pydicom() -> None:
    """Check that pydicom is installed.

    Raises MissingExtraError if it is not.
    """
    try:
        import pydicom  # noqa: F401
    except ImportError as error:
        raise missing_extra("pydicom", "dicom", "phantom --dicom") from error


def _new_dataset(facts: SeriesFacts, number: int) -> Dataset:
    check_pydicom()
    from pydicom.dataset import Dataset, FileMetaDataset

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    set_syntax(dataset, EXPLICIT_LITTLE)
    dataset.SOPClassUID, dataset.SOPInstanceUID = _MR_STORAGE, make_uid(*facts.identity, number)
    dataset.ImageType, dataset.Modality = ["ORIGINAL", "PRIMARY", "M", "NORM"], "MR"
    dataset.StudyDate, dataset.AccessionNumber = facts.date, f"0166{facts.series}"
    dataset.Manufacturer, dataset.ImageComments = "reasonknee phantom", "SYNTHETIC"
    dataset.StudyDescription, dataset.SeriesDescription = facts.study_description, facts.description
    dataset.PatientName, dataset.PatientID = "SYNTHETIC", facts.patient
    dataset.StudyInstanceUID = make_uid(facts.patient, facts.date)
    dataset.SeriesInstanceUID = make_uid(*facts.identity)
    dataset.FrameOfReferenceUID = make_uid(*facts.identity, "frame")
    dataset.RepetitionTime, dataset.EchoTime, dataset.FlipAngle = "16.32", "4.71", "25"
    dataset.AcquisitionNumber, dataset.InstanceNumber = "1", str(number + 1)
    return dataset


def set_syntax(dataset: Dataset, syntax: str) -> None:
    """Name the transfer syntax in which `write_bytes` writes a data set."""
    from pydicom.uid import UID

    dataset.file_meta.TransferSyntaxUID = UID(syntax)


def set_pixels(dataset: Dataset, pixels: NDArray[Any]) -> None:
    """Store (rows, columns) pixels as 16 bits, signed where a value is negative."""
    signed = int(pixels.min()) < 0
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = int(signed)
    dataset.PixelData = np.ascontiguousarray(pixels, np.dtype("<i2" if signed else "<u2")).tobytes()
    dataset["PixelData"].VR = "OW"


def get_pixels(dataset: Dataset) -> NDArray[Any]:
    """Read what `set_pixels` stored."""
    kind = "<i2" if dataset.PixelRepresentation else "<u2"
    return np.frombuffer(dataset.PixelData, kind).reshape(dataset.Rows, dataset.Columns)


def write_bytes(dataset: Dataset) -> bytes:
    """Write a data set as a DICOM file, in the transfer syntax that its file_meta names."""
    wanted = str(dataset.file_meta.TransferSyntaxUID)
    copy = deepcopy(dataset)
    set_syntax(copy, EXPLICIT_LITTLE)
    if wanted == EXPLICIT_BIG:
        copy.PixelData = np.frombuffer(copy.PixelData, "<u2").astype(">u2").tobytes()
    elif wanted != EXPLICIT_LITTLE:
        copy.compress(wanted, generate_instance_uid=False)
    set_syntax(copy, wanted)
    buffer = io.BytesIO()
    copy.save_as(buffer, implicit_vr=False, little_endian=wanted != EXPLICIT_BIG, enforce_file_format=True)
    return buffer.getvalue()
