"""Preparation of a repository from an official release, with its grades or with those of MOAKS tables."""

from __future__ import annotations

import os
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from reasonknee_datasets.boxes import BoxConvention
from reasonknee_datasets.errors import PrepareError, ReleaseError, RepositoryError, nearest
from reasonknee_datasets.manifest import MANIFEST, WITHOUT_PREVIEWS, Manifest
from reasonknee_datasets.moaks import QUESTIONS, write_answer
from reasonknee_datasets.oai.conversion_report import read_converter
from reasonknee_datasets.oai.moaks_tables import Knee, ReadingRule, find_tables, read_moaks_tables, resolve_readings
from reasonknee_datasets.oai.moaks_variables import AclRule
from reasonknee_datasets.prepare.prior_counts import CanonicalGrid
from reasonknee_datasets.prepare.provenance import (
    count_images,
    describe_files,
    is_current,
    other_input,
    refuse_other_input,
)
from reasonknee_datasets.prepare.repository_writer import RepositoryContent, SourceVolume, Writer
from reasonknee_datasets.prepare.staging import check_target, staged
from reasonknee_datasets.prepare.volume_files import VolumesMode
from reasonknee_datasets.quality import CHECKS, CheckedVolume, DataChecker
from reasonknee_datasets.release import KINDS, Release, ReleaseOptions, ReleaseVolume, open_release
from reasonknee_datasets.release.paths import is_there
from reasonknee_datasets.release.release_volumes import other_names
from reasonknee_datasets.schema import Grade, Quintuple, flat_grades, volume_path

GradesSource = Literal["released", "moaks"]


class TableGrades:
    """The grades of MOAKS tables, by knee, question and attribute.

    Parameters
    ----------
    paths : sequence of Path
        Tables, or folders of them, see `read_moaks_tables`.
    readings : {"agree", "first", "latest"}
        Rule for several readings of one knee and visit.
    acl : {"label", "any", "highest"}
        Rule for MACLTR, whose three codes are not the two grades of the slot.

    Attributes
    ----------
    counts : Counter of str
        How many grades of the rows so far are ``equal`` in both, ``changed`` (both have one), ``added`` (only the
        tables) and ``nulled`` (only the release).
    """

    def __init__(self, paths: Iterable[Path], readings: ReadingRule, acl: AclRule) -> None:
        if readings == "all":
            raise PrepareError(
                'readings="all" keeps several grades for one row. Choose "agree", "first" or "latest" to take grades '
                "from MOAKS tables."
            )
        tables = read_moaks_tables(paths, acl=acl)
        self._grades: Mapping[Knee, Mapping[tuple[int, str], int | None]] = {
            each.knee: each.grades for each in resolve_readings(tables, readings)
        }
        self.counts: Counter[str] = Counter(equal=0, changed=0, added=0, nulled=0)

    def replace(self, rows: Iterable[tuple[str, Quintuple]]) -> Iterator[tuple[str, Quintuple]]:
        """Replace grades, flat grades and answers of rows; a grade that the tables do not have is null."""
        for split, row in rows:
            yield split, self._replaced(row)

    def _replaced(self, row: Quintuple) -> Quintuple:
        known = self._grades.get(Knee(row["patient"], row["visit"], row["side"]), {})
        grades: list[Grade] = [
            {**each, "grade": known.get((row["question_id"], each["attribute"]))} for each in row["grades"]
        ]
        for released, own in zip(row["grades"], grades, strict=True):
            self.counts[_outcome(released["grade"], own["grade"])] += 1
        answer = write_answer(QUESTIONS[row["question_id"]], {each["attribute"]: each["grade"] for each in grades})
        return {**row, "grades": grades, **flat_grades(grades), "answer": answer}


def _outcome(released: int | None, own: int | None) -> str:
    if own is None:
        return "equal" if released is None else "nulled"
    if released is None:
        return "added"
    return "equal" if own == released else "changed"


_WRITERS = ("reasonknee_datasets", "datasets", "pyarrow", "nibabel")


@dataclass(frozen=True, slots=True)
class Prepared:
    """Result of `prepare`.

    Attributes
    ----------
    path : Path
        The prepared repository.
    manifest : Manifest
        Its contents.
    written : bool
        False where it was there already, made from the same input, and nothing was to do.
    """

    path: Path
    manifest: Manifest
    written: bool


