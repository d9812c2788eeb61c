"""The truth of a split against its rows, one by one, and the priors against the truth of train."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from reasonknee_datasets.bench import truth as module
from reasonknee_datasets.bench.arrays import NONE, Truth, sample_patients, take
from reasonknee_datasets.bench.priors import TrainPriors, read_priors
from reasonknee_datasets.bench.truth import COLUMNS, identify, open_data, read_truth
from reasonknee_datasets.errors import BenchError, RepositoryError, RepositoryNotFoundError
from reasonknee_datasets.manifest import MANIFEST, Manifest
from reasonknee_datasets.moaks import QUESTIONS, SLOTS
from reasonknee_datasets.schema import SIDES, VISITS
from reasonknee_datasets.sources import read_shard
from tests.helpers.prepared_repository import list_again


def rows_of(root: Path, split: str) -> list[dict[str, Any]]:
    shards = Manifest.load(root).shards("quintuples", split)
    return [row for shard in shards for row in pq.read_table(root / shard.path).to_pylist()]


@pytest.fixture(scope="module")
def truth(prepared: Path) -> Truth:
    return read_truth(prepared, "train")


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_every_row_says_what_the_repository_says(prepared: Path, split: str) -> None:
    truth, rows, manifest = read_truth(prepared, split), rows_of(prepared, split), Manifest.load(prepared)
    assert len(truth) == len(rows) > 0
    regions: dict[int, set[tuple[Any, ...]]] = {}
    for place, row in enumerate(rows):
        assert truth.ids[place] == row["id"]
        assert truth.question[place] == row["question_id"]
        assert truth.patients[truth.patient[place]] == row["patient"]
        assert truth.volumes[truth.volume[place]] == row["volume_path"]
        assert SIDES[truth.side[place]] == row["side"]
        assert VISITS[truth.visit[place]] == row["visit"]
        assert truth.boxes[place].tolist() == row["box"]
        grades = {each["attribute"]: each["grade"] for each in row["grades"]}
        slots = [slot for slot in truth.slots[place].tolist() if slot != NONE]
        assert slots == [slot.id for slot in QUESTIONS[row["question_id"]].slots]
        found = truth.grades[place].tolist()
        assert found[len(slots) :] == [NONE] * (3 - len(slots))
        for slot, grade in zip(slots, found, strict=False):
            expected = grades[SLOTS[slot].attribute]
            assert grade == (NONE if expected is None else expected)
        regions.setdefault(int(truth.region[place]), set()).add((row["volume_path"], *row["box"]))
    assert all(len(named) == 1 for named in regions.values())
    assert len({name for named in regions.values() for name in named}) == len(regions)
    for code, path in enumerate(truth.volumes):
        assert tuple(truth.shapes[code].tolist()) == manifest.volume(path).shape
        np.testing.assert_array_equal(truth.affines[code], np.array(manifest.volume(path).affine))


def test_several_questions_share_a_region(truth: Truth) -> None:
    assert len(truth.volumes) < truth.region.max() + 1 < len(truth)


def test_only_what_is_scored_is_read(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, asked = read_shard, []

    def spy(url: str, shard: Any, selection: Any) -> Iterator[Any]:
        asked.append(selection.stored)
        return read(url, shard, selection)

    monkeypatch.setattr(module, "read_shard", spy)
    read_truth(prepared, "test")
    assert asked
    assert all(stored == list(COLUMNS) for stored in asked)
    assert not {"reasoning", "answer", "record", "question"} & set(COLUMNS)


def test_from_a_url(prepared: Path) -> None:
    place = fsspec.filesystem("memory")
    place.put(str(prepared / "data"), "/truth/data", recursive=True)
    for name in (MANIFEST, "priors.json"):
        place.put(str(prepared / name), f"/truth/{name}")
    here, there = read_truth(prepared, "val"), read_truth("memory://truth", "validation")
    assert there.ids == here.ids
    np.testing.assert_array_equal(there.grades, here.grades)
    assert read_priors(open_data("memory://truth")).rows == read_priors(open_data(prepared)).rows
    place.rm("/truth", recursive=True)


def test_filters_choose_rows(prepared: Path, truth: Truth) -> None:
    some = read_truth(prepared, "train", filters=[("question_id", "in", [34, 35]), ("side", "==", "left")])
    assert set(some.question.tolist()) == {34, 35}
    assert len(some) == int((np.isin(truth.question, [34, 35]) & (truth.side == SIDES.index("left"))).sum())
    with pytest.raises(BenchError, match=r"Split 'train' of .* holds no records to score"):
        read_truth(prepared, "train", filters=[("patient", "==", "nobody")])


def test_taking_rows_keeps_what_they_say(truth: Truth) -> None:
    places = np.flatnonzero(truth.question == 40)[::-1]
    some = take(truth, places)
    assert some.ids == tuple(truth.ids[place] for place in places)
    assert [some.patients[code] for code in some.patient] == [truth.patients[truth.patient[place]] for place in places]
    assert [some.volumes[code] for code in some.volume] == [truth.volumes[truth.volume[place]] for place in places]
    np.testing.assert_array_equal(some.shapes[some.volume], truth.shapes[truth.volume[places]])
    np.testing.assert_array_equal(some.affines[some.volume], truth.affines[truth.volume[places]])
    np.testing.assert_array_equal(some.grades, truth.grades[places])
    assert take(truth, truth.question == 40).ids == some.ids[::-1]


def test_a_sample_is_of_whole_patients(prepared: Path, truth: Truth) -> None:
    there = len(truth.patients)
    drawn = [set(sample_patients(truth, count, seed=7).patients) for count in range(1, there + 1)]
    assert [len(names) for names in drawn] == list(range(1, there + 1))
    assert all(small < large for small, large in pairwise(drawn))
    some = read_truth(prepared, "train", patients=2, seed=7)
    assert set(some.patients) == drawn[1]
    assert len(some) == sum(truth.patients[code] in drawn[1] for code in truth.patient)
    assert sample_patients(take(truth, np.arange(len(truth))[::-1]), 2, seed=7).ids == some.ids[::-1]
    assert len({frozenset(sample_patients(truth, 2, seed=seed).patients) for seed in range(20)}) > 1
    with pytest.raises(BenchError, match=f"Split has {there} patients, and {there + 1} were asked for"):
        sample_patients(truth, there + 1)
    with pytest.raises(BenchError, match="and 0 were asked for"):
        sample_patients(truth, 0)


def test_a_slice_is_refused(prepared: Path) -> None:
    with pytest.raises(BenchError, match=r"'test\[:10\]' is not one whole split"):
        read_truth(prepared, "test[:10]")
    with pytest.raises(BenchError, match="is not one whole split"):
        read_truth(prepared, "all")
    with pytest.raises(RepositoryError, match=r"Unknown split 'tests'\. Did you mean 'test'"):
        read_truth(prepared, "tests")


def test_no_phantom_stands_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REASONKNEE_DATA", raising=False)
    with pytest.raises(RepositoryNotFoundError, match="No data to score against: neither data_dir"):
        open_data()


def test_the_identity_names_these_records(prepared: Path, truth: Truth) -> None:
    data = open_data(prepared)
    found = identify(data, "train", truth, model="majority", seed=3)
    assert (found.records, found.patients) == (len(truth), len(truth.patients))
    assert (found.dataset_revision, found.synthetic) == (Manifest.load(prepared).digest, True)
    assert (found.split, found.model, found.seed) == ("train", "majority", 3)
    assert found.voxels_sha256 is not None
    fewer = identify(data, "train", sample_patients(truth, 2, seed=1))
    other = identify(data, "train", sample_patients(truth, 2, seed=2))
    assert len({found.records_sha256, fewer.records_sha256, other.records_sha256}) == 3
    assert fewer.voxels_sha256 != found.voxels_sha256
    assert identify(data, "val", read_truth(data, "val")).split == "validation"


def damaged(prepared: Path, tmp_path: Path, change: Any) -> Path:
    """Copy a repository's annotations with one changed row of test."""
    root = tmp_path / "damaged"
    shutil.copytree(prepared, root, ignore=shutil.ignore_patterns("volumes"))
    manifest = Manifest.load(root)
    shard = manifest.shards("quintuples", "test")[0]
    table = pq.read_table(root / shard.path)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(type(table).from_pylist(rows, schema=table.schema), root / shard.path)
    list_again(root)
    return root


