"""A training run in miniature, for tests that kill it: it logs what it was handed and saves its state as it goes."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from pathlib import Path
from typing import Any

from reasonknee_datasets import load_dataset
from reasonknee_datasets.loader import make_dataloader
from reasonknee_datasets.transforms import CropToBox

SAVE_EVERY = 3


def run(repository: Path, folder: Path, batch_size: int, workers: int, steps: int) -> None:
    """Train; after so many steps, kill this process in the way that nothing can catch. 0 finishes the epoch."""
    rows = load_dataset(split="train", data_dir=repository, cache_dir=str(folder / "cache")).remove_columns("grades")
    loader = make_dataloader(
        rows,
        batch_size=batch_size,
        shuffle=True,
        seed=5,
        num_workers=workers,
        transform=CropToBox(size=(4, 5, 6), jitter_mm=1.0),
        volumes_in_flight=3,
        share_volumes=folder,
    )
    saved = folder / "state.json"
    if saved.exists():
        loader.load_state_dict(json.loads(saved.read_text()))
    with (folder / f"log-{os.getpid()}.jsonl").open("w") as log:
        for step, batch in enumerate(loader, 1):
            for at, name in enumerate(batch["id"]):
                log.write(json.dumps([name, digest(batch, at)]) + "\n")
            if step % SAVE_EVERY == 0:
                log.write(json.dumps("saved") + "\n")
                passing = folder / "state.part"
                passing.write_text(json.dumps(loader.state_dict()))
                passing.replace(saved)
            log.flush()
            if step == steps:
                os.kill(os.getpid(), signal.SIGKILL)


def digest(batch: Any, at: int) -> str:
    """Hash voxels and box."""
    data = batch["volume"][at].numpy().tobytes() + str(batch["boxes"][at].tolist()).encode()
    return hashlib.sha256(data).hexdigest()[:16]
