"""The readers that the benchmarks set side by side, each as its own documentation would have it used.

Every call begins with nothing but a path, as a row of a table does. Those that can read only a whole file are asked for
a box by slicing what they read.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.volumes import open_volume, set_threads, shared_cache
from tests.benchmarks.knees import Knee, Slices

Voxels = NDArray[Any]


class Reader(Protocol):
    """Something that gives voxels of a file."""

    name: str
    whole_file: bool  # for a box, too, it reads all of the file

    def box(self, path: Path, box: Slices) -> Voxels: ...

    def whole(self, path: Path) -> Voxels: ...


class Ours:
    """This package as a user finds it, with as many threads as are given here."""

    whole_file = False

    def __init__(self, threads: int = 1, *, cache: bool = True) -> None:
        self.name = f"reasonknee_datasets{'' if cache else ', cache=None'}{_threaded(threads)}"
        self.threads = threads
        self._settings: dict[str, Any] = {} if cache else {"cache": None}

    def box(self, path: Path, box: Slices) -> Voxels:
        region: Voxels = open_volume(path, **self._settings).dataobj[box]
        return region

    def whole(self, path: Path) -> Voxels:
        return np.asanyarray(open_volume(path, **self._settings).dataobj)

    def forget(self, path: Path) -> None:
        """Make the file a new one to this package, whose caches know a file by its time of change among others."""
        shared_cache().clear()
        now = time.time_ns()
        os.utime(path, ns=(now, now))

    def prepare(self, warm: Path) -> None:
        """Start the threads, on a file that is not measured."""
        set_threads(self.threads)
        np.asanyarray(open_volume(warm, cache=None).dataobj)


class Nibabel:
    """nibabel, as it is where ``indexed_gzip`` can be imported, or where it cannot."""

    whole_file = False

    def __init__(self, *, indexed: bool = False) -> None:
        self.name = "nibabel with indexed_gzip" if indexed else "nibabel"
        self._indexed = indexed
        self._nibabel = import_module("nibabel")
        if indexed:
            import_module("indexed_gzip")

    def box(self, path: Path, box: Slices) -> Voxels:
        use_indexed_gzip(self._indexed)
        region: Voxels = self._nibabel.load(path).dataobj[box]
        return region

    def whole(self, path: Path) -> Voxels:
        use_indexed_gzip(self._indexed)
        return np.asanyarray(self._nibabel.load(path).dataobj)

    def check(self, path: Path) -> None:
        """See that nibabel inflates as this reader's name says."""
        use_indexed_gzip(self._indexed)
        found, expected = opens_with(path), "IndexedGzipFile" if self._indexed else "DeterministicGzipFile"
        if found != expected:
            raise RuntimeError(f"{self.name} must inflate by {expected}, got {found}: has nibabel moved its flag?")


class DatasetsNifti:
    """A column of type `datasets.Nifti`; it reads through nibabel, here without ``indexed_gzip``."""

    name = "datasets.Nifti"
    whole_file = False

    def __init__(self, paths: Sequence[Path]) -> None:
        datasets = import_module("datasets")
        rows = datasets.Dataset.from_dict({"volume": [str(path) for path in paths]})
        self._rows = rows.cast_column("volume", datasets.Nifti())
        self._numbers = {path: number for number, path in enumerate(paths)}

    def _open(self, path: Path) -> Any:
        use_indexed_gzip(False)
        return self._rows[self._numbers[path]]["volume"].dataobj

    def box(self, path: Path, box: Slices) -> Voxels:
        region: Voxels = self._open(path)[box]
        return region

    def whole(self, path: Path) -> Voxels:
        return np.asanyarray(self._open(path))


class Monai:
    """`monai.transforms.LoadImage`, kept to the stored dtype; it reads through nibabel, here without
    ``indexed_gzip``."""

    name = "MONAI"
    whole_file = True

    def __init__(self) -> None:
        self._load = import_module("monai.transforms").LoadImage(image_only=True, dtype=None)

    def box(self, path: Path, box: Slices) -> Voxels:
        use_indexed_gzip(False)
        return np.asarray(self._load(path)[box])

    def whole(self, path: Path) -> Voxels:
        use_indexed_gzip(False)
        return np.asarray(self._load(path))


class TorchIO:
    """`torchio.ScalarImage`; it reads through SimpleITK."""

    name = "TorchIO"
    whole_file = True

    def __init__(self) -> None:
        self._image = import_module("torchio").ScalarImage

    def box(self, path: Path, box: Slices) -> Voxels:
        return np.asarray(self._image(path).data[0][box])

    def whole(self, path: Path) -> Voxels:
        return np.asarray(self._image(path).data[0])