def prepare(
    release_root: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    images: str | os.PathLike[str] | None = None,
    volumes: VolumesMode = "pack",
    masks: bool = False,
    grades_source: GradesSource = "released",
    moaks_tables: Iterable[str | os.PathLike[str]] = (),
    readings: ReadingRule = "agree",
    acl: AclRule = "label",
    box_convention: BoxConvention | str | None = None,
    allow: Iterable[str] = (),
    workers: int | None = None,
    progress: bool = True,
    overwrite: bool = False,
    executor: Executor | None = None,
) -> Prepared:
    """Turn an official release and the user's images into a repository that loads.

    The repository appears whole or not at all: everything is written into a hidden folder next to it and renamed at the
    end. A run that is interrupted or killed can be started again, and goes on from the volumes that are done; a run
    that ends with an error leaves nothing behind.

    Parameters
    ----------
    release_root : path
        The official release.
    out : path
        The repository, by custom a folder named 3dreasonknee. A second run from the same input has nothing to do.
    images : path, optional
        The folder of images, if it is not the release's own ``data/images``.
    volumes : {"pack", "copy", "link", "none"}
        Treatment of the images: written as seekable ``.nii.gz``, from which a region reads ten times faster and
        which every other tool still opens (see `reasonknee_datasets.volumes.pack`; about 3 s of one core a full
        volume); copied as they are; linked (hard where the file system can, else symbolically); or left where they
        are. Without images only "none" works: the repository then has only annotations.
    masks : bool
        Keep the segmentation masks: as seekable ``.nii.gz`` below ``masks/``, on the grids of their images.
    grades_source : {"released", "moaks"}
        "moaks" takes ``grades``, their flat columns and ``answer`` from MOAKS tables: a grade that the tables do not
        have is null, and never the released one, which may be 0 where nothing was read. ``reasoning`` stays as
        released, so that it may state other grades, and official records cannot be rebuilt from these rows.
    moaks_tables : iterable of path
        OAI's ``kMRI_SQ_MOAKS`` tables, or folders of them; by default the release's own (``data/labels``).
    readings : {"agree", "first", "latest"}
        Rule for several readings of one knee and visit, see `reasonknee_datasets.oai.moaks_tables.READING_RULES`.
    acl : {"label", "any", "highest"}
        Which codes of MACLTR (0, 1, 2) are a complete tear. Depth code 5 has no grade in any case, and becomes null.
    box_convention : BoxConvention or str, optional
        How official boxes are to be read; by default it is established from the masks. Either way it is checked.
    allow : iterable of str
        Kinds of problems in the release (`reasonknee_datasets.release.KINDS`) and names of data checks
        (`reasonknee_datasets.quality.CHECKS`) that do not stop the run. The manifest records them with their counts.
    workers : int, optional
        Processes. By default one a core where there is much to do, else none besides this one. A script that may start
        processes must call this function under ``if __name__ == "__main__":``.
    progress : bool
        Whether progress bars are shown.
    overwrite : bool
        Replace a repository that was made from other input. Nothing else is ever replaced.
    executor : concurrent.futures.Executor, optional
        Where masks and volumes are read and volumes are packed instead of in processes of this machine, for example
        `reasonknee_datasets.cluster.cluster_executor`. The repository has the same bytes.

    Returns
    -------
    Prepared

    Raises
    ------
    ReleaseError
        If the release has problems that ``allow`` does not name.
    PrepareError
        If the data checks find errors that ``allow`` does not name, the repository cannot be written, or ``out`` has
        something else.
    """
    if volumes not in get_args(VolumesMode):
        raise PrepareError(f"Unknown volumes={volumes!r}. Available: {', '.join(get_args(VolumesMode))}.")
    out = Path(out).absolute()
    check_target(out)
    allowed = frozenset(allow)
    options = ReleaseOptions(
        images=None if images is None else Path(images),
        box_convention=box_convention,
        allow=_allowed_kinds(allowed),
        workers=workers,
        require_images=volumes != "none",
        progress=progress,
        executor=executor,
    )
    release = open_release(Path(release_root), options)
    if masks and not any(study.mask.is_file() for study in release.studies):
        raise PrepareError(f"The release in {release_root} has no masks to keep. Leave out masks=True (--masks).")
    if volumes != "none" and release.studies and not any(is_there(study.image) for study in release.studies):
        first = release.studies[0].image
        raise PrepareError(
            f"None of the {len(release.studies):,} images of {release_root} is there: no file at {first}"
            f"{other_names(first)}. Name the folder of the images with images= (--images), or prepare the annotations "
            "alone with volumes='none' (--volumes none)."
        )
    source = _describe(release, options, volumes, masks, allowed)
    versions = {name: version(name) for name in _WRITERS}
    tables = _find_tables(release, grades_source, moaks_tables)
    if tables:
        source["tables"] = describe_files({path.name: path for path in find_tables(tables)})
        source["options"] |= {"grades_source": grades_source, "readings": readings, "acl": acl}
    if volumes == "pack":
        versions["zlib"] = zlib.ZLIB_RUNTIME_VERSION  # another one may pack the same voxels into other bytes
    if source["files"].keys() != release.files.keys():
        release.check()  # reports what cannot be read, and stops unless that is allowed
    previous = None if overwrite else _previous(out)
    if previous is not None:
        refuse_other_input(previous, source, versions, out)
        inputs = ((volume_path(each.volume_id), each.image, each.mask) for each in release.studies)
        if is_current(previous, out, inputs):
            return Prepared(out, previous, written=False)
    # Tables are read before the release is checked, which takes long: an unreadable table is refused at once.
    grades = TableGrades(tables, readings, acl) if tables else None
    content = _content(release, source, masks)
    if grades is not None:
        report = {**content.report, "table_grades": grades.counts}  # counted while the rows are written
        content = replace(content, rows=grades.replace(content.rows), report=report)
    with staged(out) as folder:
        writer = Writer(content, folder, volumes, versions, workers, progress, executor, _checker(release), allowed)
        manifest = writer.write()
        if previous is not None and manifest.digest not in {previous.digest, previous.source.get(WITHOUT_PREVIEWS)}:
            raise other_input(out, "its images or masks")
    return Prepared(out, manifest, written=True)


