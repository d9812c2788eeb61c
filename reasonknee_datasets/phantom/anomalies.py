"""Inject the irregularities of the real release into a study plan."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from reasonknee_datasets.phantom.planned_scan import PlannedVolume, Stream, seed_of, stream
from reasonknee_datasets.phantom.scan_grids import SIZES, ScanGrid, Size, odd_grids, sample_geometry

_NO_RECORDS = 50 / 8020  # official rows without records
_ODD = 0.006  # share of scans off the protocol, besides those that are always there
_ALWAYS_ODD = (0, 1, 2)  # of `odd_grids`: 8 slices, a tenth more slices, a shorter field
# Labels that a failed segmentation leaves out: none of them tells medial from lateral, so sides can still be checked.
_EMPTY_LABELS = ("patellar_tendon", "posterior_cruciate_ligament", "anterior_cruciate_ligament")


def add_oddities(volumes: list[PlannedVolume], size: Size, seed: int) -> list[PlannedVolume]:
    """Inject the irregularities of the real release, mostly into volumes of train, each into a separate volume."""
    rng = stream(seed, Stream.ODDITY)
    order = sorted(rng.permutation(len(volumes)).tolist(), key=lambda place: volumes[place].split != "train")
    empty, split, twice, *odd = order[: 3 + len(_ALWAYS_ODD)]
    grids = odd_grids(size)
    for place in np.flatnonzero(rng.random(len(volumes)) < _ODD).tolist():
        volumes[place] = _regrid(volumes[place], grids[int(rng.integers(len(grids)))], seed)
    for place, grid in zip(odd, _ALWAYS_ODD, strict=True):
        volumes[place] = _regrid(volumes[place], grids[grid], seed)
    label = _EMPTY_LABELS[int(rng.integers(len(_EMPTY_LABELS)))]
    volumes[empty] = replace(volumes[empty], empty_label=label)
    volumes[split] = replace(volumes[split], split_meniscus=True)
    _drop_records(volumes, {empty, split, twice, *odd}, rng)
    return [*volumes, _scan_again(volumes[twice], size, seed)]


def _scan_again(volume: PlannedVolume, size: Size, seed: int) -> PlannedVolume:
    """Plan a second series of one knee at one visit."""
    number, visit, side = volume.key
    return replace(
        volume,
        series=str(int(volume.series) + 3),
        geometry=sample_geometry(stream(seed, Stream.SCAN, number, visit, side, 1), SIZES[size], volume.side),
        scan_seed=seed_of(seed, number, 1 + side, 1 + visit, 2),
    )


def _regrid(volume: PlannedVolume, grid: ScanGrid, seed: int) -> PlannedVolume:
    return replace(volume, geometry=sample_geometry(stream(seed, Stream.SCAN, *volume.key, 2), grid, volume.side))


def _drop_records(volumes: list[PlannedVolume], needed: set[int], rng: np.random.Generator) -> None:
    """Leave some rows of train and test without records, where the split keeps both sides and several visits."""
    order = [place for place in rng.permutation(len(volumes)).tolist() if place not in needed]
    for split in ("train", "test"):
        places = [place for place in order if volumes[place].split == split]
        wanted = max(1, round(_NO_RECORDS * len(places)))
        kept = Counter(key for volume in volumes if volume.split == split for key in _spread(volume))
        for place in places:
            if wanted and all(kept[key] > 1 for key in _spread(volumes[place])):
                kept.subtract(_spread(volumes[place]))
                volumes[place] = replace(volumes[place], has_records=False)
                wanted -= 1


def _spread(volume: PlannedVolume) -> tuple[tuple[str, str], tuple[str, str]]:
    return ("side", volume.side), ("visit", volume.visit)
