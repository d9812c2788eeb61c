"""Mutated volume files: never a crash, a hang, memory beyond the bound, or a wrong voxel without an error.

The suite runs 500 (tests/volumes/test_fuzz.py); a developer runs more:
``python -m tests.helpers.fuzz_volumes --count 20000``.
Each file is read for its header, a region and the whole array. What comes out must be the voxels that Python's own gzip
and nibabel's header reader find in the same bytes, or those of the file before it was mutated (a region read looks at
no more than it needs), or a `VolumeError` that names the file.
"""

from __future__ import annotations

import argparse
import collections
import gzip
import io
import logging
import resource
import signal
import struct
import sys
import tempfile
import traceback
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from reasonknee_datasets.errors import VolumeError
from reasonknee_datasets.volumes import DecodeCache, open_volume, pack
from reasonknee_datasets.volumes.header import index_bytes
from tests.helpers.volumes_files import as_version_1, knee, nifti_bytes, save

MEMORY_BYTES = 1_000_000_000
GROWTH_BYTES = 150_000_000
SECONDS = 10
REGION = np.s_[2:9, ::-1, 3:11]


@dataclass(frozen=True)
class Seed:
    """A sound file and what is in it."""

    name: str
    data: bytes
    array: np.ndarray


def seeds(folder: Path) -> list[Seed]:
    """Make sound files of every kind: seekable (both versions), ordinary, several members, raw, NIfTI-2."""
    made = []
    for number, (dtype, kind, fields) in enumerate(
        (
            ("<i2", nib.Nifti1Image, {}),
            (">u4", nib.Nifti1Image, {"extension": b"a comment " * 30, "slope": 2.0, "inter": 1.0}),
            ("<f4", nib.Nifti2Image, {}),
        )
    ):
        array = knee((12, 13, 14), dtype, seed=number)
        array[:, :4] = 0
        raw = nifti_bytes(array, kind=kind, **fields)
        plain = save(folder / "plain.nii", array, kind=kind, **fields)
        pack(plain, folder / "planes.nii.gz", planes=3)
        pack(plain, folder / "packed.nii.gz", planes=0.3)
        members = b"".join(gzip.compress(raw[start : start + 2000], 1) for start in range(0, len(raw), 2000))
        for name, data in (
            ("packed.nii.gz", (folder / "packed.nii.gz").read_bytes()),
            ("version1.nii.gz", as_version_1((folder / "planes.nii.gz").read_bytes())),
            ("ordinary.nii.gz", gzip.compress(raw, 6)),
            ("members.nii.gz", members),
            ("raw.nii", raw),
        ):
            made.append(Seed(f"{number}-{name}", data, array))
    return made


def flip(data: bytearray, rng: np.random.Generator, _: Any) -> None:
    for _times in range(int(rng.integers(1, 5))):
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))


def flip_early(data: bytearray, rng: np.random.Generator, _: Any) -> None:
    data[int(rng.integers(min(len(data), 420)))] ^= 1 << int(rng.integers(8))


def cut(data: bytearray, rng: np.random.Generator, _: Any) -> None:
    del data[int(rng.integers(len(data))) :]


def cut_out(data: bytearray, rng: np.random.Generator, _: Any) -> None:
    start = int(rng.integers(len(data)))
    del data[start : start + int(rng.integers(1, 300))]


def splice(data: bytearray, rng: np.random.Generator, others: list[Seed]) -> None:
    other = others[int(rng.integers(len(others)))].data
    start, length = int(rng.integers(len(other))), int(rng.integers(1, 2000))
    place = int(rng.integers(len(data)))
    data[place : place + int(rng.integers(0, 2)) * length] = other[start : start + length]


def append(data: bytearray, rng: np.random.Generator, others: list[Seed]) -> None:
    data += [b"\0" * 50, rng.bytes(50), others[int(rng.integers(len(others)))].data][int(rng.integers(3))]


def overwrite(data: bytearray, rng: np.random.Generator, _: Any) -> None:
    start, length = int(rng.integers(len(data))), int(rng.integers(1, 64))
    data[start : start + length] = [b"\0", b"\xff"][int(rng.integers(2))] * len(data[start : start + length])


FIELDS = (
    (40, "h", 8),
    (70, "h", 2),
    (108, "f", 3),
    (76, "f", 8),
    (252, "h", 2),
    (0, "i", 1),
    (344, "i", 1),
    (348, "i", 2),
)
EXTREMES = (0, 1, -1, 2, 3, 7, 8, 255, 1024, 32767, -32768, 2**31 - 1, -(2**31))
ODD = (float("nan"), float("inf"), -0.0, 1e38, 351.0, 352.0, 353.0, 368.0, 1e9, -352.0)


def alter_header(data: bytearray, rng: np.random.Generator, _: Any) -> None:
    """Change NIfTI header fields under a checksum that is right."""
    zipped = data[:2] == b"\x1f\x8b"
    plain = bytearray(gzip.decompress(bytes(data)) if zipped else data)
    for _times in range(int(rng.integers(1, 3))):
        offset, code, count = FIELDS[int(rng.integers(len(FIELDS)))]
        place = offset + struct.calcsize(code) * int(rng.integers(count))
        value: Any = ODD[int(rng.integers(len(ODD)))] if code == "f" else EXTREMES[int(rng.integers(len(EXTREMES)))]
        if code == "h":
            value = max(-32768, min(32767, value))
        struct.pack_into("<>"[int(rng.integers(8)) == 0] + code, plain, place, value)
    data[:] = gzip.compress(bytes(plain), 1) if zipped else plain


