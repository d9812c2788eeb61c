"""OAI-like downloads of a synthetic release: an NDA package, a ``results`` tree and a plain folder tree."""

from __future__ import annotations

import csv
import gzip
import io
import json
import shutil
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from tqdm import tqdm

from reasonknee_datasets.phantom.dicom_defects import DEFECTS, Defect
from reasonknee_datasets.phantom.dicom_series import SeriesFacts, check_pydicom, make_slices, write_bytes
from reasonknee_datasets.phantom.release_writer import check_space
from reasonknee_datasets.phantom.scan_grids import Size
from reasonknee_datasets.phantom.study_plan import PhantomError, plan_study
from reasonknee_datasets.schema import SIDES
from reasonknee_datasets.volumes import open_volume

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Form = Literal["nda", "results", "folders"]
FORMS: tuple[Form, ...] = ("nda", "results", "folders")
DEFECTS_FILE = "planted_defects.json"

_WHOLE = 3  # volumes that stay without a defect
_DEEP = 16  # slices that the defects need at least
_DOWNLOAD_BYTES = {"tiny": 6_000_000, "oai": 120_000_000}  # of one volume in all forms, two of them without compression

_NDA_COLUMNS = {
    "image03_id": "Image identifier",
    "subjectkey": "The NDAR Global Unique Identifier (GUID) for research subject",
    "src_subject_id": "Subject ID how it's defined in lab/project",
    "interview_date": "Date on which the interview/genetic test/sampling/imaging/biospecimen was completed. MM/DD/YYYY",
    "image_description": "Image description, i.e. DTI, fMRI, Fast SPGR, phantom, EEG, dynamic PET",
    "image_modality": "Image modality",
    "scan_type": "Type of Scan",
    "comments_misc": "Miscellaneous comments on study, interview, methodology relevant to this form data",
    "visit": "Visit name",
    "study": "Study",
    "image_file": "Data (image, behavioral, anatomical, etc) file name/location",
}


@dataclass(frozen=True, slots=True)
class _Row:
    """One row of ``all_studies.csv`` with the defect that is planted in it."""

    facts: SeriesFacts
    release_folder: str  # of OAI, such as 0.C.2
    image: Path
    defect: Defect | None

    @property
    def key(self) -> str:
        """Path of the series below its OAI release folder."""
        return "/".join(self.facts.identity)

    def has(self, **planted: str) -> bool:
        """Check whether the defect has these attributes."""
        return self.defect is not None and all(getattr(self.defect, name) == value for name, value in planted.items())

    def described(self) -> dict[str, str]:
        """Return the entry of the list of defects."""
        planted = {"defect": "", "status": "converted", "kind": ""}
        if self.defect is not None:
            planted = {"defect": self.defect.name, "status": self.defect.status, "kind": self.defect.kind}
        return {"patient": self.facts.patient, "date": self.facts.date, "series": self.facts.series, **planted}


def check_downloads(out: Path, patients: int, *, size: Size = "tiny", seed: int = 0) -> None:
    """Check before a release is written that it would have a volume for every defect, and that the disk has space.

    Parameters
    ----------
    out : Path
        The folder for the release.
    patients, size, seed
        As for `reasonknee_datasets.phantom.write_release`.

    Raises
    ------
    PhantomError
        If the patients are too few, or the space is.
    MissingExtraError
        If pydicom is not installed.
    """
    check_pydicom()
    check_space(out, patients, size, extra=_DOWNLOAD_BYTES.get(size, 0))
    volumes = plan_study(patients, size=size, seed=seed).volumes
    for form in FORMS:
        _check_counts(form, len(volumes), sum(_is_deep(volume.geometry.shape) for volume in volumes))


def write_downloads(release: Path) -> dict[Path, Path]:
    """Replace the images of a synthetic release by downloads in every form, in ``oai/<form>`` next to ``data``.

    Returns
    -------
    dict of Path to Path
        For each download its list of planted defects.
    """
    notes = {
        folder: write_download(release, folder, form=form) for form in FORMS for folder in [release / "oai" / form]
    }
    shutil.rmtree(release / "data" / "images")
    return notes


def write_download(release: Path, out: Path, *, form: Form, defects: bool = True) -> Path:
    """Write the DICOM files of a synthetic release as one form of download.

    Parameters
    ----------
    release : Path
        A synthetic release with its images.
    out : Path
        A folder that does not exist yet.
    form : {"nda", "results", "folders"}
        ``nda``: a package with ``image03.txt`` and one ``.tar.gz`` a series. ``results``: the older tree of folders.
        ``folders``: ``<patient>/data/<date>/<series>``.
    defects : bool
        Whether each of `DEFECTS` is planted in a separate series, train first. They are listed in
        ``planted_defects.json`` next to the folder, by patient, date and series.

    Returns
    -------
    Path
        The list of defects.

    Raises
    ------
    PhantomError
        If the release has too few volumes, or the folder exists.
    """
    if out.exists():
        raise PhantomError(f"{out} exists already. Remove it or name another folder.")
    rows = _plan(release, form, defects)
    for row in tqdm(rows, f"phantom: writing DICOM ({form})", unit="series", disable=None):
        if not row.has(place="absent"):
            _write_series(out, form, row)
    if form == "nda":
        _write_image03(out / "Package_0000001" / "image03.txt", rows)
    notes = out.with_name(f"{out.name}_{DEFECTS_FILE}")
    notes.write_text(json.dumps([row.described() for row in rows], indent=1) + "\n", encoding="utf-8", newline="\n")
    return notes


