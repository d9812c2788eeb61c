"""All boxes of a release, decoded at once and brought to their images' arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.boxes import Box, BoxConvention
from reasonknee_datasets.orientation import Reorientation, axis_order
from reasonknee_datasets.release.convention import BoxCheck
from reasonknee_datasets.release.masks import MaskScan
from reasonknee_datasets.release.question_regions import Regions
from reasonknee_datasets.release.record_index import REAL, WHOLE, Survey
from reasonknee_datasets.release.release_volumes import Grid
from reasonknee_datasets.release.report import Problems

_APART = 0.5  # IoU of a box and its region, below which it is not the box of this region
_MOSTLY = 0.5  # share of a question's boxes that agree, below which its label is wrong rather than its boxes


@dataclass(frozen=True, slots=True)
class BoxTable:
    """Every row's box, by volume (in the order of the split files) and question (1 first).

    Parameters
    ----------
    wanted : (volumes, 62) int array
        Which record of its split's file becomes a row; -1 where none does.
    rows : (volumes, 62, 6) int array
        i0 j0 k0 i1 j1 k1 in the image's array.
    verbatim : (volumes, 62) bool array
        Where the six official numbers do not follow from the box and must be kept as written.
    """

    wanted: NDArray[np.int32]
    rows: NDArray[np.int32]
    verbatim: NDArray[np.bool_]


def place_boxes(
    survey: Survey,
    boxes: BoxCheck,
    masks: Mapping[int, MaskScan | None],
    grids: Mapping[int, Grid],
    problems: Problems,
) -> BoxTable:
    """Decode all boxes, refuse those that are invalid or outside, and map the others to their images' arrays.

    Parameters
    ----------
    survey : Survey
        With the official numbers.
    boxes : BoxCheck
        How to read them, in each layout of the array.
    masks : mapping of int to (MaskScan or None)
        Boxes are defined in the mask's array; in the image's without a mask.
    grids : mapping of int to Grid
        The volumes that stay.
    problems : Problems
        Collects what is wrong.
    """
    shapes = _shapes(len(survey.studies), masks, grids)
    stays = np.zeros(len(survey.studies), bool)
    stays[list(grids)] = True
    there = (survey.index >= 0) & ~np.isnan(survey.numbers).any(axis=2) & stays[:, None]
    volumes, questions = np.nonzero(there)
    numbers = survey.numbers[volumes, questions]
    readings = _readings(boxes, masks, grids)
    decoded, sound = np.zeros((len(volumes), 6)), np.zeros(len(volumes), bool)
    for convention in set(readings.values()):
        at = np.isin(volumes, [volume for volume, each in readings.items() if each == convention])
        decoded[at], sound[at] = convention.decode_rows(numbers[at], shapes[volumes[at]])
    limits = np.where(shapes[volumes] > 0, shapes[volumes], np.inf)  # an unknown shape limits nothing
    inside = (decoded[:, :3] >= 0).all(axis=1) & (decoded[:, 3:] <= limits).all(axis=1)
    good = sound & inside
    for place in np.flatnonzero(~good).tolist():
        where = survey.place(volumes[place], questions[place])
        given, shape = numbers[place].tolist(), tuple(shapes[volumes[place]].tolist())
        if sound[place]:
            box = tuple(decoded[place].astype(int).tolist())
            message = f"the box {box} (i0 j0 k0 i1 j1 k1) is outside its volume of shape {shape}"
            problems.add("box-outside", message, where=where)
        else:
            message = f"bounding_box {given} is not a box as {readings[int(volumes[place])]} for shape {shape}"
            problems.add("bad-box", message, where=where)
    table = BoxTable(np.full_like(survey.index, -1), np.zeros((*there.shape, 6), np.int32), np.zeros_like(there))
    places = volumes[good], questions[good]
    table.wanted[places] = survey.index[places]
    table.rows[places] = decoded[good]
    # A record is rebuilt in the convention of the commonest layout: numbers in another one are kept as written.
    table.verbatim[places] = _unlike(
        boxes.convention, decoded[good], numbers[good], shapes[places[0]], survey.writing[places]
    ) | np.isin(places[0], [volume for volume, each in readings.items() if each != boxes.convention])
    for volume, grid in grids.items():
        if not grid.turn.is_identity:
            table.rows[volume] = turn_rows(table.rows[volume], grid.turn, shapes[volume])
    return table


def check_regions(
    survey: Survey, table: BoxTable, boxes: BoxCheck, regions: Regions, grids: Mapping[int, Grid], problems: Problems
) -> None:
    """Compare every box with the region in its mask.

    A wrong box of one row is found here; a question with many wrong boxes has a separate problem.

    Parameters
    ----------
    survey, table, boxes, grids
        As of `place_boxes`.
    regions : Regions
        Regions in the masks' arrays.
    problems : Problems
        Collects what is wrong.
    """
    rows = regions.rows.copy()
    for volume, grid in grids.items():
        if not grid.turn.is_identity:
            rows[volume] = turn_rows(rows[volume], grid.turn, regions.shapes[volume])
    agreeing = [question for question, share in boxes.by_question.items() if share >= _MOSTLY]
    compared = np.zeros_like(regions.there)
    compared[:, [question - 1 for question in agreeing]] = True
    volumes, questions = np.nonzero(regions.there & compared & (table.wanted >= 0))
    found, expected = table.rows[volumes, questions], rows[volumes, questions]
    ious = _ious(found, expected)
    near = np.abs(found - expected).max(axis=1) <= 1  # as the convention is verified
    for place in np.flatnonzero((ious < _APART) & ~near).tolist():
        volume, question = volumes[place], questions[place]
        box, region = table.rows[volume, question].tolist(), rows[volume, question].tolist()
        message = f"the box {box} and the mask's region {region} have an IoU of {ious[place]:.2f}"
        problems.add("box-mask", message, where=survey.place(volume, question))


def _ious(first: NDArray[np.integer], second: NDArray[np.integer]) -> NDArray[np.float64]:
    """Compute the intersection over union of boxes, row by row."""
    start, stop = np.maximum(first[:, :3], second[:, :3]), np.minimum(first[:, 3:], second[:, 3:])
    both = np.clip(stop - start, 0, None).prod(axis=1, dtype=np.float64)
    sizes = ((each[:, 3:] - each[:, :3]).prod(axis=1, dtype=np.float64) for each in (first, second))
    return np.asarray(both / (sum(sizes) - both))


def turn_rows(rows: NDArray[np.int32], turn: Reorientation, shape: NDArray[np.int64]) -> NDArray[np.int32]:
    """Do `Reorientation.apply_box` to many boxes of one volume at once."""
    axes, flips = list(turn.axes), np.array(turn.flips)
    start, stop, lengths = rows[:, :3][:, axes], rows[:, 3:][:, axes], shape[axes]
    return np.hstack([np.where(flips, lengths - stop, start), np.where(flips, lengths - start, stop)]).astype(np.int32)


def _readings(
    boxes: BoxCheck, masks: Mapping[int, MaskScan | None], grids: Mapping[int, Grid]
) -> dict[int, BoxConvention]:
    """Choose the convention of each volume by the layout of the array that its boxes are defined in."""
    readings = {}
    for volume, grid in grids.items():
        scan = masks[volume]
        layout = scan.layout if scan is not None else axis_order(grid.affine) if grid.affine is not None else ""
        readings[volume] = boxes.of_layout(layout)
    return readings


def _shapes(count: int, masks: Mapping[int, MaskScan | None], grids: Mapping[int, Grid]) -> NDArray[np.int64]:
    """Return the shape of the array that each volume's boxes are defined in; 0 where it is not known."""
    shapes = np.zeros((count, 3), np.int64)
    for volume, grid in grids.items():
        scan = masks[volume]
        known = scan.shape if scan is not None else grid.shape
        if known is not None:
            shapes[volume] = known
    return shapes


def _unlike(
    convention: BoxConvention,
    decoded: NDArray[np.float64],
    numbers: NDArray[np.float64],
    shapes: NDArray[np.int64],
    writing: NDArray[np.uint8],
) -> NDArray[np.bool_]:
    """Find the official numbers that are not reproduced when their box is written."""
    if not convention.normalised:
        return np.asarray(writing != WHOLE)  # whole voxels convert exactly; 12.0 is kept as written
    unlike = writing != REAL
    for place in np.flatnonzero(~unlike).tolist():
        box = Box.from_row(decoded[place].astype(int).tolist())
        unlike[place] = convention.encode(box, shapes[place].tolist()) != numbers[place].tolist()
    return np.asarray(unlike)