def alter_index(data: bytearray, rng: np.random.Generator, others: list[Seed]) -> None:
    """Change the slab index under a checksum that is right."""
    size = index_bytes(bytes(data[:12]))
    if size < 60:
        flip(data, rng, others)
        return
    payload = data[16 : size - 4]
    for _times in range(int(rng.integers(1, 4))):
        width = (2, 4, 8)[int(rng.integers(3))]
        place = int(rng.integers(len(payload) - width))
        value = int(rng.integers(0, 1 << min(8 * width, 62)))
        if rng.integers(2):
            value = int.from_bytes(payload[place : place + width], "little") + int(rng.integers(-8, 9))
        payload[place : place + width] = (value % (1 << 8 * width)).to_bytes(width, "little")
    data[16:size] = payload + zlib.crc32(payload).to_bytes(4, "little")


def swap_segments(data: bytearray, rng: np.random.Generator, others: list[Seed]) -> None:
    """Exchange two runs of bytes of equal length, as a broken transfer does."""
    if len(data) < 3000:
        flip(data, rng, others)
        return
    length = int(rng.integers(1, 500))
    first, second = (int(place) for place in rng.integers(0, len(data) - length, 2))
    data[first : first + length], data[second : second + length] = (
        data[second : second + length],
        data[first : first + length],
    )


MUTATIONS: tuple[Callable[[bytearray, np.random.Generator, Any], None], ...] = (
    flip, flip_early, cut, cut_out, splice, append, overwrite, alter_header, alter_index, swap_segments,
)  # fmt: skip


def expected(data: bytes) -> np.ndarray | None:
    """Read the voxels as plainly as can be; None where that fails."""
    try:
        plain = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        kind = nib.Nifti1Image if nib.Nifti1Header.may_contain_header(plain) else nib.Nifti2Image
        header = kind.header_class.from_fileobj(io.BytesIO(plain))
        shape, dtype, offset = header.get_data_shape(), header.get_data_dtype(), header.get_data_offset()
        count = int(np.prod(shape, dtype=object)) if len(shape) else 0
        if any(extent < 0 for extent in shape) or count > len(plain):
            return None
        return np.frombuffer(plain, dtype, count, offset).reshape(shape, order="F")
    except Exception:  # noqa: BLE001 (whatever is wrong, there is nothing to compare with)
        return None


def check(seed: Seed, data: bytes, path: Path) -> str:
    """Read a mutated file in every way and say what became of it; raise where that is wrong."""
    path.write_bytes(data)
    told, cache = [], DecodeCache(2_000_000)
    truth = expected(data)
    for what in ("region", "whole", "region again"):
        try:
            # "again" comes out of the cache, and may not bring back what the file no longer holds
            proxy = open_volume(path, cache=None if what == "region" else cache).dataobj
            found = proxy.get_unscaled() if what == "whole" else proxy._get_unscaled(REGION[: len(proxy.shape)])
        except VolumeError as error:
            if path.name not in str(error):
                raise AssertionError(f"the error does not name the file: {error}") from error
            told.append("error")
            continue
        except (IndexError, ValueError):  # a sound file of another shape than the region expects
            if truth is None or (truth.ndim >= 3 and truth.size):
                raise
            told.append("other shape")
            continue
        options = [array for array in (truth, seed.array) if array is not None]
        if what != "whole":
            options = [array[REGION[: array.ndim]] for array in options]
        assert found.size == 0 or any(equal(found, array) for array in options), f"{what}: wrong voxels"
        told.append("right")
    return " ".join(told)


def equal(first: np.ndarray, second: np.ndarray) -> bool:
    return first.dtype == second.dtype and first.shape == second.shape and first.tobytes() == second.tobytes()


def fuzz(count: int, seed: int, keep: Path | None = None) -> dict[str, int]:
    """Mutate and read `count` files; raise at the first that is read wrongly, after keeping it for a closer look."""
    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")
    rng, outcomes = np.random.default_rng(seed), collections.Counter[str]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sound = seeds(folder)
        for number in range(count):
            chosen = sound[int(rng.integers(len(sound)))]
            mutate = MUTATIONS[int(rng.integers(len(MUTATIONS)))]
            data = bytearray(chosen.data)
            mutate(data, rng, sound)
            path = folder / f"{number}-{chosen.name}"
            signal.alarm(SECONDS)
            try:
                outcomes[f"{mutate.__name__}: {check(chosen, bytes(data), path)}"] += 1
            except BaseException as error:
                kept = (keep or Path(tempfile.gettempdir())) / f"fuzz-{seed}-{number}-{mutate.__name__}-{chosen.name}"
                kept.write_bytes(data)
                raise AssertionError(f"{kept} ({mutate.__name__}): {error!r}\n{traceback.format_exc()}") from error
            finally:
                signal.alarm(0)
            path.unlink()
    return dict(outcomes)


def _hang(*_: Any) -> None:
    raise TimeoutError(f"no answer in {SECONDS} s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="where a file that is read wrongly is kept")
    given = parser.parse_args()
    signal.signal(signal.SIGALRM, _hang)
    fuzz(50, given.seed + 1)  # what is imported and allocated once does not count
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, used + MEMORY_BYTES))
    outcomes = fuzz(given.count, given.seed, given.keep)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    for name, times in sorted(outcomes.items()):
        print(f"{times:7d} {name}")
    print(f"{sum(outcomes.values())} files, peak memory grew by {grown / 1e6:.0f} MB")
    assert grown < GROWTH_BYTES, "memory beyond the bound"
    return 0


if __name__ == "__main__":
    sys.exit(main())
