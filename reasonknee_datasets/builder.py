"""The builder script: a prepared repository as datasets, streaming or not, with voxels joined at load.

``datasets`` refuses scripts next to the data, and takes builder classes from installed packages. Everything
that decides where the data are and who may read them happens in `ReasonKnee.__init__`, so that a builder works by hand,
from `reasonknee_datasets.load_dataset` and, once registered, from ``datasets.load_dataset``.

``datasets`` replaces ``open``, ``os.path`` and ``pathlib`` in the module of every builder: this one uses none of them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.compute as pc
from datasets.builder import Key
from datasets.exceptions import DatasetGenerationError

from reasonknee_datasets import __version__
from reasonknee_datasets.errors import CacheError, ReasonKneeError, RepositoryError, check_type
from reasonknee_datasets.feature import VolumeFeature
from reasonknee_datasets.manifest import Shard, VolumeRecord
from reasonknee_datasets.safe_paths import is_url, join
from reasonknee_datasets.schema import CONFIGS, mask_path, parse_id
from reasonknee_datasets.sources import (
    EARLIER,
    LATER,
    LAZY,
    MASK,
    NAME,
    VOLUME,
    VOLUME_PATH,
    Selection,
    SplitPart,
    check_mixture,
    check_revision,
    check_visits,
    find_place,
    find_repository,
    find_volumes,
    keep_credentials,
    name_setting,
    pair_schema,
    parse_split,
    read_pairs,
    read_shard,
    resolve_revision,
    select,
    trying_credentials,
)
from reasonknee_datasets.volumes.reference import ExpectedFile, write_reference

_ABOUT = (
    "3DReasonKnee: knee MRI volumes and, for each, diagnostic questions with a 3D box, the clinicians' reasoning steps "
    "and MOAKS severity grades. Boxes are anatomical regions, not lesions. Not for clinical use."
)
_VOLUME_TYPE = VolumeFeature()
_SYNTHETIC = "SYNTHETIC: drawn by the phantom of reasonknee_datasets; no patient, no finding and no grade is real. "


@dataclass
class ReasonKneeConfig(datasets.BuilderConfig):  # type: ignore[misc]  # datasets ships no types
    """Settings of a load for the cache. No credential is ever a field, because fields are written to files.

    Attributes
    ----------
    volumes_dir : str or None
        The place that contains ``volumes/``.
    digest : str
        The manifest's, so that a repository prepared again is not served from the cache of the old one.
    selection : str
        Key of columns and rows.
    """

    volumes_dir: str | None = None
    digest: str = ""
    selection: str = ""

    def create_config_id(self, config_kwargs: dict[str, Any], custom_features: Any = None) -> str:
        """Name the cache folder: the same data, columns and rows from the same places, read by the same version."""
        del config_kwargs, custom_features
        parts = (self.data_dir, self.volumes_dir, self.digest, self.selection, __version__)
        return f"{self.name}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}"


class ReasonKnee(datasets.ArrowBasedBuilder):  # type: ignore[misc]  # datasets ships no types
    """Builds 3DReasonKnee from a prepared repository.

    Parameters are those of `reasonknee_datasets.load_dataset`, and the ones that ``datasets`` passes to every builder.
    """

    BUILDER_CONFIG_CLASS = ReasonKneeConfig
    BUILDER_CONFIGS = [ReasonKneeConfig(name=name) for name in CONFIGS]  # noqa: RUF012 (datasets' own protocol)
    DEFAULT_CONFIG_NAME = "quintuples"

    def __init__(
        self,
        cache_dir: str | None = None,
        *,
        config_name: str | None = None,
        data_dir: str | os.PathLike[str] | None = None,
        volumes_dir: str | os.PathLike[str] | None = None,
        storage_options: Mapping[str, Any] | None = None,
        token: bool | str | None = None,
        filters: Any = None,
        columns: Sequence[str] | None = None,
        masks: bool = False,
        pairs: Sequence[str] | None = None,
        revision: str | None = None,
        split: Any = None,
        data_files: Any = None,
        features: Any = None,
        **kwargs: Any,
    ) -> None:
        if data_files or features is not None:
            raise RepositoryError(
                "data_files= and features= are not supported. Choose with name=, split=, columns= and filters=, and "
                "cast the dataset afterwards."
            )
        check_type("masks", masks, bool, "True or False")
        check_type("token", token, bool | str | None, "a token, True, False or None", is_secret=True)
        check_type("revision", revision, str | None, "a commit, tag, branch or digest, or None")
        for setting, place in (("data_dir", data_dir), ("volumes_dir", volumes_dir)):
            check_type(setting, place, str | os.PathLike | None, "a folder, a URL or None")
        config_name = self.DEFAULT_CONFIG_NAME if config_name is None else config_name
        selection = select(config_name, columns, filters, masks=masks)
        self._pairs = None if pairs is None else check_visits(pairs, config_name)
        root = find_place(data_dir)
        with trying_credentials(root, storage_options, token), _writing_cache(cache_dir):  # where a phantom is kept
            if root is not None and is_url(root):
                root = resolve_revision(root, revision)
            repository = find_repository(root, cache_dir=cache_dir, setting=name_setting(data_dir))
        volumes = find_volumes(volumes_dir, repository.root)
        keep_credentials(volumes, storage_options, token)
        if revision is not None:
            check_revision(repository.manifest, repository.root, revision)
        if volumes != repository.root:
            check_mixture(repository.manifest, repository.root, volumes)
        # Not the manifest itself: a streaming dataset takes its builder along into every worker.
        self._root, self._synthetic = repository.root, repository.manifest.synthetic
        self._volumes_dir, self._volumes, self._masks = volumes, repository.manifest.volumes, repository.manifest.masks
        # Prepared with --volumes none, the sizes are those of the images, which the user may have packed since.
        self._are_placed = (repository.manifest.source.get("options") or {}).get("volumes") != "none"
        if config_name == "volumes" and columns is None and repository.manifest.masks:
            selection = selection.with_mask()
        self._selection = selection
        splits = repository.manifest.splits(config_name)
        if not repository.manifest.has_previews and "preview" in (config_name, *self._selection.columns):
            raise RepositoryError(f"{repository.root} has no previews. Add them: reasonknee previews FOLDER")
        if split is not None and self._is_filtered:  # write no other split to the cache
            wanted = {part.name for each in _listed(split) for part in parse_split(each, splits)}
            splits = tuple(name for name in splits if name in wanted)
        self._shards = {name: repository.manifest.shards(config_name, name) for name in splits}
        if MASK in selection.columns and not self._masks:
            raise RepositoryError(
                f"{repository.root} was prepared without masks and has no column 'mask'. Prepare the release again "
                "with `reasonknee prepare --masks`, or leave out masks=True and the column."
            )
        kwargs["dataset_name"] = NAME
        # The base class would keep credentials in itself, in this module and in every pickle: it gets none.
        with _writing_cache(cache_dir):
            super().__init__(
                cache_dir=cache_dir,
                config_name=config_name,
                data_dir=repository.root,
                volumes_dir=volumes,
                digest=repository.manifest.digest,
                selection=f"{self._selection.key} {self._pairs} {' '.join(splits)}",
                **kwargs,
            )

    @property
    def available(self) -> tuple[str, ...]:
        """The splits of this config."""
        return tuple(self._shards)

    @property
    def _is_filtered(self) -> bool:
        """Whether the number of rows is not known before they are read."""
        return self._selection.expression is not None or self._pairs is not None

    @property
    def _schema(self) -> pa.Schema:
        return self._selection.schema if self._pairs is None else pair_schema(self._selection)

    def check_split(self, split: Any) -> None:
        """Raise on a split that does not exist or cannot be read, before anything is read or written."""
        _map_splits(self._spell, split)

    def example(self, row_id: str) -> dict[str, Any]:
        """Find one row by its id; only the column ``id`` is read until it is found.

        Raises
        ------
        RepositoryError
            If this is not an id, or there is no such row.
        """
        parse_id(row_id)
        rows = pc.field("id") == row_id
        ids, whole = select(self.config.name, ["id"], rows), select(self.config.name, None, rows)
        for shard in (shard for shards in self._shards.values() for shard in shards):
            url = join(self._root, shard.path)
            if any(True for _ in read_shard(url, shard, ids)):
                table = self._join_volumes(next(read_shard(url, shard, whole)), whole)
                example: dict[str, Any] = _volume_features(whole).decode_example(table.to_pylist()[0])
                return example
        raise RepositoryError(
            f"{self._root} has no row {row_id}. Take ids from the `id` column, for example 9016403/00M/right/q19."
        )

    def download_and_prepare(self, output_dir: str | None = None, **kwargs: Any) -> None:
        """Write the chosen rows to the cache of ``datasets``, as its own builders do."""
        if output_dir is None:
            kwargs.pop("storage_options", None)  # they open the data; the cache is a folder on this machine
        with _writing_cache(output_dir or self._cache_dir_root):
            super().download_and_prepare(output_dir, **kwargs)

    def as_dataset(self, split: Any = None, in_memory: bool = False) -> Any:
        """Return prepared rows with lazy volumes; the type set in `_info` alone would be lost on a cached load."""
        if split is None:
            return datasets.DatasetDict({name: self._read(name, in_memory) for name in self.available})
        return _map_splits(lambda one: self._read(one, in_memory), split)

    def as_streaming_dataset(self, split: Any = None, base_path: str | None = None) -> Any:
        """Return streamed rows with lazy volumes; slices work here too, by ``skip`` and ``take``."""
        whole = _with_volumes(super().as_streaming_dataset(base_path=base_path))
        return whole if split is None else _map_splits(lambda one: self._cut(whole, one), split)

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            description=(_SYNTHETIC if self._synthetic else "") + _ABOUT,
            features=datasets.Features.from_arrow_schema(self._schema),
            homepage="https://huggingface.co/datasets/rajpurkarlab/3DReasonKnee",
            license="cc-by-4.0 (annotations); OAI data use terms (images)",
        )

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        del dl_manager  # shards are read where they are, with the credentials of their place
        # A list is what `datasets` distributes over workers and nodes; a tuple it would hand to each of them whole.
        generators = [
            datasets.SplitGenerator(name=split, gen_kwargs={"shards": list(shards)})
            for split, shards in self._shards.items()
        ]
        if not self._is_filtered:
            for generator in generators:  # the end of the progress bar
                generator.split_info.num_examples = sum(shard.rows for shard in self._shards[generator.name])
        return generators

    def _generate_tables(self, shards: list[Shard]) -> Iterator[tuple[Key, pa.Table]]:
        if self._pairs is not None:
            split = next(each for each in self._shards.values() if set(shards) <= set(each))
            pairs = read_pairs(shards, split, self._pairs, self._selection, self._read_rows)
            yield from ((Key(number, index), table) for index, (number, table) in enumerate(pairs))
            return
        for number, shard in enumerate(shards):
            for index, table in enumerate(self._read_rows(shard, self._selection)):
                yield Key(number, index), table

    def _read_rows(self, shard: Shard, selection: Selection) -> Iterator[pa.Table]:
        for table in read_shard(join(self._root, shard.path), shard, selection):
            yield self._join_volumes(table, selection)

    def _join_volumes(self, table: pa.Table, selection: Selection) -> pa.Table:
        """Add the references of volumes and masks; a volume path that the manifest does not list is an error."""
        for column in LAZY:
            if column not in selection.columns:
                continue
            paths = table[VOLUME_PATH].combine_chunks().dictionary_encode()
            listed = paths.dictionary.to_pylist()
            unknown = [path for path in listed if path not in self._volumes]
            if unknown:
                raise RepositoryError(
                    f"The manifest does not list the volume_path {unknown[0]!r} of a shard: they are from different "
                    "repositories. Copy the repository whole, or prepare it again."
                )
            references = [self._refer(column, path) for path in listed]
            table = table.append_column(column, pa.array(references, pa.string()).take(paths.indices))
        return table.select(list(selection.columns))

    def _refer(self, column: str, path: str) -> str | None:
        """Write the reference of a volume, or of the mask on its grid; None where a volume has no mask.

        It has the grid, size and index hash that the file must have.
        """
        volume = self._volumes[path]
        if column == VOLUME:
            expected = _expected(volume) if self._are_placed else None
            return write_reference(join(self._volumes_dir, path), volume.geometry, expected)
        mask = self._masks.get(mask_path(path))
        if mask is None:
            return None
        place = join(self._root, mask_path(path))
        return write_reference(place, volume.geometry or mask.geometry, _expected(mask))

    def _read(self, split: Any, in_memory: bool) -> datasets.Dataset:
        """Return one split, slice or sum; ``datasets`` itself refuses one without rows."""
        text = self._spell(split)
        rows = {name: info.num_examples for name, info in self.info.splits.items()}
        bounds = datasets.ReadInstruction.from_spec(text).to_absolute(rows)
        if any(part.to > part.from_ for part in bounds):
            return _with_volumes(super().as_dataset(text, in_memory=in_memory))
        nothing: dict[str, list[Any]] = {column: [] for column in self._schema.names}
        return _with_volumes(datasets.Dataset.from_dict(nothing, info=self.info.copy(), split=datasets.Split(text)))

    def _spell(self, split: Any) -> str:
        """Write a split as ``datasets`` reads it."""
        return "+".join(part.text for part in parse_split(split, self.available))

    def _cut(self, whole: Mapping[str, datasets.IterableDataset], split: Any) -> datasets.IterableDataset:
        """Return one split, slice or sum of a streaming dataset."""
        parts = [self._cut_part(whole[part.name], part) for part in parse_split(split, self.available)]
        return parts[0] if len(parts) == 1 else datasets.concatenate_datasets(parts)

    def _cut_part(self, dataset: datasets.IterableDataset, part: SplitPart) -> datasets.IterableDataset:
        if part.is_whole:
            return dataset
        if self._is_filtered and not part.counts_from_front:
            raise RepositoryError(
                f"The slice {part.text} of filtered or paired rows cannot be streamed, since their number is not known "
                "before all are read. Count rows from the front, as in train[:100], or load without streaming."
            )
        rows = {part.name: sum(shard.rows for shard in self._shards[part.name])}
        (bounds,) = datasets.ReadInstruction.from_spec(part.text).to_absolute(rows)
        return dataset.skip(bounds.from_).take(max(0, bounds.to - bounds.from_))


def _listed(split: Any) -> Sequence[Any]:
    return split if isinstance(split, list | tuple) else [split]


def _map_splits(function: Callable[[Any], Any], split: Any) -> Any:
    """Apply a function to one split, or to each of a list as ``datasets`` allows."""
    if split is None:
        return None
    return [function(one) for one in split] if isinstance(split, list | tuple) else function(split)


def _expected(record: VolumeRecord) -> ExpectedFile | None:
    return None if record.bytes is None else ExpectedFile(record.bytes, record.index_sha256)


def _volume_features(selection: Selection) -> datasets.Features:
    """Return the features of a selection's rows, volumes and masks typed."""
    features = datasets.Features.from_arrow_schema(selection.schema)
    features.update({name: _VOLUME_TYPE for name in LAZY if name in features})
    return features


