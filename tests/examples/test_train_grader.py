"""The training example: what it learns from synthetic knees, what it cannot learn, and that a kill changes nothing."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from reasonknee_datasets import Compose, ToCanonical, load_dataset  # noqa: E402
from tests.helpers.paths import ROOT  # noqa: E402

EXAMPLE = ROOT / "examples" / "train_grader.py"
NOTHING = 0.1
"""Most that balanced accuracy may gain by chance: half of the gain that the network needs."""

# Its knees are drawn once, by the worker that runs them all, which takes two minutes of a core.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("train_grader"), pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def train_grader() -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_grader", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Take sums in one order, whatever the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def knees(train_grader: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As many synthetic patients as the example makes by itself."""
    folder: Path = train_grader.make_phantom(
        tmp_path_factory.mktemp("grader"), train_grader.parser().parse_args([]).patients
    )
    return folder


def test_train_grader_generalises_to_new_patients(
    train_grader: ModuleType, knees: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predictions = tmp_path / "grades.jsonl"
    found = train_grader.main(["--data", str(knees), "--out", str(tmp_path), "--predictions", str(predictions)])
    assert found.patients >= 20
    assert found.accuracy >= found.majority + 0.2
    assert found.low > 0
    assert f"balanced accuracy {found}" in capsys.readouterr().out
    rows = load_dataset(split="test", data_dir=knees, filters=[("finding", "==", "bone_marrow_lesion")])
    lines = {line["id"]: line["slots"] for line in map(json.loads, predictions.read_text().splitlines())}
    assert sorted(lines) == sorted(rows["id"])
    right = [lines[row["id"]] == {"size": row["grades"][0]["grade"]} for row in rows.remove_columns("volume")]
    assert np.mean(right) > 0.9


class Rows(list[dict[str, Any]]):
    """Examples in memory that give their columns as a dataset does."""

    def __getitem__(self, key: Any) -> Any:
        return [row[key] for row in self] if isinstance(key, str) else super().__getitem__(key)


def test_train_on_shuffled_grades_learns_nothing(
    train_grader: ModuleType, knees: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, held_out = (cropped(train_grader, knees, split) for split in ("train", "validation+test"))
    monkeypatch.setattr(train_grader, "crop", lambda jitter_mm=0.0: Compose())  # they are crops already
    arguments = arguments_of(train_grader, tmp_path, "--epochs", "1")
    found = grade(train_grader, rows, held_out, arguments)
    assert found.accuracy >= found.majority + 0.2, "in one epoch it learns from what is not shuffled"
    # One network trained on noise still gives each kind of lesion some grade, now the right one and now a wrong one:
    # 0.1 up or down. So the mean of several is what tells.
    gains = []
    for seed in range(8):
        shuffled = shuffle_between_patients(rows, seed)
        assert np.bincount(shuffled["target"]).min() > 20
        found = grade(train_grader, shuffled, held_out, arguments)
        gains.append(found.accuracy - found.majority)
    assert np.mean(gains) < NOTHING, gains
    assert np.mean(gains) < 3 * np.std(gains, ddof=1) / np.sqrt(len(gains)), gains


def cropped(train_grader: ModuleType, knees: Path, split: str) -> Rows:
    """Return the graded rows of a split with their crops in memory, to be trained on several times."""
    rows = train_grader.graded(train_grader.load(knees, split))
    kept = ("id", "patient", "subregion", "question_id", "target", "volume_path", "box", "voxels")
    crops = map(train_grader.crop(), rows)
    return Rows({name: example[name] for name in kept} for example in crops)


def grade(train_grader: ModuleType, rows: Any, held_out: Any, arguments: argparse.Namespace) -> Any:
    torch.manual_seed(arguments.seed)
    model = train_grader.Grader()
    train_grader.train(model, rows, held_out, arguments)
    return train_grader.compare(rows, held_out, train_grader.predict(model, held_out))


class BoxesAlone(torch.nn.Module):  # type: ignore[misc]
    """A network that is shown the six numbers and no voxel."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.BatchNorm1d(6), torch.nn.Linear(6, 64), torch.nn.ReLU(), torch.nn.Linear(64, 4)
        )

    def forward(self, batch: Mapping[str, Any]) -> Any:
        return self.layers(batch["boxes"].float())


def test_train_on_box_numbers_learns_nothing(
    train_grader: ModuleType, knees: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, held_out = (without_voxels(train_grader, knees, split) for split in ("train", "validation+test"))
    monkeypatch.setattr(train_grader, "crop", lambda jitter_mm=0.0: Compose())
    monkeypatch.setattr(train_grader, "Grader", BoxesAlone)
    gains = []
    for seed in range(4):  # as above
        arguments = arguments_of(train_grader, tmp_path, "--epochs", "2", "--seed", str(seed))
        found = grade(train_grader, rows, held_out, arguments)
        gains.append(found.accuracy - found.majority)
    assert np.mean(gains) < NOTHING, gains
    # Nor does a learner that takes them as they come, apart for each subregion, and that would not miss a leak.
    forest = pytest.importorskip("sklearn.ensemble").RandomForestClassifier(
        200, min_samples_leaf=5, class_weight="balanced_subsample", random_state=0
    )
    forest.fit(numbers(rows), rows["target"])
    guessed = dict(zip(held_out["id"], forest.predict(numbers(held_out)).tolist(), strict=True))
    found = train_grader.compare(rows, held_out, guessed)
    assert found.accuracy - found.majority < NOTHING


def without_voxels(train_grader: ModuleType, knees: Path, split: str) -> Any:
    """Return the boxes in one orientation, which is as much as they can tell."""
    rows = train_grader.graded(train_grader.load(knees, split))
    boxes = [ToCanonical()(row)["box"] for row in rows]
    return rows.remove_columns(["volume", "volume_path", "box"]).add_column("box", boxes)


def numbers(rows: Any) -> Any:
    return np.column_stack([np.array(rows["box"][:]), rows["question_id"][:]])


def shuffle_between_patients(rows: Rows, seed: int) -> Rows:
    """Assign each patient the grades of another, question by question."""
    grades: dict[str, dict[str, dict[int, int]]] = {}
    keys = list(zip(rows["patient"], rows["volume_path"], rows["question_id"], rows["target"], strict=True))
    for patient, volume, question, grade in keys:
        grades.setdefault(patient, {}).setdefault(volume, {})[question] = grade
    patients = np.random.default_rng(seed).permutation(sorted(grades)).tolist()
    donors = dict(zip(patients, patients[1:] + patients[:1], strict=True))
    targets = []
    for patient, volume, question, _ in keys:
        given = list(grades[donors[patient]].values())
        targets.append(given[list(grades[patient]).index(volume) % len(given)].get(question, 0))
    return Rows({**row, "target": target} for row, target in zip(rows, targets, strict=True))


def arguments_of(train_grader: ModuleType, out: Path, *more: str) -> argparse.Namespace:
    found: argparse.Namespace = train_grader.parser().parse_args(["--out", str(out), *more])
    return found


def test_main_resumes_to_the_same_bits(
    train_grader: ModuleType, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(name: str, *more: str) -> list[str]:
        folder = tmp_path / name
        options = ("--batch-size", "8", "--epochs", "3", "--save-every", "3", "--predictions", str(folder / "grades"))
        return ["--data", str(prepared), "--out", str(folder), *options, *more]

    train_grader.main(command("whole"))
    said = capsys.readouterr().out.splitlines()
    checkpoint = tmp_path / "killed" / "checkpoint.pt"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.Popen([sys.executable, str(EXAMPLE), *command("killed")], env=environment)
    while run.poll() is None and not (checkpoint.exists() and len(load(checkpoint)["history"]["loss"]) > 10):
        time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    left, end = load(checkpoint), load(tmp_path / "whole" / "checkpoint.pt")
    assert 10 < len(left["history"]["loss"]) < len(end["history"]["loss"])
    train_grader.main(command("killed", "--resume"))
    again = capsys.readouterr().out.splitlines()
    assert again == said[-len(again) :]
    resumed = load(checkpoint)
    assert (resumed.pop("loader"), resumed.pop("history")) == (end.pop("loader"), end.pop("history"))
    torch.testing.assert_close(resumed, end, rtol=0, atol=0)
    assert (tmp_path / "killed" / "grades").read_bytes() == (tmp_path / "whole" / "grades").read_bytes()


def load(checkpoint: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(checkpoint, weights_only=True)
    return found


def test_train_scores_last_checkpoint_on_resume(
    train_grader: ModuleType, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, held_out = (train_grader.graded(train_grader.load(prepared, split)) for split in ("train", "validation"))
    steps = len(rows) // 8
    options = ("--batch-size", "8", "--epochs", "2", "--save-every", str(steps))
    whole = train_grader.train(seeded(train_grader), rows, held_out, arguments_of(train_grader, tmp_path, *options))
    (tmp_path / "checkpoint.pt").unlink()

    def die(*_: object) -> None:
        raise KeyboardInterrupt("after the last step, before it was scored")

    with monkeypatch.context() as patch:
        patch.setattr(train_grader, "predict", die)
        with pytest.raises(KeyboardInterrupt, match="before it was scored"):
            train_grader.train(seeded(train_grader), rows, held_out, arguments_of(train_grader, tmp_path, *options))
    left = load(tmp_path / "checkpoint.pt")
    assert (left["loader"]["epoch"], len(left["history"]["loss"]), left["history"]["accuracy"]) == (1, steps, [])
    arguments = arguments_of(train_grader, tmp_path, *options, "--resume")
    assert train_grader.train(seeded(train_grader), rows, held_out, arguments) == whole


def seeded(train_grader: ModuleType) -> Any:
    torch.manual_seed(0)
    return train_grader.Grader()


def test_comparison_matches_scikit_learn(train_grader: ModuleType) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    count, patients = 600, 25
    held_out = {
        "id": [str(number) for number in range(count)],
        "patient": rng.integers(patients, size=count).astype(str).tolist(),
        "subregion": rng.choice(["a", "b"], size=count).tolist(),
        "target": rng.choice(4, size=count, p=(0.5, 0.3, 0.15, 0.05)).tolist(),
    }
    rows = {"subregion": ["a", "a", "b", "b", "b"], "target": [0, 0, 1, 1, 3]}
    true = np.array(held_out["target"])
    given = np.where(rng.random(count) < 0.6, true, rng.integers(4, size=count))
    guessed = np.where(np.array(held_out["subregion"]) == "a", 0, 1)
    found = train_grader.compare(rows, held_out, dict(zip(held_out["id"], given.tolist(), strict=True)))
    score = metrics.balanced_accuracy_score
    assert found.accuracy == pytest.approx(score(true, given))
    assert found.majority == pytest.approx(score(true, guessed))
    owners = np.array(held_out["patient"])
    gains = []
    for _ in range(400):
        drawn = rng.choice(np.unique(owners), size=len(np.unique(owners)))
        index = np.concatenate([np.flatnonzero(owners == name) for name in drawn])
        gains.append(score(true[index], given[index]) - score(true[index], guessed[index]))
    np.testing.assert_allclose((found.low, found.high), np.quantile(gains, (0.025, 0.975)), atol=0.02)
    assert found.patients == patients
    same = train_grader.compare(rows, held_out, dict(zip(held_out["id"], guessed.tolist(), strict=True)))
    assert (same.low, same.high) == (0, 0)