def _twice(rows: list[dict[str, Any]]) -> None:
    rows[1]["id"] = rows[0]["id"]


def _illegal(rows: list[dict[str, Any]]) -> None:
    rows[2]["grades"][0]["grade"] = 4


def _same_attribute(rows: list[dict[str, Any]]) -> None:
    rows[2]["grades"][1]["attribute"] = rows[2]["grades"][0]["attribute"]


def _strange_attribute(rows: list[dict[str, Any]]) -> None:
    rows[2]["grades"][0]["attribute"] = "colour"


def _strange_question(rows: list[dict[str, Any]]) -> None:
    rows[2]["question_id"] = 63


def _strange_side(rows: list[dict[str, Any]]) -> None:
    rows[2]["side"] = "lefft"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_twice, r"The id .*/q01 occurs 2 times"),
        (_illegal, r"The grade \{'attribute': 'size', 'grade': 4, .* of .*/q03 is illegal"),
        (_same_attribute, r"The grade \{'attribute': 'size'.* of .*/q03 .*, occurs twice"),
        (_strange_attribute, r"The grade \{'attribute': 'colour'.* of .*/q03 .* of no slot"),
        (_strange_question, r"question_id must be 1 to 62, got \[63\]"),
        (_strange_side, r"Column 'side' holds the unknown value 'lefft'. Did you mean 'left'"),
    ],
)
def test_rows_that_break_the_rules_are_refused(prepared: Path, tmp_path: Path, change: Any, message: str) -> None:
    root = damaged(prepared, tmp_path, change)
    with pytest.raises(RepositoryError, match=message):
        read_truth(root, "test")