class SimpleITK:
    """SimpleITK; its arrays have the axes in reverse, which costs nothing to turn."""

    name = "SimpleITK"
    whole_file = True

    def __init__(self) -> None:
        self._sitk = import_module("SimpleITK")
        self._sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)

    def box(self, path: Path, box: Slices) -> Voxels:
        return self.whole(path)[box]

    def whole(self, path: Path) -> Voxels:
        whole: Voxels = self._sitk.GetArrayFromImage(self._sitk.ReadImage(str(path))).T
        return whole


class Blosc2:
    """A volume converted to blosc2 beforehand, with chunks, blocks, codec and level as nnU-Net chooses them.

    The sizes are what nnU-Net 2.6's ``comp_blosc2_params`` gives for an image of 160x384x384, a patch of 60x80x75 and
    two bytes a voxel; it compresses with ZSTD at level 8 and reads mapped files.
    """

    whole_file = False
    chunks, blocks = (80, 128, 64), (16, 32, 16)

    def __init__(self, codec: Literal["zstd", "lz4"] = "zstd", level: int = 8, threads: int = 1) -> None:
        self.name = f"blosc2 {codec.upper()} {level}{_threaded(threads)}"
        self.threads = threads
        self._blosc2 = import_module("blosc2")
        self._suffix = f".{codec}{level}.b2nd"
        self._parameters = {"codec": getattr(self._blosc2.Codec, codec.upper()), "clevel": level, "nthreads": 1}

    def convert(self, path: Path, voxels: Voxels) -> None:
        """Write the file that replaces this one."""
        chunks, blocks = (
            [min(edge, extent) for edge, extent in zip(edges, voxels.shape, strict=True)]
            for edges in (self.chunks, self.blocks)
        )
        converted = self._converted(path)
        Path(converted).unlink(missing_ok=True)
        self._blosc2.asarray(
            np.ascontiguousarray(voxels), urlpath=converted, chunks=chunks, blocks=blocks, cparams=self._parameters
        )

    def open(self, path: Path) -> Any:
        return self._blosc2.open(self._converted(path), mode="r", mmap_mode="r", dparams={"nthreads": self.threads})

    def box(self, path: Path, box: Slices) -> Voxels:
        region: Voxels = self.open(path)[box]
        return region

    def whole(self, path: Path) -> Voxels:
        whole: Voxels = self.open(path)[:]
        return whole

    def _converted(self, path: Path) -> str:
        return str(path) + self._suffix


def find_peers(knees: Sequence[Knee], *, missing_ok: bool = False) -> list[Reader]:
    """Return all peers; one that is not installed is an error, or left out."""
    paths = [path for knee in knees for path in (knee.ordinary, knee.seekable)]
    makers: list[Callable[[], Reader]] = [
        Nibabel,
        lambda: Nibabel(indexed=True),
        lambda: DatasetsNifti(paths),
        Monai,
        TorchIO,
        SimpleITK,
        Blosc2,
    ]
    found = []
    for make in makers:
        try:
            found.append(make())
        except ImportError:
            if not missing_ok:
                raise
    return found


def verify(readers: Sequence[Reader], knees: Sequence[Knee]) -> None:
    """Hold readers to the voxels that were drawn, in value and dtype: a box and the whole of every file."""
    for knee in knees:
        truth, box = knee.truth(), knee.boxes[-1]
        for reader in readers:
            if isinstance(reader, Nibabel):
                reader.check(knee.ordinary)
            for path in (knee.seekable, knee.ordinary):
                if isinstance(reader, Blosc2) and path == knee.ordinary:
                    continue
                for read, expected in ((reader.box(path, box), truth[box]), (reader.whole(path), truth)):
                    message = f"{reader.name} must give the voxels of {path}"
                    np.testing.assert_array_equal(read, expected, err_msg=message, strict=True)


def use_indexed_gzip(use: bool) -> None:
    """Make nibabel behave as where ``indexed_gzip`` can be imported, or where it cannot.

    nibabel asks this flag whenever it opens a file, and once more to choose whether the open file is kept.
    """
    import_module("nibabel._compression").HAVE_INDEXED_GZIP = use


def opens_with(path: Path) -> str:
    """Name the class by which nibabel inflates a file right now."""
    with import_module("nibabel.openers").ImageOpener(str(path)) as opener:
        return type(opener.fobj).__name__


def _threaded(threads: int) -> str:
    return "" if threads == 1 else f", {threads} threads"
