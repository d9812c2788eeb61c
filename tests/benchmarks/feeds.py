"""The ways from files to collated batches that the benchmarks set side by side, each as its documentation has it.

Every one gives batches of the same keys for the same rows: ``id``, ``volume`` (B, 1, D, H, W), ``input_ids`` and
``labels``.
"""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol
from unittest.mock import patch

import nibabel as nib
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from reasonknee_datasets import Compose, QuintupleCollator, make_dataloader
from reasonknee_datasets.loader import ResumableLoader
from reasonknee_datasets.volumes import set_threads
from tests.benchmarks.knee_rows import Knees, Question, truth, windowed
from tests.benchmarks.peers import use_indexed_gzip

IGNORED = -100
Batches = Iterator[Mapping[str, Any]]


class Feed(Protocol):
    """A way from files to batches, with its workers at hand."""

    name: str

    def run(self, rows: Sequence[int]) -> Batches:
        """Return batches of some rows."""

    def close(self) -> None:
        """End the workers."""


class Ours:
    """This package's loader; it always gives whole epochs, in its own order.

    The main process reads with one thread where it works alone, as all others do.
    """

    name = "reasonknee_datasets"

    def __init__(
        self, knees: Knees, workers: int, *, batch_size: int = 8, volumes_in_flight: int = 4, **options: Any
    ) -> None:
        set_threads(1)
        tokenize = knees.tokenize()
        # As the others, who do not turn volumes to one orientation either.
        collate = QuintupleCollator(pad_token_id=tokenize.pad_token_id, orientation="any")
        transform = Compose([knees.crop, tokenize])
        usual = {"shuffle": True, "volumes_in_flight": volumes_in_flight, "transform": transform, "collate_fn": collate}
        options = usual | options
        self.loader: ResumableLoader = make_dataloader(
            knees.dataset, batch_size=batch_size, num_workers=workers, **options
        )

    def run(self, rows: Sequence[int] = ()) -> Batches:
        return iter(self.loader)

    def close(self) -> None:
        self.loader.close()
        set_threads(None)


class Chosen:
    """A sampler that is told what to give."""

    def __init__(self) -> None:
        self.rows: Sequence[int] = ()

    def __iter__(self) -> Iterator[int]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


class Peer:
    """A common way to read one crop, in torch's own ``DataLoader`` with the tokenizer called per example."""

    def __init__(self, name: str, crops: Crops, knees: Knees, workers: int, *, batch_size: int = 8) -> None:
        self.name, self._chosen = name, Chosen()
        self._loader = DataLoader(
            _Items(knees, crops),
            batch_size=batch_size,
            sampler=self._chosen,
            num_workers=workers,
            persistent_workers=workers > 0,
            collate_fn=_Padded(knees.tokenizer.pad_token_id),
        )

    def run(self, rows: Sequence[int]) -> Batches:
        self._chosen.rows = rows
        return iter(self._loader)

    def close(self) -> None:
        del self._loader


Crops = Callable[[Question], torch.Tensor]


class _Items(Dataset[dict[str, Any]]):
    def __init__(self, knees: Knees, crops: Crops) -> None:
        self._questions, self._crops, self._tokenizer = knees.questions, crops, knees.tokenizer

    def __getitem__(self, number: int) -> dict[str, Any]:
        question = self._questions[number]
        ids, labels = tokens_of(question, self._tokenizer)
        return {"id": question.id, "volume": self._crops(question)[None], "input_ids": ids, "labels": labels}


