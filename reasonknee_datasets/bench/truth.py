"""The true answers of a split, read from a prepared repository: its annotations only, never an image."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from reasonknee_datasets import __version__
from reasonknee_datasets.bench.annotations import COLUMNS, to_truth
from reasonknee_datasets.bench.arrays import Truth
from reasonknee_datasets.bench.run_metadata import RunMetadata
from reasonknee_datasets.errors import BenchError, RepositoryNotFoundError
from reasonknee_datasets.manifest import Manifest
from reasonknee_datasets.sources import (
    Repository,
    find_place,
    find_repository,
    keep_credentials,
    name_setting,
    parse_split,
    read_shard,
    select,
)

Data = str | os.PathLike[str] | Repository


def open_data(
    data: Data | None = None,
    *,
    storage_options: Mapping[str, Any] | None = None,
    token: bool | str | None = None,
) -> Repository:
    """Open the prepared repository that is scored against; the phantom never replaces missing data.

    Parameters
    ----------
    data : str, path or Repository, optional
        A folder or fsspec URL; by default REASONKNEE_DATA, then ``./3dreasonknee``.
    storage_options, token
        As for `reasonknee_datasets.load_dataset`.

    Raises
    ------
    RepositoryNotFoundError
        If nothing says where the data are, or they are not there.
    RepositoryError
        If what is there cannot be read, or is synthetic while REASONKNEE_REQUIRE_REAL is set.
    """
    if isinstance(data, Repository):
        return data
    root = find_place(data)
    if root is None:
        raise RepositoryNotFoundError(
            "No data to score against: neither data_dir nor REASONKNEE_DATA is set, and there is no ./3dreasonknee. "
            "Name a prepared repository with data_dir= (--data) or REASONKNEE_DATA."
        )
    keep_credentials(root, storage_options, token)
    return find_repository(root, setting=name_setting(data))


def read_truth(
    data: Data | None = None,
    split: str = "test",
    *,
    patients: int | None = None,
    seed: int = 0,
    filters: Any = None,
    storage_options: Mapping[str, Any] | None = None,
    token: bool | str | None = None,
) -> Truth:
    """Read the true answers of one split.

    Parameters
    ----------
    data : str, path or Repository, optional
        The prepared repository, as for `open_data`.
    split : str
        ``train``, ``validation`` (or ``val``) or ``test``; a whole one.
    patients : int, optional
        Only so many patients, with all their records, drawn with ``seed``; a larger sample holds the smaller ones.
    seed : int
        Of that sample.
    filters : Expression or list of tuples, optional
        On stored columns, as for `reasonknee_datasets.load_dataset`: ``[("question_id", "==", 34)]``.
    storage_options, token
        As for `reasonknee_datasets.load_dataset`.

    Returns
    -------
    Truth
        In the repository's order.

    Raises
    ------
    BenchError
        If nothing is left to score, or there are fewer patients than asked for.
    RepositoryError
        If the repository cannot be read, or its rows break the schema's rules.
    """
    repository = open_data(data, storage_options=storage_options, token=token)
    name = _one_split(split, repository.manifest)
    selection = select("quintuples", COLUMNS, filters)
    parts: list[pa.Table] = []
    for shard in repository.manifest.shards("quintuples", name):
        parts += read_shard(repository.url(shard.path), shard, selection)
    table = pa.concat_tables(parts) if parts else None
    if table is None or not table.num_rows:
        raise BenchError(
            f"Split {name!r} of {repository.root} holds no records to score. Choose another split, or other filters."
        )
    truth = to_truth(table, repository.manifest)
    return truth if patients is None else sample_patients(truth, patients, seed)


def read_references(data: Repository, split: str, truth: Truth) -> dict[str, tuple[str, ...]]:
    """Read the steps of the true reasoning of some records.

    Parameters
    ----------
    data : Repository
        As returned by `open_data`.
    split : str
        As given to `read_truth`.
    truth : Truth
        The records.

    Returns
    -------
    dict of str to tuple of str
        By record id. Equal texts are one object: the references are templates, and few of them differ.
    """
    wanted, known = set(truth.ids), dict[tuple[str, ...], tuple[str, ...]]()
    found: dict[str, tuple[str, ...]] = {}
    selection = select("quintuples", ("id", "reasoning"))
    for shard in data.manifest.shards("quintuples", _one_split(split, data.manifest)):
        for table in read_shard(data.url(shard.path), shard, selection):
            for name, steps in zip(table["id"].to_pylist(), table["reasoning"].to_pylist(), strict=True):
                if name in wanted:
                    kept = tuple(steps or ())
                    found[name] = known.setdefault(kept, kept)
    return found


def take(truth: Truth, rows: ArrayLike) -> Truth:
    """Return some rows of a truth, in the order named; patients and volumes without rows go.

    Parameters
    ----------
    truth : Truth
    rows : (M,) int array, or (N,) bool array
    """
    places = np.asarray(rows)
    places = np.flatnonzero(places) if places.dtype == np.bool_ else places.astype(np.int64)
    patients, patient = np.unique(truth.patient[places], return_inverse=True)
    volumes, volume = np.unique(truth.volume[places], return_inverse=True)
    _, region = np.unique(truth.region[places], return_inverse=True)
    return Truth(
        ids=tuple(truth.ids[place] for place in places.tolist()),
        question=truth.question[places],
        patient=patient.astype(np.int32),
        volume=volume.astype(np.int32),
        region=region.astype(np.int32),
        side=truth.side[places],
        visit=truth.visit[places],
        slots=truth.slots[places],
        grades=truth.grades[places],
        boxes=truth.boxes[places],
        patients=tuple(truth.patients[code] for code in patients.tolist()),
        volumes=tuple(truth.volumes[code] for code in volumes.tolist()),
        shapes=truth.shapes[volumes],
        affines=truth.affines[volumes],
    )


def sample_patients(truth: Truth, patients: int, seed: int = 0) -> Truth:
    """Draw whole patients, with all their records.

    Each patient's place in the draw depends on the seed and the patient alone: a larger sample holds the smaller ones,
    and the order of the rows does not matter.

    Raises
    ------
    BenchError
        If there are fewer.
    """
    there = len(truth.patients)
    if not 1 <= patients <= there:
        raise BenchError(f"Split has {there} patients, and {patients} were asked for. Ask for 1 to {there}.")
    ranks = [hashlib.sha256(f"{seed}/{name}".encode()).digest() for name in truth.patients]
    drawn = sorted(range(there), key=ranks.__getitem__)[:patients]
    return take(truth, np.isin(truth.patient, drawn))


def identify(data: Repository, split: str, truth: Truth, **known: Any) -> RunMetadata:
    """Identify the records of a result; other fields are given by name.

    Parameters
    ----------
    data : Repository
        As returned by `open_data`.
    split : str
        As given to `read_truth`.
    truth : Truth
        The records.
    **known
        Further fields of `RunMetadata`: model, condition, seed, ...
    """
    return RunMetadata(
        **{
            "dataset_revision": data.manifest.digest,
            "split": _one_split(split, data.manifest),
            "records": len(truth),
            "patients": len(truth.patients),
            "records_sha256": _digest(truth.ids),
            "voxels_sha256": _digest_voxels(sorted(truth.volumes), data.manifest),
            "package_version": __version__,
            "synthetic": data.manifest.synthetic,
            **known,
        }
    )


def _one_split(split: str, manifest: Manifest) -> str:
    parts = parse_split(split, manifest.splits())
    if len(parts) != 1 or not parts[0].is_whole:
        raise BenchError(
            f"{split!r} is not one whole split, and a slice would cut patients apart. Take a sample of whole patients "
            "instead: patients= (--patients)."
        )
    return parts[0].name


def _digest(lines: tuple[str, ...] | list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _digest_voxels(volumes: list[str], manifest: Manifest) -> str | None:
    hashes = [manifest.volume(path).voxels_sha256 for path in volumes]
    if None in hashes:
        return None
    return _digest([f"{path} {found}" for path, found in zip(volumes, hashes, strict=True)])
