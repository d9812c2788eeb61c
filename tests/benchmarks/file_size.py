"""Size of seekable files against ordinary ``.nii.gz`` files of the same compression level."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

from reasonknee_datasets.volumes import pack
from tests.benchmarks.knees import Knee
from tests.benchmarks.tables import Table

_LEVELS = (1, 6, 9)
_MOST = "+3.5 %"


def measure(knees: Sequence[Knee], folder: Path) -> Table:
    """Pack each knee at several levels of zlib."""
    columns = ("array order", "zlib level", "ordinary, bytes", "seekable, bytes", "difference", "at most", "slabs")
    table = Table("Size of a seekable file", columns, "gzip of the same level makes the ordinary file.")
    for knee in knees:
        plain = knee.plain.read_bytes()
        for level in _LEVELS:
            ordinary = len(gzip.compress(plain, level))
            report = pack(knee.plain, folder / "size.nii.gz", level=level)
            shape = "x".join(map(str, knee.truth().shape))
            slabs = f"{report.slabs:,} of {report.slab_bytes:,} bytes"
            change = percent(report.bytes_after, ordinary)
            table.add(shape, level, f"{ordinary:,}", f"{report.bytes_after:,}", change, _MOST, slabs)
    return table


def percent(size: int, ordinary: int) -> str:
    """Return how much larger a file is than the ordinary one.

    Examples
    --------
    >>> percent(1034, 1000)
    '+3.40 %'
    """
    return f"{100 * size / ordinary - 100:+.2f} %"
