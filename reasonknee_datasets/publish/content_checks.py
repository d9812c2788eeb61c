"""Checks of the files and rows of a repository."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

import numpy as np
import pyarrow.compute as pc

from reasonknee_datasets.check import check_files
from reasonknee_datasets.publish.inspected import Diagnostic, Inspected
from reasonknee_datasets.publish.parquet_checks import FOLDER_FILES, REPOSITORY_FILES

_SHOWN = 5
_COPY = "Copy the repository again, or prepare it again: reasonknee prepare."


def check_files_per_folder(repository: Inspected) -> Iterator[Diagnostic]:
    """Check that no folder has more files than the Hub accepts."""
    counts = Counter(path.rpartition("/")[0] for path in repository.files)
    for folder, count in counts.items():
        if count > FOLDER_FILES:
            yield Diagnostic(
                "error",
                f"The folder {folder or '.'} has {count:,} files; the Hub accepts {FOLDER_FILES:,}.",
                "Move the files into subfolders.",
            )


def check_files_per_repository(repository: Inspected) -> Iterator[Diagnostic]:
    """Check that the repository has no more files than the Hub recommends."""
    count = len(repository.files)
    if count > REPOSITORY_FILES:
        yield Diagnostic(
            "error",
            f"The repository has {count:,} files; the Hub recommends fewer than {REPOSITORY_FILES:,}.",
            "Remove files that are not in the manifest, or split the repository.",
        )


def check_missing_volumes(repository: Inspected) -> Iterator[Diagnostic]:
    """Check that the volumes are there, all or none."""
    manifest = repository.manifest
    expected = [path for path, record in manifest.volumes.items() if record.bytes is not None]
    if (manifest.source.get("options") or {}).get("volumes") == "none" or not expected:
        return
    if repository.volumes != repository.root:
        return  # published elsewhere; check_checksums reads them where they are
    missing = sorted(set(expected) - set(repository.stored_volumes))
    if len(missing) == len(expected):
        yield Diagnostic(
            "warning",
            f"None of the {len(expected):,} volumes are in the repository: rows load, and voxels do not.",
            "Name the place that contains volumes/ with --volumes-dir, as every reader must.",
        )
    elif missing:
        yield Diagnostic(
            "error",
            f"{len(missing):,} of {len(expected):,} volumes are missing: {_sample(missing)}.",
            _COPY,
        )


def check_checksums(repository: Inspected) -> Iterator[Diagnostic]:
    """Check every file against the size and SHA-256 in the manifest."""
    report = check_files(repository.root, volumes_dir=repository.volumes, progress=repository.progress)
    elsewhere = not repository.stored_volumes and repository.volumes == repository.root
    problems = [each for each in report.problems if not (elsewhere and each.path in repository.manifest.volumes)]
    if problems:
        yield Diagnostic(
            "error", f"{len(problems):,} files differ from the manifest: {_sample(map(str, problems))}.", _COPY
        )


def check_patients(repository: Inspected) -> Iterator[Diagnostic]:
    """Check that no patient is in two splits."""
    splits: dict[str, set[str]] = defaultdict(set)
    for config in ("quintuples", "volumes"):
        for split, shards in repository.manifest.configs.get(config, {}).items():
            for shard in shards:
                table = repository.read_columns(shard, ["patient"])
                for patient in [] if table is None else pc.unique(table["patient"]).to_pylist():
                    splits[str(patient)].add(split)
    shared = sorted(patient for patient, found in splits.items() if len(found) > 1)
    if shared:
        yield Diagnostic(
            "error",
            f"{len(shared):,} patients are in more than one split, such as {shared[0]} in "
            f"{' and '.join(sorted(splits[shared[0]]))}.",
            "Correct the split files and prepare again: scores on patients seen in training mean nothing.",
        )


def check_boxes(repository: Inspected) -> Iterator[Diagnostic]:
    """Check that every box is inside its volume."""
    outside: list[str] = []
    count = 0
    shapes = {path: record.shape for path, record in repository.manifest.volumes.items() if record.shape}
    for shard in repository.shards("quintuples"):
        table = repository.read_columns(shard, ["id", "volume_path", "box"])
        if table is None or not table.num_rows:
            continue
        boxes = np.asarray(table["box"].combine_chunks().flatten()).reshape(-1, 2, 3)
        nowhere = (2**31, 2**31, 2**31)  # without images nothing bounds a box from above
        limits = np.array([shapes.get(path, nowhere) for path in table["volume_path"].to_pylist()])
        sound = (boxes[:, 0] >= 0).all(1) & (boxes[:, 0] < boxes[:, 1]).all(1) & (boxes[:, 1] <= limits).all(1)
        wrong = np.flatnonzero(~sound)
        count += len(wrong)
        outside += table["id"].take(wrong[:_SHOWN]).to_pylist()
    if count:
        yield Diagnostic(
            "error",
            f"{count:,} boxes are empty or reach out of their volumes: {_sample(outside)}.",
            "Prepare again with the right --box-convention.",
        )


def _sample(names: Iterator[str] | list[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - _SHOWN:,} more" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + more
