"""Questions about size-oai knees in a prepared repository: what the training benchmarks load, by whatever way."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets import CropToBox, TokenizeReasoning, load_dataset
from reasonknee_datasets.phantom import write_release
from reasonknee_datasets.phantom.scan_grids import Size
from reasonknee_datasets.prepare import prepare
from tests.helpers.tiny_tokenizers import wrapped

Region = tuple[slice, slice, slice]


@dataclass(frozen=True, slots=True)
class Question:
    """One row as a peer gets it: the file, the voxels to cut out of it, and the two texts that become tokens.

    The peers need not find any of that out by themselves.
    """

    id: str
    path: Path
    region: Region
    prompt: str
    completion: str


@dataclass(frozen=True)
class Knees:
    """The rows as this package loads them, and the same ones for the other libraries."""

    dataset: Any
    questions: tuple[Question, ...]
    crop: CropToBox
    tokenizer: Any

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files, each once."""
        return tuple(dict.fromkeys(question.path for question in self.questions))

    def tokenize(self) -> TokenizeReasoning:
        """Make the transform that writes the two texts."""
        return TokenizeReasoning(self.tokenizer, "plain")

    def of(self, paths: Sequence[Path]) -> list[int]:
        """Number the questions about some files."""
        return [number for number, question in enumerate(self.questions) if question.path in set(paths)]

    def renew(self) -> None:
        """Make all files new ones to this package, which knows a file by its time of change among others."""
        now = time.time_ns()
        for path in self.paths:
            os.utime(path, ns=(now, now))


def make_knees(folder: Path, *, size: Size, patients: int, crop: tuple[int, int, int]) -> Knees:
    """Draw patients, prepare them, and load all of them."""
    release, repository = folder / "release", folder / "3dreasonknee"
    if not repository.exists():
        write_release(release, patients=patients, size=size, seed=7)
        prepare(release, repository, progress=False)
    return load_knees(repository, crop=crop)


def load_knees(repository: Path, *, crop: tuple[int, int, int], volumes: int | None = None) -> Knees:
    """Load the rows of all splits, or of so many volumes; a volume too thin for the crop is left out."""
    from datasets import concatenate_datasets

    cache = str(repository.parent / "arrow")
    rows = concatenate_datasets([load_dataset(split=name, data_dir=repository, cache_dir=cache) for name in _SPLITS])
    paths = list(dict.fromkeys(rows["volume_path"]))
    shapes = {path: nib.load(repository / path).shape for path in paths}
    fitting = [path for path in paths if all(low <= high for low, high in zip(crop, shapes[path], strict=True))]
    kept = set(fitting[:volumes])
    rows = rows.select([number for number, path in enumerate(rows["volume_path"]) if path in kept])
    cut, tokenizer = CropToBox(size=crop, pad_value=None), wrapped("qwen")
    return Knees(rows, tuple(_question(cut(row), repository, tokenizer) for row in rows), cut, tokenizer)


_SPLITS = ("train", "validation", "test")


def _question(row: dict[str, Any], repository: Path, tokenizer: Any) -> Question:
    low, high = row["region"][:3], row["region"][3:]
    i, j, k = (slice(start, stop) for start, stop in zip(low, high, strict=True))
    prompt = f"{tokenizer.bos_token}{row['question']}\n"
    box = json.dumps(row["box"])
    reasoning = "\n".join(row["reasoning"])
    completion = f"{reasoning}\n\nBounding box: {box}\n\nFinal diagnosis: {row['answer']}{tokenizer.eos_token}"
    return Question(row["id"], repository / row["volume_path"], (i, j, k), prompt, completion)


def truth(question: Question) -> NDArray[Any]:
    """Read the voxels of a question by nibabel, as the reference."""
    return np.asarray(_whole(question.path)[question.region])


@lru_cache(maxsize=2)
def _whole(path: Path) -> NDArray[Any]:
    return np.asanyarray(nib.load(path).dataobj)


def windowed(voxels: NDArray[Any]) -> NDArray[np.uint8]:
    """Return 8 bits a voxel as the authors' window has them: values from 0 to 400."""
    return np.rint(np.clip(voxels, 0, 400) * (255 / 400)).astype(np.uint8)
