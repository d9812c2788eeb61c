r"""Train a small 3D network to grade bone marrow lesions, and resume it exactly after a kill.

    python examples/train_grader.py --data 3dreasonknee --out grader
    python examples/train_grader.py --data 3dreasonknee --out grader --resume --predictions grader.jsonl
    reasonknee evaluate --data 3dreasonknee --predictions grader.jsonl --questions 1-15 --attributes size \
        --condition region_given --out report

The network sees the crop to a question's box alone, and learns the size of the lesion in it: grades 0 to 3. After each
epoch it is scored on the patients of the validation and test splits, on which nothing is chosen. At the end it is
compared with the best guess without a picture: the commonest grade of each subregion. Without --data it first makes
synthetic knees, which takes a minute or two.

On the CPU a resumed run ends in the same bits as an uninterrupted one. On a GPU it trains on the same examples, voxels
and order, and torch's own sums may differ in their last bits.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description="Train a small 3D network to grade bone marrow lesions.")
    found.add_argument("--data", type=Path, help="a prepared repository (default: synthetic knees, made in --out)")
    found.add_argument("--out", type=Path, default=Path("grader"), help="folder of checkpoint.pt (default: grader)")
    found.add_argument("--resume", action="store_true", help="resume from the checkpoint in --out, if there is one")
    found.add_argument("--predictions", type=Path, help="write the grades of the test split to this JSONL file")
    found.add_argument("--patients", type=int, default=80, help="synthetic patients, a quarter held out (default: 80)")
    found.add_argument("--epochs", type=int, default=4, help="passes over the train split (default: 4)")
    found.add_argument("--batch-size", type=int, default=32, help="questions in a step (default: 32)")
    found.add_argument("--learning-rate", type=float, default=3e-3, help="of AdamW (default: 3e-3)")
    found.add_argument("--workers", type=int, default=0, help="loader processes besides this one (default: 0)")
    found.add_argument("--save-every", type=int, default=50, help="steps between two checkpoints (default: 50)")
    found.add_argument("--seed", type=int, default=0, help="of weights and of the order (default: 0)")
    return found


if __name__ == "__main__":  # before torch is imported, so that --help works without it
    parser().parse_args()

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn

from reasonknee_datasets import (
    Compose,
    CropToBox,
    QuintupleCollator,
    ToCanonical,
    Window,
    load_dataset,
    make_dataloader,
)
from reasonknee_datasets.loader import prefetch_to_device
from reasonknee_datasets.phantom import write_release
from reasonknee_datasets.prepare import prepare
from reasonknee_datasets.transforms import Resize

FINDING, ATTRIBUTE, GRADES = "bone_marrow_lesion", "size", 4
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load(data: Path, split: str) -> Any:
    """Load the questions about the finding, with the grade to learn as a column; -1 where no reader recorded one."""
    rows = load_dataset(split=split, data_dir=data, filters=[("finding", "==", FINDING)])
    return rows.add_column("target", [-1 if grade is None else grade for grade in rows[f"grade_{ATTRIBUTE}"]])


def graded(rows: Any) -> Any:
    """Keep the rows with a grade."""
    return rows.select(np.flatnonzero(np.asarray(rows["target"]) >= 0))


def crop(jitter_mm: float = 0.0) -> Compose:
    """Crop to the box, in one orientation and size for all scans; no other voxel is read."""
    return Compose([ToCanonical(), CropToBox(jitter_mm=jitter_mm), Resize((16, 24, 24)), Window(0, 400)])


class Grader(nn.Module):
    """Two convolutions and a linear layer, from a crop to one number for each grade."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv3d(1, 16, 3, stride=2, padding=1), nn.BatchNorm3d(16), nn.ReLU()),
            *(nn.Conv3d(16, 32, 3, stride=2, padding=1), nn.BatchNorm3d(32), nn.ReLU()),
            *(nn.AdaptiveAvgPool3d(2), nn.Flatten(), nn.Linear(32 * 2**3, GRADES)),
        )

    def forward(self, batch: Mapping[str, Any]) -> torch.Tensor:
        """Score the grades of a collated batch."""
        scores: torch.Tensor = self.layers(batch["volume"])
        return scores


