"""Revisions: pinned, never mixed, and named where they were withdrawn."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest

from reasonknee_datasets import load_dataset
from reasonknee_datasets.errors import RepositoryError
from reasonknee_datasets.manifest import Manifest
from reasonknee_datasets.sources import WithdrawnDataWarning
from reasonknee_datasets.sources import repository as repository_module
from tests.helpers.prepared_repository import list_again, write_repository

RELEASE = "7a611f92fd3ad3954e8b62feef49ee12bfef725a"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_repository(tmp_path_factory.mktemp("revisions") / "3dreasonknee")
    list_again(root, lambda tree: tree["source"].update(revision=RELEASE))
    return root


def load(root: Path, tmp_path: Path, **chosen: Any) -> Any:
    return load_dataset(data_dir=root, cache_dir=str(tmp_path / "cache"), split="train", streaming=True, **chosen)


def test_revision_of_the_release_or_the_manifest(repository: Path, tmp_path: Path) -> None:
    digest = Manifest.load(repository).digest
    for revision in (RELEASE, RELEASE[:7], digest, digest[:12]):
        assert next(iter(load(repository, tmp_path, revision=revision)))["id"]


@pytest.mark.parametrize("revision", ["main", "0123456", RELEASE[:6], "", "x" * 40])
def test_another_revision_is_refused(repository: Path, tmp_path: Path, revision: str) -> None:
    expected = (
        f"is not of revision '{revision}': it was prepared from release {RELEASE}, and its manifest is [0-9a-f]{{12}}"
    )
    with pytest.raises(RepositoryError, match=expected):
        load(repository, tmp_path, revision=revision)


def test_shards_of_two_revisions_are_refused(repository: Path, tmp_path: Path) -> None:
    mixed = shutil.copytree(repository, tmp_path / "mixed")
    other = write_repository(tmp_path / "other", marker="second", images=False)
    shard = "data/train-00001-of-00003.parquet"
    shutil.copy(other / shard, mixed / shard)
    with pytest.raises(RepositoryError, match=r"train-00001-of-00003\.parquet is not the shard .* two revisions"):
        list(load(mixed, tmp_path))


def test_volumes_of_another_revision_are_refused(repository: Path, tmp_path: Path) -> None:
    other = shutil.copytree(repository, tmp_path / "other")
    path = "volumes/0000001/00M_left.nii.gz"

    def change(tree: dict[str, Any]) -> None:
        tree["volumes"][path]["voxels_sha256"] = "1" * 64
        tree["source"]["revision"] = "later"
        tree["box_convention"]["name"] = "slice2-x1-y0"

    list_again(other, change)
    with pytest.raises(RepositoryError, match="are of different revisions") as raised:
        load(repository, tmp_path, volumes_dir=other)
    assert f"are of different revisions: 1 volumes have other voxels or grids, such as {path}" in str(raised.value)
    assert f"source revision '{RELEASE}' and 'later'" in str(raised.value)
    assert "box convention name 'given' and 'slice2-x1-y0'" in str(raised.value)


def test_volumes_of_the_same_revision_elsewhere(repository: Path, tmp_path: Path) -> None:
    whole = shutil.copytree(repository, tmp_path / "whole")
    alone = shutil.copytree(repository / "volumes", tmp_path / "alone" / "volumes").parent
    for place in (whole, alone):
        row = next(iter(load(repository, tmp_path, volumes_dir=place)))
        assert row["volume"].path.startswith(f"{place}/")
        assert row["volume"].get_fdata().any()


def withdraw(monkeypatch: pytest.MonkeyPatch, folder: Path, **listed: Any) -> None:
    path = folder / "withdrawn.json"
    path.write_text(json.dumps({"format": 1, "revisions": [], "rows": []} | listed), encoding="utf-8")
    monkeypatch.setattr(repository_module, "WITHDRAWN", path)


def test_withdrawn_list_warns_of_nothing(repository: Path, tmp_path: Path) -> None:
    listed = json.loads(repository_module.WITHDRAWN.read_text(encoding="utf-8"))
    assert (listed["format"], listed["revisions"], listed["rows"]) == (1, [], [])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(repository, tmp_path)


@pytest.mark.parametrize("which", ["release", "manifest"])
def test_a_withdrawn_revision_warns(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    revision = RELEASE if which == "release" else Manifest.load(repository).digest
    withdraw(monkeypatch, tmp_path, revisions=[{"revision": revision, "reason": "boxes were shifted"}])
    with pytest.warns(WithdrawnDataWarning, match=rf"Revision {revision} .* withdrawn: boxes were shifted") as caught:
        load(repository, tmp_path)
    assert caught[0].filename == __file__


def test_withdrawn_rows_warn(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"id": "0000001/00M/left/q02", "reason": "consent withdrawn"},
        {"id": "0000001/00M/left/q03", "reason": "another revision", "revision": "other"},
        {"id": "9999999/00M/left/q03", "reason": "not in this repository"},
    ]
    withdraw(monkeypatch, tmp_path, rows=rows)
    expected = r"^1 withdrawn rows are in this repository: 0000001/00M/left/q02 \(consent withdrawn\)\. Leave"
    with pytest.warns(WithdrawnDataWarning, match=expected):
        load(repository, tmp_path)
