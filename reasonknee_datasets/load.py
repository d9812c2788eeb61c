"""``load_dataset``: load 3DReasonKnee from a folder, a URL or the Hub."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, overload

import datasets
import datasets.load
import datasets.packaged_modules
from huggingface_hub import HfFileSystem

from reasonknee_datasets import __version__
from reasonknee_datasets.builder import ReasonKnee
from reasonknee_datasets.errors import CacheError, ReasonKneeError, RepositoryError, check_type, nearest
from reasonknee_datasets.manifest import MANIFEST
from reasonknee_datasets.safe_paths import is_url
from reasonknee_datasets.schema import OFFICIAL
from reasonknee_datasets.sources import NAME, find_place
from reasonknee_datasets.volumes.filesystems import store_errors

_HEAD = 1000  # bytes of a manifest in which its name is
# Further arguments of datasets.load_dataset that have a meaning here.
_OPTIONS = ("cache_dir", "download_mode", "verification_mode", "keep_in_memory", "num_proc")
_OWN = (
    *("path", "name", "split", "streaming", "data_dir", "volumes_dir"),
    *("storage_options", "token", "filters", "columns", "masks", "pairs", "revision"),
)


@overload
def load_dataset(
    path: str | os.PathLike[str] = ...,
    name: str | None = ...,
    *,
    split: None = ...,
    streaming: Literal[True],
    **kwargs: Any,
) -> datasets.IterableDatasetDict: ...
@overload
def load_dataset(
    path: str | os.PathLike[str] = ...,
    name: str | None = ...,
    *,
    split: str | datasets.Split | datasets.ReadInstruction,
    streaming: Literal[True],
    **kwargs: Any,
) -> datasets.IterableDataset: ...
@overload
def load_dataset(
    path: str | os.PathLike[str] = ...,
    name: str | None = ...,
    *,
    split: None = ...,
    streaming: Literal[False] = ...,
    **kwargs: Any,
) -> datasets.DatasetDict: ...
@overload
def load_dataset(
    path: str | os.PathLike[str] = ...,
    name: str | None = ...,
    *,
    split: str | datasets.Split | datasets.ReadInstruction,
    streaming: Literal[False] = ...,
    **kwargs: Any,
) -> datasets.Dataset: ...
@overload
def load_dataset(
    path: str | os.PathLike[str] = ...,
    name: str | None = ...,
    *,
    split: Any = ...,
    streaming: bool = ...,
    **kwargs: Any,
) -> Any: ...
def load_dataset(
    path: str | os.PathLike[str] = NAME,
    name: str | None = None,
    *,
    split: Any = None,
    streaming: bool = False,
    data_dir: str | os.PathLike[str] | None = None,
    volumes_dir: str | os.PathLike[str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    token: bool | str | None = None,
    filters: Any = None,
    columns: Sequence[str] | None = None,
    masks: bool = False,
    pairs: Sequence[str] | None = None,
    revision: str | None = None,
    **kwargs: Any,
) -> Any:
    """Load 3DReasonKnee, with the volume of each row as a lazy nibabel image.

    Any other ``path`` goes to ``datasets.load_dataset`` untouched. That function also reads a prepared repository, but
    its rows have no column ``volume``.

    Parameters
    ----------
    path : str or path, optional
        ``"3dreasonknee"``, in upper or lower case, or a prepared repository, which is then `data_dir`: a folder, a URL,
        or ``"owner/name"`` on the Hub.
    name : str, optional
        ``"quintuples"``, the default, one row a question; ``"volumes"``, one row a volume; ``"balanced"``, the official
        balanced selection as ids with their multiplicity; ``"preview"``, one picture a volume, where there are
        previews.
    split : str, Split, ReadInstruction or list of these, optional
        ``train``, ``validation`` (or ``val``), ``test``, a slice (``"train[:10]"``, ``"train[:10%]"``) or a sum
        (``"train+val"``). By default all, as a dict.
    streaming : bool, optional
        Read rows while iterating and write none; also works with a read-only cache. Otherwise rows, but never voxels,
        are written to the cache of ``datasets``.
    data_dir : str or path, optional
        A prepared repository: a folder or any fsspec URL (``https://``, ``s3://``,
        ``hf://datasets/owner/name@revision``). By default ``REASONKNEE_DATA``, else ``./3dreasonknee``, else, where
        neither exists, a small synthetic phantom, made on first use after a warning. ``REASONKNEE_REQUIRE_REAL=1``
        makes synthetic data an error, also where they are named.
    volumes_dir : str or path, optional
        Where voxels are, if not in the repository: the place that contains ``volumes/``. By default
        ``REASONKNEE_VOLUMES``.
    storage_options : mapping, optional
        Options that fsspec needs to open these places. They stay in this process (see Notes).
    token : str or bool, optional
        The Hub's, for ``hf://``.
    filters : list of tuples, or pyarrow Expression, optional
        Which rows, as ``[("question_id", "==", 19), ("side", "==", "left")]`` or
        ``{"question_id": 19, "side": "left"}``, where a list of values means any of them. Row groups that cannot match
        are not read. With a `split`, no other split is written to the cache.
    columns : list of str, optional
        Which columns. Without ``volume_path`` or ``volume`` an example has no volume. ``preview`` is read only where it
        is named here.
    masks : bool, optional
        Add the column ``mask``, as naming it in `columns` does: a lazy label map on the grid of the volume, None where
        a volume has no mask. Transforms crop and turn it with the volume, without interpolation, and a batch has it as
        ``segmentation``. The manifest names the labels (``Manifest.load(data_dir).labels``). ``name="volumes"`` has the
        column wherever the repository has masks.
    pairs : two of str, optional
        Two visits, such as ``("00M", "24M")``: one row for each knee and question that has rows at both, with the keys
        ``id``, ``earlier`` and ``later``. The latter two are whole rows (of `columns`) with their own volume, box and
        grades, to which transforms apply: ``crop(pair["later"])``. `filters` must hold for both. The rows of the later
        visit are kept in memory while pairs are read (about 230 MB for all columns of train).
    revision : str, optional
        The revision that must be loaded. On the Hub: a commit, tag or branch; volumes and cached rows are those of its
        commit. Elsewhere: the revision of the official release or the manifest's digest (`reasonknee info` prints
        both), and a repository of another one is an error.
    **kwargs
        ``cache_dir``, ``download_mode``, ``verification_mode``, ``keep_in_memory`` and ``num_proc``, as for
        ``datasets.load_dataset``.

    Returns
    -------
    Dataset, DatasetDict, IterableDataset or IterableDatasetDict

    Raises
    ------
    RepositoryError
        If a name is misspelt, or the place has no sound prepared repository.

    Warns
    -----
    SyntheticDataWarning
        If the synthetic data are used instead.
    WithdrawnDataWarning
        If the revision, or a row in it, was withdrawn; the package ships the list.

    Notes
    -----
    *Volumes.* Iterating opens no volume file. ``example["volume"]`` reads its header, affine and voxels when they are
    touched; a row whose file is absent loads and filters, and says on touch which file is missing. In a notebook, an
    example at the end of a cell shows three planes through its box with question, reasoning and grades, and a volume
    its three middle slices.

    *Formats.* ``with_format("numpy")`` and ``"torch"`` read every volume whole, and cast as ``datasets`` does: integers
    to int64, floats to float32. Remove the column, or crop in ``with_transform``, where that is not wanted.

    *Writing.* In Arrow a volume is a string, its place, and ``datasets`` writes no more of it: not by ``save_to_disk``,
    ``to_parquet`` or ``push_to_hub``, and not by ``map``, where it embeds every other nibabel image that a function
    returns or looks at, 47 MB a row. So ``ds.map(lambda example: {**example, "n": 1})`` is safe, and so is looking:
    ``ds.map(lambda example: {"spacing": example["volume"].header.get_zooms()})``. Three things to know. A volume under
    another name (``{"mri": example["volume"]}``) is written as bytes that give its place; name the column ``volume``.
    Values that a function computes from a volume, such as arrays and ``slicer`` crops, are written. And a function
    that looks at the volumes of *some* rows of a batch has to do so in a copy, ``copy.copy(example)["volume"]``, or
    ``datasets`` finds two types in one column. Before publishing, ``remove_columns("volume")``: places are this
    machine's, and the type does not load without this package.

    *Credentials* are kept by URL in this process and its forks, and never enter a feature, a file, a fingerprint or a
    pickle. A process that is *spawned* has to call `reasonknee_datasets.volumes.set_credentials` itself, for example in
    ``worker_init_fn``, or find them where its store looks for them (``AWS_ACCESS_KEY_ID``, ``HF_TOKEN``).

    Examples
    --------
    >>> rows = load_dataset("3dreasonknee", split="train", streaming=True)  # doctest: +SKIP
    >>> next(iter(rows))["id"]  # doctest: +SKIP
    '9016403/00M/right/q01'
    """
    check_type("path", path, str | os.PathLike, f"{NAME!r}, or the folder or URL of a prepared repository")
    check_type("streaming", streaming, bool, "True or False")
    path = os.fspath(path)
    if not path:
        raise RepositoryError(f"The first argument is empty. Write {NAME!r}, or the folder or URL of a repository.")
    if (place := _find_repository(path, token, revision)) is not None:
        if data_dir is not None:
            raise RepositoryError(f"Both the first argument, {path!r}, and data_dir name a repository. Name it once.")
        data_dir = place
    elif path.lower() != NAME:
        typed = path.strip("/ ").lower()  # owner/name is a repository of the Hub
        if "/" not in typed and not Path(path).exists() and get_close_matches(typed, [NAME], cutoff=0.85):
            raise RepositoryError(f"Unknown dataset {path!r}. Did you mean {NAME!r}?")  # not after a minute of the Hub
        if typed == OFFICIAL.lower() and not Path(path).exists():
            raise RepositoryError(
                f"{path} is the official release, which must be prepared first. Run: reasonknee download --out DIR, "
                f"then reasonknee prepare --release DIR --out {NAME} (--images or --volumes none), and load {NAME!r}. "
                "datasets.load_dataset reads its files as they are."
            )
        given = {
            "data_dir": data_dir,
            "volumes_dir": volumes_dir,
            "storage_options": storage_options,
            "token": token,
            "filters": filters,
            "columns": columns,
            "masks": masks or None,
            "pairs": pairs,
            "revision": revision,
        }
        kwargs.update({key: value for key, value in given.items() if value is not None})
        return datasets.load_dataset(path, name, split=split, streaming=streaming, **kwargs)
    for option in kwargs:
        if option not in _OPTIONS:
            raise TypeError(f"load_dataset has no argument {option!r}. {nearest(option, [*_OWN, *_OPTIONS])}.")
    make = partial(
        ReasonKnee,
        config_name=name,
        data_dir=data_dir,
        volumes_dir=volumes_dir,
        storage_options=storage_options,
        token=token,
        filters=filters,
        columns=columns,
        masks=masks,
        pairs=pairs,
        revision=revision,
        split=split,
    )
    try:
        builder = make(kwargs.pop("cache_dir", None))
    except CacheError:
        if not streaming or find_place(data_dir) is None:  # a phantom has to be kept somewhere
            raise
        builder = _lock_elsewhere(make)
    builder.check_split(split)
    if "IPython" in sys.modules:
        from reasonknee_datasets.figures import register_notebook_display

        register_notebook_display()
    if streaming:
        return builder.as_streaming_dataset(split=split)
    in_memory = bool(kwargs.pop("keep_in_memory", None))
    builder.download_and_prepare(**kwargs)
    return builder.as_dataset(split=split, in_memory=in_memory)


def _find_repository(path: str, token: bool | str | None, revision: str | None) -> str | None:
    """Return the place that the first argument names if it is a URL, or a repository in a folder or on the Hub."""
    if path == NAME:
        return None
    if is_url(path):
        return path
    folder = Path(path).expanduser()
    if (folder / MANIFEST).is_file():
        with (folder / MANIFEST).open("rb") as file:
            if _is_manifest(file.read(_HEAD)):
                return path
    is_path = path.startswith((".", "/", "~")) or os.path.lexists(folder)
    if not is_path and re.fullmatch(r"[\w.-]+/[\w.-]+", path) and path.lower() != OFFICIAL.lower():
        return _find_on_hub(path, token, revision)
    return path if is_path and folder.name.lower() == NAME else None


def _find_on_hub(name: str, token: bool | str | None, revision: str | None) -> str | None:
    """Return the URL of a dataset on the Hub if it is a prepared repository; None also where the Hub does not answer.

    It costs one request for any other dataset.
    """
    url = f"hf://datasets/{name}"
    try:
        hub = HfFileSystem(token=token, skip_instance_cache=True)  # a cached one would keep the token
        found = hub.cat_file(f"{url}/{MANIFEST}", revision=revision, end=_HEAD)
    except store_errors():  # `datasets` raises its own error
        return None
    return url if _is_manifest(found) else None


def _is_manifest(head: bytes) -> bool:
    """Check the first bytes of a file: other programs write files of the same name."""
    return f'"{NAME}"'.encode() in head


def find_example(data_dir: str | os.PathLike[str], row_id: str, **kwargs: Any) -> dict[str, Any]:
    """Find one row of a prepared repository by its id, without reading the others.

    Parameters
    ----------
    data_dir : str or path
        A folder or fsspec URL.
    row_id : str
        For example ``9016403/00M/right/q19``.
    **kwargs
        ``volumes_dir``, ``storage_options`` and ``token``, as for `load_dataset`.

    Raises
    ------
    RepositoryError
        If there is no such row.
    """
    make = partial(ReasonKnee, data_dir=data_dir, **kwargs)
    try:
        builder = make()
    except CacheError:
        builder = _lock_elsewhere(make)
    return builder.example(row_id)


def _lock_elsewhere(make: Callable[..., ReasonKnee]) -> ReasonKnee:
    """Make a builder for a read-only cache, without the lock that ``datasets`` takes."""
    with TemporaryDirectory(prefix="reasonknee-") as folder:
        return make(folder)


def register() -> None:
    """Register the builder, so that ``datasets.load_dataset("3dreasonknee")`` finds it in this process.

    This enters the name in the table of the modules that ``datasets`` brings along. The table is private to
    ``datasets``, and so is the class that looks in it, which has to be replaced too: it would glob the current folder,
    or take a URL for a local path, before it ever reached the builder. A later ``datasets`` may move either; then this
    raises, and `load_dataset` of this package still works. Calling it again changes nothing.

    Raises
    ------
    ReasonKneeError
        If this version of ``datasets`` has no such table.

    Examples
    --------
    >>> register()
    >>> "3dreasonknee" in datasets.packaged_modules._PACKAGED_DATASETS_MODULES
    True
    """
    table = getattr(datasets.packaged_modules, "_PACKAGED_DATASETS_MODULES", None)
    stock = getattr(datasets.load, "PackagedDatasetModuleFactory", None)
    if not isinstance(table, dict) or not isinstance(stock, type):
        raise ReasonKneeError(
            f"datasets {datasets.__version__} has no private table of modules in which register() could enter this "
            "dataset. Call reasonknee_datasets.load_dataset, which needs no registration."
        )
    if NAME in table:
        return
    entry = table[NAME] = (ReasonKnee.__module__, __version__)

    class _ModuleFactory(stock):  # type: ignore[misc, valid-type]  # datasets ships no types
        def __init__(self, name: str, *args: Any, **kwargs: Any) -> None:
            self.is_ours = name == NAME
            if not self.is_ours:
                super().__init__(name, *args, **kwargs)

        def get_module(self) -> Any:
            if not self.is_ours:
                return super().get_module()
            # Empty data files, since `datasets` insists on some; where the data are is the builder's to find.
            given = {"data_files": datasets.data_files.DataFilesDict(), "dataset_name": NAME}
            return datasets.load.DatasetModule(*entry, given)

    datasets.load.PackagedDatasetModuleFactory = _ModuleFactory
