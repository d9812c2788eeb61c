"""Grades of MOAKS tables in prepared rows: from the tables alone, null where they have none."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from reasonknee_datasets.errors import PrepareError, ReasonKneeError
from reasonknee_datasets.manifest import Manifest
from reasonknee_datasets.moaks import read_diagnosis
from reasonknee_datasets.oai.moaks_tables import Knee, read_moaks_tables, resolve_readings
from reasonknee_datasets.prepare import prepare
from reasonknee_datasets.schema import GRADE_COLUMNS


def read(root: Path) -> list[dict[str, Any]]:
    return pq.read_table(root / "data").to_pylist()


@pytest.fixture(scope="module")
def from_tables(phantom_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tables") / "3dreasonknee"
    prepare(phantom_release, out, volumes="none", grades_source="moaks", acl="any", workers=1, progress=False)
    return out


def test_grades_are_those_of_the_tables(from_tables: Path, phantom_release: Path) -> None:
    tables = read_moaks_tables(phantom_release / "data" / "labels", acl="any")
    known = {each.knee: each.grades for each in resolve_readings(tables, "agree")}
    found = 0
    for row in read(from_tables):
        for each in row["grades"]:
            wanted = known[Knee(row["patient"], row["visit"], row["side"])].get((row["question_id"], each["attribute"]))
            assert each["grade"] == wanted
            assert row[GRADE_COLUMNS[each["attribute"]]] == wanted
            found += wanted is not None
        written = {each["attribute"]: each["grade"] for each in row["grades"]}
        assert read_diagnosis(row["question_id"], json.loads(row["answer"])) == written
    assert found > 1000


def test_grades_without_a_reading_are_null(from_tables: Path, prepared: Path) -> None:
    released = {row["id"]: row for row in read(prepared)}
    outcomes = {"equal": 0, "changed": 0, "added": 0, "nulled": 0}
    zeros = 0
    for row in read(from_tables):
        for own, old in zip(row["grades"], released[row["id"]]["grades"], strict=True):
            a, b = own["grade"], old["grade"]
            zeros += a is None and b == 0
            key = "equal" if a == b else "nulled" if a is None else "added" if b is None else "changed"
            outcomes[key] += 1
        kept = ("question", "reasoning", "box", "record", "category")
        assert all(row[name] == released[row["id"]][name] for name in kept)
    assert zeros > 0
    manifest = Manifest.load(from_tables)
    assert manifest.report["table_grades"] == outcomes
    options = manifest.source["options"]
    assert (options["grades_source"], options["readings"], options["acl"]) == ("moaks", "agree", "any")
    assert len(manifest.source["tables"]) == 8


def test_a_changed_table_is_another_input(from_tables: Path, phantom_release: Path, tmp_path: Path) -> None:
    chosen: dict[str, Any] = {"volumes": "none", "grades_source": "moaks", "workers": 1, "progress": False}
    assert not prepare(phantom_release, from_tables, **chosen, acl="any").written
    with pytest.raises(PrepareError, match=r"options .*'acl': 'any'.*'acl': 'highest'"):
        prepare(phantom_release, from_tables, **chosen, acl="highest")
    one = next((phantom_release / "data" / "labels").glob("*BICL00.csv"))
    with pytest.raises(PrepareError, match="tables"):
        prepare(phantom_release, from_tables, **chosen, acl="any", moaks_tables=[one])


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"grades_source": "moak"}, r"Unknown grades_source 'moak'\. Did you mean 'moaks'\?"),
        ({"moaks_tables": ["x.csv"]}, r"moaks_tables= needs grades_source=\"moaks\""),
        ({"grades_source": "moaks", "readings": "all"}, r"readings=\"all\" keeps several grades for one row"),
    ],
)
def test_impossible_choices(phantom_release: Path, tmp_path: Path, chosen: dict[str, Any], message: str) -> None:
    with pytest.raises(PrepareError, match=message):
        prepare(phantom_release, tmp_path / "out", volumes="none", workers=1, progress=False, **chosen)


def test_prepare_refuses_unreadable_table_first(phantom_release: Path, tmp_path: Path) -> None:
    release = tmp_path / "release"
    shutil.copytree(phantom_release, release)
    shutil.rmtree(release / "data" / "masks")  # the release check stops at that, had it come first
    table = tmp_path / "kmri_sq_moaks_bicl00.csv"
    table.write_text("neither,of,these\n1,2,3\n", encoding="utf-8")
    with pytest.raises(ReasonKneeError, match=re.escape(table.name)):
        prepare(release, tmp_path / "out", volumes="none", grades_source="moaks", moaks_tables=[table], progress=False)
    assert not (tmp_path / "out").exists()


def test_prepare_refuses_masks_of_release_without_masks(phantom_release: Path, tmp_path: Path) -> None:
    release = tmp_path / "release"
    shutil.copytree(phantom_release, release)
    shutil.rmtree(release / "data" / "masks")
    with pytest.raises(PrepareError, match=r"has no masks to keep\. Leave out masks=True"):
        prepare(release, tmp_path / "out", volumes="none", masks=True, progress=False)
    assert not (tmp_path / "out").exists()
