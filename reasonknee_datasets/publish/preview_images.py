"""Previews of quintuples and montages of volumes, as WebP files in memory.

The same voxels, row and version of Pillow always give the same bytes. Slices are in radiological display, as in
`reasonknee_datasets.figures`.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.boxes import Box
from reasonknee_datasets.errors import missing_extra
from reasonknee_datasets.figures.planes import Panel, Plane, choose_plane, cut_planes, grey_window

try:
    from PIL import Image, ImageDraw, ImageFont, features
except ModuleNotFoundError as error:
    raise missing_extra("PIL", "figures", "previews") from error

_SIDE, _QUALITY = 320, 80  # pixels of the longer side, WebP quality: 8 kB for a sagittal slice of real MRI
_METHOD = 2  # of 0 (fast) to 6 (small): a third of the time of 4, for 4 % more bytes
_BOX, _INK = (255, 210, 0), (255, 120, 120)
_COLUMNS, _ROWS, _TILE = 4, 3, 160  # of a montage: slices across and down, pixels of a slice's longer side


class PreviewArtist:
    """Draws the previews of one volume, which it decodes once.

    `voxels` (i, j, k) array: all voxels of the volume. `affine` (4, 4) float array: voxel centre to world (RAS+, mm).
    `synthetic`: whether every picture is labelled SYNTHETIC.
    """

    def __init__(self, voxels: NDArray[Any], affine: NDArray[np.float64], *, synthetic: bool) -> None:
        # The attributes of a nibabel image that cut_planes reads; a Nifti1Image takes no int64.
        self._image = SimpleNamespace(shape=voxels.shape, affine=affine, dataobj=voxels)
        self._synthetic = synthetic
        self._drawn: dict[tuple[Plane, Box], bytes] = {}
        self._window = grey_window(cut_planes(self._image).values())

    def draw_row(self, row: Mapping[str, Any]) -> bytes:
        """Draw the slice through the centre of a row's box, in the plane that its question is read in, with the box.

        Raises BoxError if the box reaches out of the volume.
        """
        box = Box.from_row(row["box"])
        key = choose_plane(row["finding"], row["subregion"], row["question"]), box
        if key not in self._drawn:  # several questions look at one region
            self._drawn[key] = self._draw_box(*key)
        return self._drawn[key]

    def _draw_box(self, plane: Plane, box: Box) -> bytes:
        panel = cut_planes(self._image, box)[plane]
        picture = self._draw(panel, _SIDE).convert("RGB")
        assert panel.outline is not None
        height, width = panel.size
        scales = picture.width / width, picture.height / height, picture.width / width, picture.height / height
        left, top, right, bottom = (round(mm * scale) for mm, scale in zip(panel.outline, scales, strict=True))
        # Two pixels wide and outside the box: WebP halves the resolution of colours, and the inside stays visible.
        ImageDraw.Draw(picture).rectangle((left - 2, top - 2, right + 1, bottom + 1), outline=_BOX, width=2)
        return self._encode(picture)

    def draw_montage(self) -> bytes:
        """Draw sagittal slices that divide the volume evenly, from the patient's right to the left."""
        sheet = Image.new("RGB", (_COLUMNS * _TILE, _ROWS * _TILE))
        first = cut_planes(self._image)["sagittal"]
        axis, _, count = first.cut
        leftwards = bool(self._image.affine[0, axis] < 0)
        for number in range(_COLUMNS * _ROWS):
            at, place = [0, 0, 0], (2 * number + 1) * count // (2 * _COLUMNS * _ROWS)
            at[axis] = place if leftwards else count - 1 - place
            panel = cut_planes(self._image, Box(at, [low + 1 for low in at]))["sagittal"]
            tile = self._draw(panel, _TILE)
            row, column = divmod(number, _COLUMNS)
            corner = column * _TILE + (_TILE - tile.width) // 2, row * _TILE + (_TILE - tile.height) // 2
            sheet.paste(tile, corner)
        return self._encode(sheet)

    def _draw(self, panel: Panel, side: int) -> Image.Image:
        """Window one slice and scale it to square pixels."""
        low, high = self._window
        pixels = (panel.image.astype(np.float32) - low) * np.float32(255 / (high - low))
        picture = Image.fromarray(np.nan_to_num(pixels).clip(0, 255).astype(np.uint8))
        height, width = panel.size
        scale = side / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        return picture.resize(size, Image.Resampling.BILINEAR)

    def _encode(self, picture: Image.Image) -> bytes:
        if self._synthetic:
            font = ImageFont.load_default_imagefont()  # a bitmap: no font engine has a say in the bytes
            ImageDraw.Draw(picture).text((4, 2), "SYNTHETIC", fill=_INK, font=font)
        buffer = io.BytesIO()
        picture.save(buffer, "WEBP", quality=_QUALITY, method=_METHOD)
        return buffer.getvalue()


def encoder_versions() -> dict[str, str]:
    """Return the versions on which the bytes of previews depend, for the manifest."""
    from PIL import __version__

    return {"pillow": __version__, "webp": str(features.version("webp"))}