def tokens_of(question: Question, tokenizer: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Call the tokenizer for one example, without its chat template, which would cost more than the tokens."""
    prompt = tokenizer(question.prompt, add_special_tokens=False)["input_ids"]
    completion = tokenizer(question.completion, add_special_tokens=False)["input_ids"]
    return torch.tensor(prompt + completion), torch.tensor([IGNORED] * len(prompt) + completion)


class _Padded:
    def __init__(self, pad: int) -> None:
        self._pad = pad

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        def padded(name: str, value: int) -> torch.Tensor:
            rows = [item[name] for item in items]
            return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)

        return {
            "id": [item["id"] for item in items],
            "volume": torch.stack([item["volume"] for item in items]),
            "input_ids": padded("input_ids", self._pad),
            "labels": padded("labels", IGNORED),
        }


class Nifti:
    """A column of type `datasets.Nifti`, sliced as nibabel slices."""

    def __init__(self, knees: Knees) -> None:
        datasets = import_module("datasets")
        rows = datasets.Dataset.from_dict({"volume": [str(path) for path in knees.paths]})
        self._rows = rows.cast_column("volume", datasets.Nifti())
        self._numbers = {path: number for number, path in enumerate(knees.paths)}

    def __call__(self, question: Question) -> torch.Tensor:
        use_indexed_gzip(False)
        volume = self._rows[self._numbers[question.path]]["volume"]
        return torch.from_numpy(np.asarray(volume.dataobj[question.region]))


class Monai:
    """`LoadImage`, then `SpatialCrop`."""

    def __init__(self) -> None:
        transforms = import_module("monai.transforms")
        self._load = transforms.LoadImage(image_only=True, ensure_channel_first=True, dtype=None)
        self._crop = transforms.SpatialCrop

    def __call__(self, question: Question) -> torch.Tensor:
        use_indexed_gzip(False)
        cropped = self._crop(roi_slices=list(question.region))(self._load(str(question.path)))
        return torch.as_tensor(cropped.as_tensor()[0])


class MonaiPersistent:
    """`PersistentDataset` of whole volumes: the first read decodes and writes, all others load what was written."""

    def __init__(self, knees: Knees, folder: Path) -> None:
        data, transforms = import_module("monai.data"), import_module("monai.transforms")
        load = transforms.LoadImaged(keys="image", image_only=True, ensure_channel_first=True, dtype=None)
        self._numbers = {path: number for number, path in enumerate(knees.paths)}
        self._volumes = data.PersistentDataset([{"image": str(path)} for path in knees.paths], load, folder)
        self._folder = str(folder)
        self._crop = transforms.SpatialCrop

    def __call__(self, question: Question) -> torch.Tensor:
        use_indexed_gzip(False)
        # MONAI moves a temporary file into its cache: a copy between file systems, of which another worker reads half.
        with patch.object(tempfile, "tempdir", self._folder):
            volume = self._volumes[self._numbers[question.path]]["image"]
        cropped = self._crop(roi_slices=list(question.region))(volume)
        return torch.as_tensor(getattr(cropped, "as_tensor", lambda: cropped)()[0]).clone()


class TorchIO:
    """`ScalarImage`, then its data sliced."""

    def __init__(self) -> None:
        self._image = import_module("torchio").ScalarImage

    def __call__(self, question: Question) -> torch.Tensor:
        return torch.as_tensor(self._image(question.path).data[0][question.region]).clone()


class GetFdata:
    """The authors' way to read a volume: all of it as float64; cut and given as float32."""

    def __call__(self, question: Question) -> torch.Tensor:
        use_indexed_gzip(False)
        image: Any = nib.load(question.path)
        return torch.from_numpy(image.get_fdata()[question.region].astype(np.float32))


class Pngs:
    """The authors' way to feed a model: each volume is written once as PNG files of its slices along axis 0."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._image = import_module("PIL.Image")

    def __call__(self, question: Question) -> torch.Tensor:
        slices = self._written(question.path)
        i, j, k = question.region
        names = (slices / f"{number:03d}.png" for number in range(i.start, i.stop))
        return torch.from_numpy(np.stack([np.asarray(self._image.open(name))[j, k] for name in names]))

    def _written(self, path: Path) -> Path:
        slices = self._folder / f"{path.parent.name}-{path.name}"
        slices.mkdir(parents=True, exist_ok=True)
        with (slices / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (slices / "done").exists():
                use_indexed_gzip(False)
                image: Any = nib.load(path)
                for number, plane in enumerate(windowed(image.get_fdata())):
                    self._image.fromarray(plane).save(slices / f"{number:03d}.png")
                (slices / "done").touch()
        return slices


def verify(feed: Feed, knees: Knees, rows: Sequence[int], *, window: bool = False) -> int:
    """Hold a feed to the voxels that nibabel reads and the tokens of the texts; give how many rows came."""
    questions = {knees.questions[row].id: knees.questions[row] for row in rows}
    seen = []
    for batch in feed.run(rows):
        seen += batch["id"]
        for at, name in enumerate(batch["id"]):
            if (question := questions.get(name)) is not None:
                _verify_one(feed.name, batch, at, question, knees, window=window)
    missing = set(questions) - set(seen)
    if missing or len(set(seen)) != len(seen):
        raise AssertionError(f"{feed.name} must give every row once, got {len(seen)} rows, {len(missing)} missing")
    return len(seen)


def _verify_one(
    name: str, batch: Mapping[str, Any], at: int, question: Question, knees: Knees, *, window: bool
) -> None:
    expected = truth(question)
    expected = windowed(expected) if window else expected
    np.testing.assert_array_equal(
        batch["volume"][at, 0].numpy(), expected, err_msg=f"{name} must give the voxels of {question.id}"
    )
    ids, labels = tokens_of(question, knees.tokenizer)
    for key, wanted, filler in (("input_ids", ids, knees.tokenizer.pad_token_id), ("labels", labels, IGNORED)):
        row = batch[key][at]
        same = torch.equal(row[: len(wanted)], wanted) and bool((row[len(wanted) :] == filler).all())
        if not same:
            raise AssertionError(f"{name} must give the {key} of {question.id}")
