"""Look at a box in any real knee MRI: lazy volume, crop and figure from one NIfTI file.

    python examples/real_mri.py knee.nii.gz --box 100 110 8 180 160 14 --side right --out knee.png
    python examples/real_mri.py knee.nii.gz --mask labels.nii.gz --label 44 --out knee.png

The box is half-open voxels in the array order of the image (i0 j0 k0 i1 j1 k1), or the extent of a mask's label. A mask
may be stored in another order of axes than the image; it is never resampled.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from reasonknee_datasets import Box, open_volume
from reasonknee_datasets.errors import ReasonKneeError, VolumeNotFoundError
from reasonknee_datasets.figures import show
from reasonknee_datasets.orientation import axcodes, between

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Look(NamedTuple):
    """The lazy volume, the crop as a nibabel image with its own affine, and the figure."""

    volume: Any
    box: Box | None
    crop: Any
    figure: Figure


def look(
    path: str | Path,
    *,
    box: Sequence[int] | None = None,
    mask: str | Path | None = None,
    label: int | None = None,
    side: str | None = None,
    out: str | Path | None = None,
) -> Look:
    """Open a volume lazily, find the box, crop it and draw it."""
    volume = open_volume(existing(path))
    found = Box.from_row(box) if box is not None else box_from_mask(volume, mask, label) if mask is not None else None
    if found is not None:
        found.check_inside(volume.shape[:3], where=f"of {path}")
    crop = volume.slicer[found.slices] if found is not None else volume
    example = {"volume": volume, "box": found and found.to_row(), "id": Path(path).name, "side": side}
    return Look(volume, found, crop, show(example, out=out))


def existing(path: str | Path) -> Path:
    """Return the path of a file; raise an error with the nearest name in its folder if there is none."""
    path = Path(path)
    if not path.is_file():
        names = [file.name for file in path.parent.glob("*.nii*")]
        near = get_close_matches(path.name, names, n=1)
        remedy = (
            f"Did you mean {path.parent / near[0]}?" if near else f"{path.parent} holds {names[:5] or 'no .nii file'}."
        )
        raise VolumeNotFoundError(f"There is no file {path}. {remedy}")
    return path


def box_from_mask(volume: Any, mask: str | Path, label: int | None) -> Box:
    """Find a label's extent in the array order of the volume; the mask may be stored in another."""
    labels = open_volume(existing(mask), cache=None)
    turn = between(labels.affine, labels.shape, volume.affine, volume.shape, where=f"for {mask} and its image")
    return turn.apply_box(Box.from_mask(np.asarray(labels.dataobj), label), labels.shape)


def main(argv: Sequence[str] | None = None) -> int:
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.label is not None and arguments.mask is None:
        parser.error("argument --label: needs --mask, the label map that holds it")
    try:
        result = look(
            arguments.path,
            box=arguments.box,
            mask=arguments.mask,
            label=arguments.label,
            side=arguments.side,
            out=arguments.out,
        )
    except ReasonKneeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for line in describe(result, arguments.path):
        print(line)
    print(f"figure   {arguments.out}")
    return 0


def describe(result: Look, path: str | Path) -> list[str]:
    """Describe what was opened and cropped, in lines."""
    volume, box, crop, _ = result
    spacing = np.linalg.norm(volume.affine[:3, :3], axis=0)
    size = Path(path).stat().st_size
    lines = [
        f"volume   {path}: {size:,} bytes",
        f"shape    {volume.shape}, {volume.get_data_dtype()}",
        f"spacing  {' x '.join(f'{mm:.4g}' for mm in spacing)} mm",
        f"axes     {''.join(axcodes(volume.affine))} (the directions in which i, j and k run)",
    ]
    if box is None:
        return [*lines, "box      none given: the slices go through the middle"]
    voxels = np.asarray(crop.dataobj)
    low, middle, high = np.percentile(voxels, (0, 50, 100))
    extent = " x ".join(f"{count * mm:.1f}" for count, mm in zip(box.shape, spacing, strict=True))
    return [
        *lines,
        f"box      {box.to_row()}: {extent} mm",
        f"crop     {voxels.shape}, {box.size / np.prod(volume.shape):.2%} of the volume; "
        f"values {low:g} to {high:g}, median {middle:g}",
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Look at a box in any real knee MRI.",
        epilog=__doc__.split("\n\n", 1)[1],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("path", metavar="PATH", help="a knee MRI: .nii or .nii.gz")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--mask", help="a label map on the image's grid: .nii or .nii.gz")
    names = ("i0", "j0", "k0", "i1", "j1", "k1")
    where.add_argument("--box", type=int, nargs=6, metavar=names, help="half-open voxels in array order")
    parser.add_argument("--label", type=int, help="label of the mask (default: every non-zero voxel)")
    parser.add_argument("--side", choices=("left", "right"), help="side of the knee, to mark medial and lateral")
    parser.add_argument("--out", type=Path, default=Path("real_mri.png"), help="figure to write (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
