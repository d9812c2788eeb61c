"""Every volume of a release: its image and mask, and how their arrays relate."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.errors import GeometryError, VolumeError
from reasonknee_datasets.orientation import Reorientation, between
from reasonknee_datasets.release.masks import MaskScan, find_side
from reasonknee_datasets.release.report import EXAMPLES, Problems
from reasonknee_datasets.release.split_files import Study
from reasonknee_datasets.schema import Side, Split
from reasonknee_datasets.volumes import open_volume
from reasonknee_datasets.volumes.header import spatial_shape

Affine = tuple[tuple[float, ...], ...]

# "knee (1).nii.gz" of a browser, "knee - Copy.nii.gz" of Windows, "knee copy.nii.gz" of macOS.
_SECOND_DOWNLOAD = re.compile(r"( ?\([0-9]+\)|( -)? copy( [0-9]+)?)(?=\.|$)")


@dataclass(frozen=True, slots=True)
class ReleaseVolume:
    """One volume that has rows.

    Parameters
    ----------
    split, patient, visit, side, study, series : str
        Provenance.
    volume_id : str
        ``patient/visit/side``, with the series where there are two.
    volume_path : str
        Where a prepared repository puts it.
    image : Path
        The image file; it need not exist where images are not needed.
    mask : Path or None
        The mask file; None where it is absent.
    shape : three ints or None
        Voxels along each axis of the image's array; None without an image.
    affine : (4, 4) tuple of tuples of float, or None
        The image's, voxel centre to world (RAS+, mm).
    turn : Reorientation
        From the mask's array, where official boxes are defined, to the image's.
    rows : int
        How many questions it answers.
    """

    split: Split
    patient: str
    visit: str
    side: Side
    study: str
    series: str
    volume_id: str
    volume_path: str
    image: Path
    mask: Path | None
    shape: tuple[int, int, int] | None
    affine: Affine | None
    turn: Reorientation
    rows: int


@dataclass(frozen=True, slots=True)
class Grid:
    """The grid of a volume's image (None without one), and the turn that takes its mask's array there."""

    shape: tuple[int, int, int] | None
    affine: Affine | None
    turn: Reorientation


def read_grid(study: Study, scan: MaskScan | None, require_image: bool, problems: Problems) -> Grid | None:
    """Compare a volume's image with its mask, by their headers alone.

    Returns Grid or None: None where a problem costs the volume.
    """
    try:
        image = open_volume(study.image, cache=None)
        shape, affine = spatial_shape(image.shape), np.asarray(image.affine, dtype=np.float64)
        if len(shape) != 3:
            raise VolumeError(f"The image has shape {shape}, but must have three axes. Convert the series again.")
        turn = Reorientation() if scan is None else between(scan.affine, scan.shape, affine, shape)
    except FileNotFoundError:
        if not require_image:
            return Grid(None, None, Reorientation())
        problems.add(
            "missing-image",
            f"no file at {study.image}{other_names(study.image)}",
            where=f"{study.volume_id} ({study.where})",
        )
    except VolumeError as error:
        problems.add("bad-image", str(error), where=study.volume_id)
    except GeometryError as error:
        problems.add("geometry", f"mask {study.mask.name} and image: {error}", where=study.volume_id)
    else:
        return Grid((shape[0], shape[1], shape[2]), tuple(map(tuple, affine.tolist())), turn)
    return None


def other_names(path: Path) -> str:
    """Describe files near a missing one with its name, but another ending or the number of a second download."""
    stem = _stem(path.name)
    try:
        names = sorted(each.name for each in path.parent.iterdir() if _stem(each.name) == stem)
    except OSError:
        return ""
    if not names:
        return ""
    remedies = dict.fromkeys(_remedy(name) for name in names)
    return f", but {' and '.join(names)}: {', '.join(remedies)}"


def _stem(name: str) -> str:
    return _SECOND_DOWNLOAD.sub("", name.lower()).partition(".")[0]


def _remedy(name: str) -> str:
    """Choose how a file becomes the ``.nii.gz`` that is missing."""
    ending = _SECOND_DOWNLOAD.sub("", name.lower()).partition(".")[2]
    if ending in ("nii.gz", "gz"):
        return "rename it"
    if ending == "nii":
        return "compress a .nii with gzip"
    if ending in ("mgz", "mgh", "img", "hdr", "img.gz", "hdr.gz"):
        return f"convert .{ending} with nibabel.save(nibabel.load(OLD), NEW)"
    if ending in ("nrrd", "nhdr", "mha", "mhd"):
        return f"convert .{ending} with SimpleITK.WriteImage(SimpleITK.ReadImage(OLD), NEW)"
    if ending.rpartition(".")[2] in ("part", "partial", "crdownload", "download", "incomplete", "tmp"):
        return "complete its download"
    return "unpack or convert it to .nii.gz"


def check_mask(
    study: Study, scan: MaskScan, names: Mapping[int, str], sides: Mapping[int, str], problems: Problems
) -> bool:
    """Check a mask's labels and its side against the split row, and return whether the volume is kept.

    `study`, `scan`: the volume and its mask. `names`: names of the labels; empty where they are not known. `sides`:
    which labels are medial and which lateral, see `LabelMap.sides`. `problems`: collects what is wrong.
    """
    unknown = sorted(label for label in scan.extents if label not in names) if names else []
    if unknown:
        message = f"the mask has labels that labels.json does not name: {', '.join(map(str, unknown))}"
        problems.add("unknown-label", message, where=f"{study.mask.name} ({study.volume_id})")
    side = find_side(scan, sides)
    if side is not None and side != study.side:
        message = describe_side(study.side, side, "labels", *_read_image(study))
        problems.add("side-mismatch", message, where=f"{study.volume_id} ({study.where}, {study.mask.name})")
        return False
    return True


def _read_image(study: Study) -> tuple[str, Sequence[int] | None, NDArray[np.float64] | None]:
    """Read description, shape and affine from the header of a volume's image, as far as it can be read."""
    try:
        image = open_volume(study.image, cache=None)
    except VolumeError:
        return "", None, None
    text = bytes(image.header["descrip"].tobytes()).rstrip(b"\0").decode("ascii", "replace")
    return text, spatial_shape(image.shape), np.asarray(image.affine, dtype=np.float64)