def _plan(release: Path, form: Form, defects: bool) -> list[_Row]:
    """Return each defect a volume of train, then of the other splits where train has too few."""
    data = release / "data"
    rows = []
    for split in ("train", "test", "val"):
        with (data / "split_files" / f"{split}_split.csv").open(encoding="utf-8", newline="") as file:
            rows += list(csv.DictReader(file))
    planted: dict[int, Defect] = {}
    if defects:
        # Shallow stacks cannot hold every defect; they stay as they are.
        deep = [place for place, row in enumerate(rows) if _is_deep(open_volume(_image(data, row), cache=None).shape)]
        planted = dict(zip(deep, _check_counts(form, len(rows), len(deep)), strict=False))
    return [
        _Row(
            SeriesFacts(
                row["patient_id"],
                row["time"],
                row["study_folder"],
                row["series_folder"],
                SIDES[int(row["knee_side"]) - 1],
            ),
            row["path"].removeprefix("../data/OAI/").split("/")[1],
            _image(data, row),
            planted.get(place),
        )
        for place, row in enumerate(rows)
    ]


def _check_counts(form: Form, volumes: int, deep: int) -> list[Defect]:
    """Return the defects of a form, each of which needs a separate deep volume; refuse too few volumes."""
    wanted = [each for each in DEFECTS if form == "nda" or not (each.archive or each.place == "index")]
    if volumes < len(wanted) + _WHOLE or deep < len(wanted):
        raise PhantomError(
            f"{len(wanted)} defects need {len(wanted) + _WHOLE} volumes, {len(wanted)} of them with more than {_DEEP} "
            f"slices, and the release has {volumes} and {deep}. Ask for more patients, such as 18."
        )
    return wanted


def _is_deep(shape: Sequence[int]) -> bool:
    return min(shape) > _DEEP


def _image(data: Path, row: dict[str, str]) -> Path:
    return data / row["image_filepath"].removeprefix("../data/")


def _make_files(row: _Row) -> dict[str, bytes]:
    """Encode the slices of one series, named 001, 002 ... as OAI does, and plant the defects of slices and files."""
    image = open_volume(row.image, cache=None)
    slices: list[Dataset] = make_slices(np.asarray(image.dataobj), np.asarray(image.affine, float), row.facts)
    if row.defect is not None and row.defect.change is not None:
        slices = row.defect.change(slices, row.facts)
    if row.has(files="shuffle"):
        slices = [slices[place] for place in np.random.default_rng(5).permutation(len(slices)).tolist()]
    suffix = ".dcm" if row.has(files="suffix") else ""
    files = {f"{number:03d}{suffix}": write_bytes(each) for number, each in enumerate(slices, start=1)}
    if row.has(files="cut"):
        files["003"] = files["003"][: len(files["003"]) // 2]
    if row.has(files="strangers"):
        files |= {".DS_Store": b"\0\0\0\x01Bud1", "Thumbs.db": b"\xd0\xcf\x11\xe0", "notes.txt": b"SYNTHETIC\n"}
    return files


def _write_series(out: Path, form: Form, row: _Row) -> None:
    facts, renamed, files = row.facts, row.has(place="renamed"), _make_files(row)
    if form == "nda":
        name = f"scan_{facts.series[-4:]}" if renamed else row.key
        month = f"{facts.visit[:2]}m"
        path = out / "Package_0000001" / "image03" / month / row.release_folder / f"{name}.tar.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_archive(files, row.defect.archive if row.defect else ""))
        return
    if form == "results":
        folder = out / "OAIBaselineImages" / "results" / row.release_folder / ("renamed/A" if renamed else row.key)
    else:
        folder = out / "my%20knees" / facts.patient / "data" / facts.date / ("series A" if renamed else facts.series)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _archive(files: dict[str, bytes], what: str) -> bytes:
    """Write a ``.tar.gz`` as NDA's, members below ``./``; the same files give the same bytes."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name, content in files.items():
            _add(archive, f"./{name}", content)
        if what == "climbs":
            _add(archive, "../../../outside", b"SYNTHETIC")
        elif what == "links":
            link = tarfile.TarInfo("./200")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(link)
        elif what == "claims":
            # A header that claims 4 GB, as a bomb would; what follows is short.
            huge = tarfile.TarInfo("./200")
            huge.size = 4 << 30
            plain.write(huge.tobuf())
    zipped = io.BytesIO()
    # gzip.compress writes another header in newer versions of Python.
    with gzip.GzipFile(fileobj=zipped, mode="wb", mtime=0, filename="", compresslevel=1) as stream:
        stream.write(plain.getvalue())
    whole = zipped.getvalue()
    return whole[: len(whole) * 2 // 3] if what == "cut" else whole


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def _write_image03(path: Path, rows: Sequence[_Row]) -> None:
    """Write NDA's index: tabs, quotes, and a second header row that describes the columns."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerow(_NDA_COLUMNS)
        writer.writerow(_NDA_COLUMNS.values())
        for number, row in enumerate(rows):
            facts = row.facts
            contradicted = row.has(place="index")
            side = "LEFT" if (facts.side == "right") == contradicted else "RIGHT"
            month = int(facts.visit[:2])
            study = "ENROLLMENT" if month == 0 else f"{month} MONTH"
            address = f"{month:02d}m/{row.release_folder}/{row.key}.tar.gz"
            writer.writerow(
                [
                    str(number + 1),
                    f"NDARSYNTHETIC{facts.patient}",
                    facts.patient,
                    f"{facts.date[4:6]}/{facts.date[6:]}/{facts.date[:4]}",
                    f"SAG_3D_DESS_{side}",
                    "MRI",
                    "MR structural (other)",
                    f"OAI MR {study} {side}",
                    study.capitalize(),
                    "OAI",
                    f"s3://SYNTHETIC/submission_1/{address}",
                ]
            )
