"""One series read from its place: images sorted by series, the wanted one chosen, and its slices put together."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from reasonknee_datasets.errors import ConvertError
from reasonknee_datasets.oai.archives import EVERYWHERE, SeriesPlace, is_tar, is_zip
from reasonknee_datasets.oai.conversion_errors import Refusal
from reasonknee_datasets.oai.dicom_files import Header, Slice, read_dicom, read_dicom_header, read_slices
from reasonknee_datasets.oai.image_grids import Placed, place_on_grid, write_volume
from reasonknee_datasets.oai.series_identity import Claim, is_dess, read_series_number
from reasonknee_datasets.oai.slice_stack import Volume, stack_slices

_HEAD_BYTES = 1 << 20  # of a file, which hold its header
_PEEKED = 5  # files; an image or two of another kind may come first


def read_series(place: SeriesPlace, claim: Claim | None = None) -> Volume:
    """Read the DICOM files of one place as one volume.

    Parameters
    ----------
    place : SeriesPlace
        A folder or an archive.
    claim : Claim, optional
        Which series is wanted, where the place may hold several.

    Raises
    ------
    Refusal
        If the files do not make exactly one complete volume.
    """
    slices: list[Slice] = []
    strangers: list[str] = []
    for name, data in place.files():
        try:
            found = read_slices(name, data)
        except Refusal as error:
            raise Refusal(error.kind, f"{place}: {error}") from error
        slices += found
        if not found:
            strangers.append(name)
    if not slices:
        message = f"{place} has no DICOM image (files read: {len(strangers)})"
        raise Refusal("no-image", f"{message}. Name the folder or archive that has the series' slices itself.")
    chosen, notes = _choose_series(slices, claim, str(place))
    if strangers:
        notes.append(f"left out {len(strangers)} files that are not DICOM images, such as {strangers[0]}")
    volume = stack_slices(chosen, str(place))
    return replace(volume, notes=(*notes, *volume.notes))


def peek_headers(place: SeriesPlace) -> Generator[Header, None, None]:
    """Read the identity of every series of a place, each once; none where the first files are not DICOM images.

    Raises Refusal if an archive or a file is damaged, unsafe or too large.
    """
    found: set[Header] = set()
    with closing(place.files(_HEAD_BYTES)) as files:
        for number, (name, data) in enumerate(files):
            if number >= _PEEKED and not found:
                return
            dataset = read_dicom(f"{place}: {name}", data, pixels=False)
            header = None if dataset is None else read_dicom_header(dataset)
            if header is not None and header not in found:
                found.add(header)
                yield header


def peek_header(place: SeriesPlace, claim: Claim | None = None) -> Header | None:
    """Read the identity of the first DICOM image of a place that is of the wanted series.

    Where none is, or no series is wanted, that of the first DICOM image; None where the first files are none. Reading
    stops at the image.
    """
    first = None
    with closing(peek_headers(place)) as headers:
        for header in headers:
            first = first or header
            if claim is None or read_series_number(header) in (claim.series, None):
                return header
    return first


def _choose_series(slices: list[Slice], claim: Claim | None, place: str) -> tuple[list[Slice], list[str]]:
    """Choose the wanted series where a place has several; refuse it where headers do not decide."""
    groups: dict[Header, list[Slice]] = {}
    for each in slices:
        groups.setdefault(each.header, []).append(each)
    if len(groups) == 1:
        return slices, []
    wanted = [group for group in groups.values() if _is_wanted(group[0].header, claim)]
    if len(wanted) != 1:
        named = sorted({group[0].header.description or "no description" for group in groups.values()})
        message = f"{place} has images of {len(groups)} series ({', '.join(named[:5])})"
        raise Refusal("mixed-series", f"{message}, and their headers do not show which one is wanted. Separate them.")
    patients = {each.header.patient for each in slices}
    if len(patients) > 1:
        raise Refusal("mixed-series", f"{place} has images of {len(patients)} patients. Separate them.")
    others = len(slices) - len(wanted[0])
    return wanted[0], [f"left out {others} image{'s' if others > 1 else ''} of {len(groups) - 1} other series"]


def _is_wanted(header: Header, claim: Claim | None) -> bool:
    if claim is None:
        return is_dess(header.description)
    number = read_series_number(header)
    return number == claim.series if number is not None else False


def convert_series(source: str | os.PathLike[str], out: str | os.PathLike[str]) -> tuple[Volume, Placed]:
    """Convert one series by itself.

    Parameters
    ----------
    source : path
        A folder of DICOM files, or a ``.tar.gz``, ``.tar`` or ``.zip`` of them.
    out : path
        The ``.nii.gz`` to write, with array axes closest to RAS+; it must not exist.

    Returns
    -------
    volume : Volume
        The series, with notes on what was left out.
    placed : Placed
        The voxels and affine as written.

    Raises
    ------
    ConvertError
        If the names do not fit.
    Refusal
        If the series is not converted.
    """
    path, target = Path(source), Path(out)
    if not target.name.endswith(".nii.gz"):
        raise ConvertError(f"The result is a seekable .nii.gz, but --out is {str(target)!r}. End its name in .nii.gz.")
    if target.exists():
        raise ConvertError(f"{target} exists already. Remove it or choose another name.")
    if not path.exists():
        raise ConvertError(f"There is no series at {path}.")
    if path.is_file() and not (is_tar(path.name) or is_zip(path.name)):
        raise ConvertError(f"{path} is one file. Name the folder, .tar.gz, .tar or .zip of its series.")
    volume = read_series(SeriesPlace(str(path), EVERYWHERE if is_zip(path.name) else ""))
    placed = place_on_grid(volume.voxels, volume.affine, None, str(path))
    write_volume(target, placed, "reasonknee convert", slope=volume.slope, intercept=volume.intercept)
    return volume, placed