def describe_side(
    named: str,
    inferred: str,
    source: str,
    description: str = "",
    shape: Sequence[int] | None = None,
    affine: NDArray[np.float64] | None = None,
) -> str:
    """Describe which knee a volume shows, from all known sources.

    Parameters
    ----------
    named : str
        The side of the split row.
    inferred : str
        The side that the anatomy shows.
    source : str
        Source of the anatomy: "labels" or "boxes".
    description : str
        Description of the image's header, which names the series.
    shape, affine : optional
        Of the image.

    Examples
    --------
    >>> describe_side("right", "left", "labels", "SAG_3D_DESS_LEFT")
    "knee_side says right, but medial and lateral labels are as in a left knee (the header says 'SAG_3D_DESS_LEFT')"
    """
    known = [f"the header says {description!r}"] if description else []
    if shape is not None and affine is not None:
        middle = float(affine[0] @ [*((np.array(shape[:3]) - 1) / 2), 1.0])
        known.append(
            f"the affine puts the image's middle at x = {middle:+.0f} mm, where positive is the patient's right"
        )
    told = f" ({'; '.join(known)})" if known else ""
    return f"knee_side says {named}, but medial and lateral {source} are as in a {inferred} knee{told}"


def place_masks(
    studies: Sequence[Study], wanted: Sequence[int], scans: Mapping[int, MaskScan | VolumeError], problems: Problems
) -> dict[int, MaskScan | None]:
    """Sort the outcomes of scanning: a mask, None where it is absent; a volume with a damaged mask is left out."""
    placed: dict[int, MaskScan | None] = {}
    for volume in wanted:
        study, scan = studies[volume], scans.get(volume)
        if scan is None:
            hint = other_names(study.mask) if problems.counts["missing-mask"] < EXAMPLES else ""  # one folder for all
            problems.add("missing-mask", f"no file at {study.mask}{hint}", where=f"{study.volume_id} ({study.where})")
            placed[volume] = None
        elif isinstance(scan, MaskScan):
            placed[volume] = scan
        else:
            problems.add("bad-mask", str(scan), where=study.volume_id)
    return placed


def describe_volume(study: Study, grid: Grid, scan: MaskScan | None, rows: int) -> ReleaseVolume:
    """Build the reader's description of a volume."""
    return ReleaseVolume(
        split=study.split,
        patient=study.patient,
        visit=study.visit,
        side=study.side,
        study=study.study,
        series=study.series,
        volume_id=study.volume_id,
        volume_path=study.volume_path,
        image=study.image,
        mask=study.mask if scan is not None else None,
        shape=grid.shape,
        affine=grid.affine,
        turn=grid.turn,
        rows=rows,
    )