def test_truth_ignores_the_order_of_grades(prepared: Path, tmp_path: Path) -> None:
    def turn(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row["grades"].reverse()

    turned = read_truth(damaged(prepared, tmp_path, turn), "test")
    np.testing.assert_array_equal(turned.grades, read_truth(prepared, "test").grades)


@pytest.fixture(scope="module")
def priors(prepared: Path) -> TrainPriors:
    return read_priors(open_data(prepared))


def test_priors_are_counted_from_train(priors: TrainPriors, truth: Truth) -> None:
    assert priors.rows == len(truth)
    for question in (1, 19, 34, 49, 62):
        rows = truth.grades[truth.question == question]
        for place, slot in enumerate(QUESTIONS[question].slots):
            counted = [int((rows[:, place] == grade).sum()) for grade in range(9)]
            assert priors.counts[slot.id].tolist() == counted
            assert priors.most_frequent[slot.id] == counted.index(max(counted))
        width = len(QUESTIONS[question].slots)
        answers = Counter(tuple(row[:width]) for row in rows.tolist() if NONE not in row[:width])
        assert priors.answers[question] == answers
        best = min(answers, key=lambda answer: (-answers[answer], answer))
        assert tuple(priors.majority[question].tolist()[:width]) == best
    assert priors.most_frequent[[slot.id for slot in QUESTIONS[63].slots]].tolist() == [NONE]
    assert priors.has_boxes


def test_likeliest_answer_versus_likeliest_grades(priors: TrainPriors) -> None:
    size, depth = (slot.id for slot in QUESTIONS[19].slots)
    counts = np.zeros_like(priors.counts)
    counts[size, :3], counts[depth, :3] = (4, 3, 3), (2, 3, 5)
    answers: dict[int, dict[tuple[int, ...], int]] = {19: {(0, 0): 2, (0, 1): 2, (1, 1): 1, (1, 2): 2, (2, 2): 3}}
    made = replace(priors, counts=counts, answers=answers)
    assert made.most_frequent[[size, depth]].tolist() == [0, 2]
    assert made.majority[19].tolist() == [2, 2, NONE]
    assert replace(made, answers={}).majority[19].tolist() == [0, 2, NONE]
    assert replace(made, answers={19: {(1, 0): 2, (0, 1): 2}}).majority[19].tolist() == [0, 1, NONE]


def copy_with_priors(prepared: Path, tmp_path: Path, change: Any) -> Path:
    root = tmp_path / "copy"
    root.mkdir()
    shutil.copy(prepared / MANIFEST, root)
    tree = json.loads((prepared / "priors.json").read_text())
    change(tree)
    (root / "priors.json").write_text(json.dumps(tree))
    list_again(root)
    return root


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tree: tree.update(format=1), r"The priors in .* have format 1, .* reads format 3.*--overwrite"),
        (
            lambda tree: tree["slots"].pop("q19.size"),
            r"its field 'slots' has no field 'q19\.size'",
        ),
        (
            lambda tree: tree["questions"]["q19"].update(counts={"0 9": 1}),
            r"'0 9' is not a whole answer of question 19",
        ),
        (lambda tree: tree["questions"]["q19"].update(counts={"0": 1}), r"'0' is not a whole answer of question 19"),
        (lambda tree: tree.pop("boxes"), r"it has no field 'boxes'"),
        (
            lambda tree: tree.update(rows="many"),
            r"field 'rows' must be a whole number .*, not 'many'",
        ),
        (
            lambda tree: tree.update(rows=10**400),
            r"field 'rows' must be a whole number .*, not a number of 1329 bits",
        ),
        (lambda tree: tree.update(slots=[]), r"field 'slots' must be an object, not a list"),
        (
            lambda tree: tree["boxes"]["q01.left"].update(mm=[1e308] * 5),
            r"field 'boxes/.*/mm' must be a list of 6, not a list of 5",
        ),
        (lambda tree: tree["boxes"]["q01.left"].update(side="up"), r"must be right or left, not 'up'"),
        (
            lambda tree: tree["boxes"]["q01.left"].update(question_id=10**6),
            r"field 'boxes/.*/question_id' must be a whole number",
        ),
    ],
)
def test_other_priors_are_refused(prepared: Path, tmp_path: Path, change: Any, message: str) -> None:
    root = copy_with_priors(prepared, tmp_path, change)
    with pytest.raises(BenchError, match=message):
        read_priors(open_data(root))


def test_absent_or_damaged_priors_are_refused(prepared: Path, tmp_path: Path) -> None:
    root = copy_with_priors(prepared, tmp_path, lambda tree: None)
    assert read_priors(open_data(root)).rows > 0
    (root / "priors.json").write_text('{"format": 3,')
    with pytest.raises(BenchError, match=r"The manifest of .* lists priors\.json with another SHA-256\. Copy the"):
        read_priors(open_data(root))
    for text, told in (('{"format": 3,', "Expecting"), ("[" * 100_000, "nested too deeply"), ('{"a": NaN}', "NaN")):
        (root / "priors.json").write_text(text)
        list_again(root)
        with pytest.raises(
            BenchError, match=rf"The priors in .*priors\.json are damaged: it is not readable JSON: .*{told}"
        ):
            read_priors(open_data(root))
    (root / "priors.json").unlink()
    with pytest.raises(BenchError, match=r"has no priors\.json next to its manifest"):
        read_priors(open_data(root))