def _find_tables(release: Release, grades_source: GradesSource, given: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Return the MOAKS tables that grades are taken from; none where the released grades are kept."""
    if grades_source not in get_args(GradesSource):
        raise PrepareError(
            f"Unknown grades_source {grades_source!r}. {nearest(grades_source, get_args(GradesSource))}."
        )
    found = [Path(path) for path in given]
    if grades_source == "released":
        if found:
            raise PrepareError('moaks_tables= needs grades_source="moaks" (--grades-source moaks).')
        return []
    return found or [release.root.data / "labels"]


def _allowed_kinds(allow: frozenset[str]) -> frozenset[str]:
    """Return the names that the release's own check takes; an unknown one is refused."""
    for name in sorted(allow - KINDS.keys() - CHECKS.keys()):
        known = [kind.name for kind in KINDS.values() if kind.allowed] + [name for name in CHECKS if name not in KINDS]
        raise ReleaseError(f"Unknown problem or check {name!r} to allow. {nearest(name, known)}.")
    return allow & KINDS.keys()


def _checker(release: Release) -> DataChecker:
    """Make the data checks of a release's volumes."""
    volumes = [
        CheckedVolume(
            volume.volume_id,
            volume.split,
            volume.patient,
            volume.visit,
            volume.side,
            volume.study,
            volume.shape,
            None if volume.affine is None else np.array(volume.affine),
        )
        for volume in release.volumes
    ]
    return DataChecker(volumes, synthetic=release.synthetic)


def _describe(
    release: Release, options: ReleaseOptions, volumes: VolumesMode, masks: bool, allow: frozenset[str]
) -> dict[str, Any]:
    """Describe the source of a repository, as its manifest records it."""
    convention = None if options.box_convention is None else str(options.box_convention)
    return {
        "revision": release.revision,
        "files": describe_files(release.files),
        "images": count_images(study.image for study in release.studies),
        "converter": None if options.images is None else read_converter(options.images),
        "options": {"volumes": volumes, "box_convention": convention, "allow": sorted(allow), "masks": masks},
    }


def _previous(out: Path) -> Manifest | None:
    """Read the manifest of the repository that is there already, if one is."""
    try:
        return Manifest.load(out) if (out / MANIFEST).exists() else None
    except RepositoryError as error:
        raise PrepareError(
            f"{out} has a damaged repository ({str(error).partition('. ')[0]}). Choose another folder, or replace it "
            "with overwrite=True (--overwrite)."
        ) from error


def _content(release: Release, source: dict[str, Any], masks: bool) -> RepositoryContent:
    """Check the whole release, and build the source of a repository from it."""
    report = release.check()
    return RepositoryContent(
        volumes=[_source_volume(volume, masks) for volume in release.volumes],
        rows=release.quintuples(),
        expected_rows=sum(report.rows.values()),
        balanced={str(split): ids for split, ids in release.balanced().items()},
        synthetic=release.synthetic,
        source=source,
        box_convention=report.boxes.to_manifest() if report.boxes is not None else {},
        report=report.to_manifest(),
        labels={name: label for label, name in sorted(release.labels.names.items())} if masks else {},
    )


def _source_volume(volume: ReleaseVolume, masks: bool) -> SourceVolume:
    grid = None
    if volume.shape is not None and volume.affine is not None:
        grid = CanonicalGrid(volume.shape, np.array(volume.affine))
    return SourceVolume(
        split=volume.split,
        id=volume.volume_id,
        path=volume.volume_path,
        patient=volume.patient,
        visit=volume.visit,
        side=volume.side,
        study=volume.study,
        series=volume.series,
        image=None if grid is None else volume.image,
        grid=grid,
        mask=volume.mask if masks else None,
    )
