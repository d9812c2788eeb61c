"""The row: its columns, Arrow types and ids, written down once.

Published Parquet is written from `arrow_schema`, never inferred, and has only types that stock ``datasets``, the
Hub's viewer and Croissant understand. The lazy ``volume`` is not a column here: it is joined at load (see
`reasonknee_datasets.feature`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypedDict, cast

import pyarrow as pa

from reasonknee_datasets.errors import RepositoryError
from reasonknee_datasets.moaks import ATTRIBUTES

Split = Literal["train", "validation", "test"]
Side = Literal["left", "right"]

OFFICIAL = "rajpurkarlab/3DReasonKnee"
"""The official release on the Hub."""
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
VISITS = ("00M", "12M", "24M", "48M")
SIDES: tuple[Side, ...] = ("right", "left")
_VISIT = f"{', '.join(VISITS[:-1])} or {VISITS[-1]}"


class Grade(TypedDict):
    """One structured grade; a missing one is None, never 0."""

    attribute: str
    grade: int | None
    scale: str


class FlatGrades(TypedDict):
    """The grades of a row, one column for each attribute; None where the question has no such attribute."""

    grade_size: int | None
    grade_number: int | None
    grade_percent: int | None
    grade_depth: int | None
    grade_grade: int | None
    grade_morphology: int | None
    grade_presence: int | None
    grade_tear_location: int | None
    grade_complete_tear: int | None
    grade_insertion_lesion: int | None
    grade_repair: int | None
    grade_signal: int | None


class Quintuple(FlatGrades):
    """One row of the ``quintuples`` config, as written to Parquet."""

    id: str
    volume_path: str
    patient: str
    visit: str
    side: str
    study: str
    series: str
    question_id: int
    category: str
    finding: str
    subregion: str
    question: str
    box: list[int]
    reasoning: list[str]
    grades: list[Grade]
    answer: str
    synthetic: bool
    record: str


@dataclass(frozen=True, slots=True)
class Column:
    """A column's name, Arrow type and one-line meaning (the dataset card's table is made from these)."""

    name: str
    type: pa.DataType
    meaning: str


IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
"""The Arrow type of an ``Image`` of ``datasets``: an encoded file and its name."""
GRADE_COLUMNS: Mapping[str, str] = {attribute: f"grade_{attribute}" for attribute in ATTRIBUTES}
"""The flat column of each attribute's grade: plain integers, which Parquet filters and the viewer counts."""

_GRADES = pa.list_(pa.struct([("attribute", pa.string()), ("grade", pa.int32()), ("scale", pa.string())]))

QUINTUPLE_COLUMNS: tuple[Column, ...] = (
    Column(
        "id", pa.string(), "patient/visit/side/qNN, stable for ever; the series follows the side where there are two"
    ),
    Column("volume_path", pa.string(), "the MRI, relative to the repository"),
    Column("patient", pa.string(), "OAI participant; the unit of every split and every confidence interval"),
    Column("visit", pa.string(), _VISIT),
    Column("side", pa.string(), "right or left knee"),
    Column("study", pa.string(), "OAI study folder (the date)"),
    Column("series", pa.string(), "OAI series barcode"),
    Column("question_id", pa.int32(), "1 to 62, the number of the official question"),
    Column("category", pa.string(), "one of the MOAKS categories"),
    Column("finding", pa.string(), "what is looked for"),
    Column("subregion", pa.string(), "where it is looked for"),
    Column("question", pa.string(), "the diagnostic question, verbatim"),
    Column("box", pa.list_(pa.int32(), 6), "i0 j0 k0 i1 j1 k1: half-open voxels, array order of the stored volume"),
    Column("reasoning", pa.list_(pa.string()), "the clinicians' steps, in order"),
    Column("grades", _GRADES, "attribute, grade and scale; a missing grade is null, never 0"),
    *(
        Column(column, pa.int32(), f"grade of attribute `{attribute}`, as in `grades`; null without one")
        for attribute, column in GRADE_COLUMNS.items()
    ),
    Column("answer", pa.string(), "the true answer as JSON, in the schema that this question's prompt asks for"),
    Column("synthetic", pa.bool_(), "true for everything that the phantom made"),
    Column("record", pa.string(), "JSON: what else is needed to rebuild the official record exactly"),
)

# No list here has a fixed length: Parquet written from null fixed-size lists cannot be read by pyarrow 24 and 25.
VOLUME_COLUMNS: tuple[Column, ...] = (
    Column("id", pa.string(), "patient/visit/side, the prefix of its quintuples' ids"),
    Column("volume_path", pa.string(), "the MRI, relative to the repository"),
    Column("patient", pa.string(), "OAI participant"),
    Column("visit", pa.string(), _VISIT),
    Column("side", pa.string(), "right or left knee"),
    Column("study", pa.string(), "OAI study folder (the date)"),
    Column("series", pa.string(), "OAI series barcode"),
    Column("shape", pa.list_(pa.int32()), "voxels along each array axis; null without images"),
    Column("spacing", pa.list_(pa.float64()), "mm along each array axis; null without images"),
    Column("affine", pa.list_(pa.float64()), "voxel centre to world (RAS+, mm), row by row; null without images"),
    Column("dtype", pa.string(), "stored voxel type; null without images"),
    Column("bytes", pa.int64(), "size of the file; null without images"),
    Column("sha256", pa.string(), "of the file; null without images"),
    Column("voxels_sha256", pa.string(), "of the decoded voxels in canonical order; null without images"),
    Column("mask_path", pa.string(), "the segmentation mask, relative to the repository; null without one"),
    Column("synthetic", pa.bool_(), "true for everything that the phantom made"),
)