def _with_volumes(loaded: Any) -> Any:
    """Set the types of the lazy columns of a dataset, or of a dict or list of datasets."""
    if isinstance(loaded, dict):
        return type(loaded)({split: _with_volumes(dataset) for split, dataset in loaded.items()})
    if isinstance(loaded, list):
        return [_with_volumes(dataset) for dataset in loaded]
    for name in LAZY:
        loaded = loaded.cast_column(name, _VOLUME_TYPE) if name in loaded.column_names else loaded
    for side in (EARLIER, LATER):
        if side in loaded.column_names:
            lazy = {name: _VOLUME_TYPE for name in LAZY if name in loaded.features[side]}
            loaded = loaded.cast_column(side, {**loaded.features[side], **lazy}) if lazy else loaded
    return loaded


@contextmanager
def _writing_cache(place: str | None) -> Iterator[None]:
    """Raise a `CacheError` that names the cache of ``datasets`` where a disk refuses; own errors are unwrapped.

    Code that reads shards and volumes names its own errors: any other OSError is the cache's.
    """
    try:
        yield
    except (DatasetGenerationError, OSError) as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, ReasonKneeError | OSError):
            cause = cause.__cause__ or cause.__context__
        if cause is None or (cause is error and isinstance(error, ReasonKneeError)):
            raise
        if isinstance(cause, ReasonKneeError):
            raise cause from None
        where = cause.filename or place or datasets.config.HF_DATASETS_CACHE
        raise CacheError(
            f"The cache of datasets at {where} cannot be written: {cause.strerror or cause}. Free space or change the "
            "permissions there, or name another folder with cache_dir= or HF_DATASETS_CACHE."
        ) from error
