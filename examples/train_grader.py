r"""Train a small 3D network to grade bone marrow lesions, be killed, and go on exactly where the last checkpoint stood.

    python examples/train_grader.py --data 3dreasonknee --out grader
    python examples/train_grader.py --data 3dreasonknee --out grader --resume --predictions grader.jsonl
    reasonknee evaluate --data 3dreasonknee --predictions grader.jsonl --questions 1-15 --attributes size \
        --condition region_given --out report

The network sees the box of a question and nothing else, and learns the size of the lesion in it: grades 0 to 3. After
each epoch it is scored on the patients of the validation and test splits, on which nothing is chosen, against the best
guess that needs no picture: the commonest grade of each subregion. Without --data it makes synthetic knees first, which
takes a minute or two.

On the CPU a run that was resumed ends in the same bits as one that never stopped. On a GPU it gets the same examples,
voxels and order, and torch's own sums may differ in their last bits.
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
    found.add_argument(
        "--out", type=Path, default=Path("grader"), help="for checkpoint.pt and curve.png (default: %(default)s)"
    )
    found.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out, if there is one")
    found.add_argument("--predictions", type=Path, help="a JSONL file for the grades of the test split")
    found.add_argument("--patients", type=int, default=80, help="how many synthetic ones; a quarter is held out")
    found.add_argument("--epochs", type=int, default=4)
    found.add_argument("--batch-size", type=int, default=32)
    found.add_argument("--learning-rate", type=float, default=3e-3)
    found.add_argument("--workers", type=int, default=0, help="processes that read, besides this one")
    found.add_argument("--save-every", type=int, default=50, help="steps from one checkpoint to the next")
    found.add_argument("--seed", type=int, default=0)
    return found


if __name__ == "__main__":  # before torch is imported, so that --help needs none of it
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
    """Load the questions about the finding, with the grade to learn as a column; -1 where no reader gave one."""
    rows = load_dataset(split=split, data_dir=data, filters=[("finding", "==", FINDING)])
    found = [{grade["attribute"]: grade["grade"] for grade in grades}[ATTRIBUTE] for grades in rows["grades"]]
    return rows.add_column("target", [-1 if grade is None else grade for grade in found])


def graded(rows: Any) -> Any:
    """Leave out what has no grade to learn or to be scored by."""
    return rows.select(np.flatnonzero(np.asarray(rows["target"]) >= 0))


def crop(jitter_mm: float = 0.0) -> Compose:
    """Look at the box alone, in one orientation and size whatever the scan's; no other voxel is read."""
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
        """Take what the collator gives."""
        scores: torch.Tensor = self.layers(batch["volume"])
        return scores


def train(model: nn.Module, rows: Any, held_out: Any, arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Train, score after each epoch, save as it goes; give the loss of each step and the accuracy of each epoch."""
    loader = make_dataloader(
        rows,
        batch_size=arguments.batch_size,
        shuffle=True,
        seed=arguments.seed,
        drop_last=True,  # batch normalisation fails on a last batch of one
        balance="target",  # most knees are sound: without it, 0 would be a good answer to everything
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
        torch.set_rng_state(saved["random"])  # for what a model draws by itself, such as dropout
        history = saved["history"]

    def save() -> None:
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "loader": loader.state_dict()}
        part = checkpoint.with_suffix(".part")
        torch.save({**state, "random": torch.get_rng_state(), "history": history}, part)
        part.replace(checkpoint)  # at once: whoever is killed here leaves the last checkpoint or this one, whole

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


# From here on: has anything been learnt?


def balanced_accuracy(true: ArrayLike, given: ArrayLike) -> float:
    """Average over the grades that occur: how many of each are found."""
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
    """Compare with the commonest grade of each subregion among the rows that were learnt from.

    The interval is bootstrapped over patients: the questions of one patient are not independent observations.
    """
    counts: dict[str, Counter[int]] = {}
    for subregion, grade in zip(rows["subregion"], rows["target"], strict=True):
        counts.setdefault(subregion, Counter())[grade] += 1
    guessed = [counts[subregion].most_common(1)[0][0] for subregion in held_out["subregion"]]
    given, true = [predicted[name] for name in held_out["id"]], np.asarray(held_out["target"])
    names, patients = np.unique(held_out["patient"], return_inverse=True)

    def tally(what: Any) -> Any:
        """Sum by patient and grade."""
        table = np.zeros((len(names), GRADES))
        np.add.at(table, (patients, true), what)
        return table

    draws = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), size=2000)
    gained = draws @ (tally(np.equal(given, true)) - tally(np.equal(guessed, true)))
    total = draws @ tally(1.0)
    gains = np.nanmean(np.divide(gained, total, out=np.full_like(gained, np.nan), where=total > 0), axis=1)
    low, high = np.quantile(gains, (0.025, 0.975)).tolist()
    return Comparison(balanced_accuracy(true, given), balanced_accuracy(true, guessed), low, high, len(names))


def draw(history: Mapping[str, Sequence[float]], found: Comparison, synthetic: bool, out: Path) -> None:
    """Draw the loss of each step and the accuracy after each epoch, compared with guessing."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.4), layout="constrained", dpi=120)
    left, right = figure.subplots(1, 2)
    steps, width = np.arange(1, len(history["loss"]) + 1), min(20, len(history["loss"]))
    mean = np.convolve(history["loss"], np.full(width, 1 / width), mode="valid")
    left.plot(steps, history["loss"], color="0.75", linewidth=0.8, label="each step")
    left.plot(steps[width - 1 :], mean, color="C0", label=f"mean of {width} steps")
    left.set(xlabel="step", ylabel="training loss (cross-entropy)", ylim=(0, None))
    left.set_title(f"{FINDING.replace('_', ' ')}, {ATTRIBUTE}", fontsize="medium")
    epochs = np.arange(1, len(history["accuracy"]) + 1)
    interval = [[found.accuracy - found.majority - found.low], [found.high + found.majority - found.accuracy]]
    right.axhline(found.majority, color="0.4", linestyle="--", label="commonest grade of each subregion")
    right.plot(epochs, history["accuracy"], "o-", color="C0", label="network")
    right.errorbar(epochs[-1:], [found.accuracy], yerr=interval, color="C0", capsize=4)
    right.set(xlabel="epoch", ylabel="balanced accuracy", ylim=(0, 1.02), xticks=epochs)
    right.set_title(f"{found.patients} held-out patients, 95 % interval over patients", fontsize="medium")
    for axes in (left, right):
        axes.legend(frameon=False, fontsize="small")
        axes.spines[["top", "right"]].set_visible(False)
    if synthetic:
        figure.suptitle("SYNTHETIC: no patient's data", color="C3", fontsize="medium")
    figure.savefig(out)


def make_phantom(folder: Path, patients: int) -> Path:
    """Make synthetic knees, or find those that an earlier run made."""
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
    history = train(model, rows, held_out, arguments)
    found = compare(rows, held_out, predict(model, held_out, arguments.workers))
    draw(history, found, any(rows["synthetic"]), arguments.out / "curve.png")
    if arguments.predictions:  # one line a question of the test split, for `reasonknee evaluate`
        predicted = predict(model, load(data, "test"), arguments.workers)
        lines = [json.dumps({"id": name, "slots": {ATTRIBUTE: grade}}) + "\n" for name, grade in predicted.items()]
        arguments.predictions.write_text("".join(lines), encoding="utf-8")
    print(f"balanced accuracy {found}")
    return found


if __name__ == "__main__":
    main()