BALANCED_COLUMNS: tuple[Column, ...] = (
    Column("id", pa.string(), "a row of the quintuples config"),
    Column("multiplicity", pa.int32(), "how often the official balanced file repeats it"),
)

PREVIEW = Column("preview", IMAGE, "picture of the slice through the box, WebP; only where previews were added")
"""The last column of ``quintuples`` in a repository with previews."""

MONTAGE_COLUMNS: tuple[Column, ...] = (
    Column("id", pa.string(), "patient/visit/side, the prefix of its quintuples' ids"),
    Column("montage", IMAGE, "picture of twelve sagittal slices, WebP"),
    Column("volume_path", pa.string(), "the MRI, relative to the repository"),
    Column("patient", pa.string(), "OAI participant"),
    Column("visit", pa.string(), _VISIT),
    Column("side", pa.string(), "right or left knee"),
    Column("synthetic", pa.bool_(), "true for everything that the phantom made"),
)


def flat_grades(grades: Iterable[Grade]) -> FlatGrades:
    """Return the flat grade columns of a row.

    Examples
    --------
    >>> flat_grades([{"attribute": "size", "grade": 2, "scale": "ordinal"}])["grade_size"]
    2
    """
    found = {each["attribute"]: each["grade"] for each in grades}
    return cast("FlatGrades", {column: found.get(attribute) for attribute, column in GRADE_COLUMNS.items()})


CONFIGS: dict[str, tuple[Column, ...]] = {
    "quintuples": QUINTUPLE_COLUMNS,
    "volumes": VOLUME_COLUMNS,
    "balanced": BALANCED_COLUMNS,
    "preview": MONTAGE_COLUMNS,
}


def arrow_schema(config: str = "quintuples", *, previews: bool = False) -> pa.Schema:
    """Return the Arrow schema that a config's Parquet files are written with.

    Parameters
    ----------
    config : str, optional
        Name of the config.
    previews : bool, optional
        Whether the column `PREVIEW` follows those of ``quintuples``.

    Examples
    --------
    >>> arrow_schema("balanced").names
    ['id', 'multiplicity']
    >>> arrow_schema("quintuples", previews=True).names[-1]
    'preview'
    """
    columns = (*CONFIGS[config], *((PREVIEW,) if previews and config == "quintuples" else ()))
    return with_images(pa.schema([(column.name, column.type) for column in columns]))


def with_images(schema: pa.Schema) -> pa.Schema:
    """Add the metadata by which ``datasets`` reads columns of type `IMAGE` as ``Image``."""
    images = {field.name: {"_type": "Image"} for field in schema if field.type == IMAGE}
    return schema.with_metadata({"huggingface": json.dumps({"info": {"features": images}})}) if images else schema


_ID = re.compile(
    r"(?P<patient>[0-9]+)/(?P<visit>[0-9]{2}M)/(?P<side>left|right)(?:/(?P<series>[0-9]+))?(?:/q(?P<question>[0-9]{2}))?"
)


def volume_id(patient: str, visit: str, side: str, series: str | None = None) -> str:
    """Name one volume: ``patient/visit/side``, with the series only where a visit has two of one knee.

    Examples
    --------
    >>> volume_id("9016403", "00M", "right")
    '9016403/00M/right'
    """
    return "/".join(part for part in (patient, visit, side, series) if part)


def quintuple_id(volume: str, question_id: int) -> str:
    """Name one row.

    Examples
    --------
    >>> quintuple_id("9016403/00M/right", 19)
    '9016403/00M/right/q19'
    """
    return f"{volume}/q{question_id:02d}"


def volume_path(volume: str) -> str:
    """Place a volume in a prepared repository, relative to its root.

    Examples
    --------
    >>> volume_path("9016403/00M/right")
    'volumes/9016403/00M_right.nii.gz'
    >>> volume_path("9016403/00M/right/10329009")
    'volumes/9016403/00M_right_10329009.nii.gz'
    """
    patient, *rest = volume.split("/")
    return f"volumes/{patient}/{'_'.join(rest)}.nii.gz"


def mask_path(volume_path: str) -> str:
    """Return the place of a volume's mask in a prepared repository, relative to its root.

    Examples
    --------
    >>> mask_path("volumes/9016403/00M_right.nii.gz")
    'masks/9016403/00M_right.nii.gz'
    """
    return f"masks/{volume_path.removeprefix('volumes/')}"


@dataclass(frozen=True, slots=True)
class RowId:
    """The parts of an id; ``series`` and ``question_id`` are None where the id has none."""

    patient: str
    visit: str
    side: str
    series: str | None
    question_id: int | None


def parse_id(text: str) -> RowId:
    """Take an id apart.

    Raises
    ------
    RepositoryError
        If the text is not an id.

    Examples
    --------
    >>> parse_id("9016403/00M/right/q19")
    RowId(patient='9016403', visit='00M', side='right', series=None, question_id=19)
    """
    match = _ID.fullmatch(text)
    if match is None:
        raise RepositoryError(
            f"{text!r} is not an id, which has the form patient/visit/side[/series][/qNN]. Take ids from the `id` "
            "column, for example 9016403/00M/right/q19."
        )
    question = match["question"]
    return RowId(match["patient"], match["visit"], match["side"], match["series"], int(question) if question else None)