def train(model: nn.Module, rows: Any, held_out: Any, arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Train, score after each epoch and save; return the loss of each step and the accuracy of each epoch."""
    loader = make_dataloader(
        rows,
        batch_size=arguments.batch_size,
        shuffle=True,
        seed=arguments.seed,
        drop_last=True,  # batch normalisation fails on a last batch of one
        balance="target",  # most knees are sound: without it, always answering 0 would be good
        num_workers=arguments.workers,
        transform=crop(jitter_mm=2.0),
        collate_fn=QuintupleCollator(keep=("target",)),
        pin_memory=DEVICE.type == "cuda",
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=arguments.learning_rate)
    history: dict[str, list[float]] = {"loss": [], "accuracy": []}
    checkpoint = arguments.out / "checkpoint.pt"
    if arguments.resume and checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        loader.load_state_dict(saved["loader"])
        torch.set_rng_state(saved["random"])  # for random layers of a model, such as dropout
        history = saved["history"]

    def save() -> None:
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "loader": loader.state_dict()}
        part = checkpoint.with_suffix(".part")
        torch.save({**state, "random": torch.get_rng_state(), "history": history}, part)
        part.replace(checkpoint)  # atomic: a kill leaves the last checkpoint or this one, never a half of it

    with loader:
        for epoch in range(len(history["accuracy"]), arguments.epochs):
            model.train()
            for batch in prefetch_to_device(loader, DEVICE) if loader.epoch == epoch else ():
                loss = nn.functional.cross_entropy(model(batch), torch.tensor(batch["target"], device=DEVICE))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                history["loss"].append(loss.item())
                if len(history["loss"]) % arguments.save_every == 0:
                    save()
            predicted = predict(model, held_out, arguments.workers)
            history["accuracy"].append(balanced_accuracy(held_out["target"], [predicted[i] for i in held_out["id"]]))
            print(f"epoch {epoch}: balanced accuracy {history['accuracy'][-1]:.3f} on held-out patients", flush=True)
            save()
    return history


@torch.no_grad()
def predict(model: nn.Module, rows: Any, workers: int = 0) -> dict[str, int]:
    """Grade every row, by id."""
    model.eval()
    with make_dataloader(
        rows,
        batch_size=64,
        num_workers=workers,
        transform=crop(),
        collate_fn=QuintupleCollator(keep=()),
    ) as loader:
        return {
            name: grade
            for batch in prefetch_to_device(loader, DEVICE)
            for name, grade in zip(batch["id"], model(batch).argmax(1).tolist(), strict=True)
        }


def balanced_accuracy(true: ArrayLike, given: ArrayLike) -> float:
    """Return the recall of each grade that occurs, averaged."""
    truth, right = np.asarray(true), np.equal(true, given)
    return float(np.mean([right[truth == grade].mean() for grade in np.unique(truth)]))


class Comparison(NamedTuple):
    """The network against the majority: balanced accuracies, and the 95 % interval of their difference."""

    accuracy: float
    majority: float
    low: float
    high: float
    patients: int

    def __str__(self) -> str:
        gain = f"{self.accuracy - self.majority:+.3f} ({self.low:+.3f} to {self.high:+.3f})"
        return f"{self.accuracy:.3f} against {self.majority:.3f}: {gain} on {self.patients} patients"


def compare(rows: Any, held_out: Any, predicted: Mapping[str, int]) -> Comparison:
    """Compare with the commonest grade of each subregion in the train rows.

    The interval is bootstrapped over patients: the questions of one patient are not independent observations.
    """
    counts: dict[str, Counter[int]] = {}
    for subregion, grade in zip(rows["subregion"], rows["target"], strict=True):
        counts.setdefault(subregion, Counter())[grade] += 1
    guessed = [counts[subregion].most_common(1)[0][0] for subregion in held_out["subregion"]]
    given, true = [predicted[name] for name in held_out["id"]], np.asarray(held_out["target"])
    names, patients = np.unique(held_out["patient"], return_inverse=True)

    def tally(values: Any) -> Any:
        """Sum by patient and grade."""
        table = np.zeros((len(names), GRADES))
        np.add.at(table, (patients, true), values)
        return table

    draws = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), size=2000)
    gained = draws @ (tally(np.equal(given, true)) - tally(np.equal(guessed, true)))
    total = draws @ tally(1.0)
    gains = np.nanmean(np.divide(gained, total, out=np.full_like(gained, np.nan), where=total > 0), axis=1)
    low, high = np.quantile(gains, (0.025, 0.975)).tolist()
    return Comparison(balanced_accuracy(true, given), balanced_accuracy(true, guessed), low, high, len(names))


def make_phantom(folder: Path, patients: int) -> Path:
    """Make synthetic knees, or find those of an earlier run."""
    if not (folder / "release").exists():
        write_release(folder / "release", patients=patients)
    return prepare(folder / "release", folder / "3dreasonknee", volumes="link").path


def main(argv: Sequence[str] | None = None) -> Comparison:
    arguments = parser().parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    data = arguments.data or make_phantom(arguments.out / f"phantom-{arguments.patients}", arguments.patients)
    rows, held_out = graded(load(data, "train")), graded(load(data, "validation+test"))
    torch.manual_seed(arguments.seed)
    model = Grader().to(DEVICE)
    train(model, rows, held_out, arguments)
    found = compare(rows, held_out, predict(model, held_out, arguments.workers))
    if arguments.predictions:  # one line for each question of the test split, for `reasonknee evaluate`
        predicted = predict(model, load(data, "test"), arguments.workers)
        lines = [json.dumps({"id": name, "slots": {ATTRIBUTE: grade}}) + "\n" for name, grade in predicted.items()]
        arguments.predictions.write_text("".join(lines), encoding="utf-8")
    print(f"balanced accuracy {found}")
    return found


if __name__ == "__main__":
    main()
