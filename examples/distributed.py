"""Train on two ranks, interrupt the run, and resume it on one rank.

    torchrun --nproc-per-node 2 examples/distributed.py --data 3dreasonknee --out run --stop-after 20
    python examples/distributed.py --data 3dreasonknee --out run

The example shows the loader; its model is too small to learn much. Both ranks take their part of one global order,
decode each volume once between them, and save one small state with the weights. A run that resumes from this state, on
any number of ranks and with any batch size, trains on the rest of the epoch, each example once.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description="Train on several ranks, and resume on any number.")
    found.add_argument(
        "--data", type=Path, help="a prepared repository (default: REASONKNEE_DATA, ./3dreasonknee, or else a phantom)"
    )
    found.add_argument(
        "--out", type=Path, default=Path("distributed"), help="checkpoint and log (default: %(default)s)"
    )
    found.add_argument("--batch-size", type=int, default=4, help="examples of a rank in a step (default: 4)")
    found.add_argument("--workers", type=int, default=0, help="worker processes of each rank (default: 0)")
    found.add_argument("--seed", type=int, default=0)
    found.add_argument("--stop-after", type=int, help="stop after N steps, as if interrupted", metavar="N")
    return found


if __name__ == "__main__":  # before torch is imported, so that --help works without it
    parser().parse_args()

import torch
import torch.distributed as dist
from torch import nn

from reasonknee_datasets import load_dataset
from reasonknee_datasets.collate import QuintupleCollator
from reasonknee_datasets.loader import make_dataloader, prefetch_to_device
from reasonknee_datasets.transforms import Compose, CropToBox, ToCanonical

SIZE = (16, 32, 32)


def train(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train for the rest of the epoch or ``--stop-after`` steps; return this rank's ids, loader state and decodes."""
    device = torch.device("cuda", dist.get_rank() % torch.cuda.device_count()) if torch.cuda.is_available() else "cpu"
    loader = make_dataloader(
        load_dataset(split="train", data_dir=arguments.data),
        batch_size=arguments.batch_size,
        shuffle=True,
        seed=arguments.seed,
        num_workers=arguments.workers,
        transform=Compose([ToCanonical(), CropToBox(size=SIZE, jitter_mm=2.0)]),
        collate_fn=QuintupleCollator(keep=()),
        volumes_in_flight=4,  # few, since the phantom has few
        pin_memory=torch.cuda.is_available(),
    )
    torch.manual_seed(arguments.seed)
    model = nn.parallel.DistributedDataParallel(
        nn.Sequential(nn.AvgPool3d(4), nn.Flatten(), nn.Linear(4 * 8 * 8, 4)).to(device)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    checkpoint = arguments.out / "checkpoint.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        model.module.load_state_dict(saved["model"])
        loader.load_state_dict(saved["loader"])
    seen: list[list[str]] = []
    for step, batch in enumerate(prefetch_to_device(loader, device, transform=to_unit_range), 1):
        loss = masked_loss(model(batch["volume"]), batch["grades"][:, 0], batch["valid"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append([name for name, valid in zip(batch["id"], batch["valid"].tolist(), strict=True) if valid])
        if step == arguments.stop_after:
            break
    if dist.get_rank() == 0:
        torch.save({"model": model.module.state_dict(), "loader": loader.state_dict()}, checkpoint)
    dist.barrier()
    info = loader.shared_info()
    return {"seen": seen, "state": loader.state_dict(), "decodes": info.decodes if info else None}


def to_unit_range(batch: Any) -> Any:
    """Window on the device, so that 16-bit integers are copied to it and not floats."""
    return batch.cast(torch.float32, window=(0, 400))


def masked_loss(scores: torch.Tensor, grades: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Compute the loss of the first grade of each question; missing grades and repeated examples have none."""
    counts = (valid & (grades >= 0) & (grades < scores.shape[1])).float()
    losses = nn.functional.cross_entropy(scores, grades.clamp(0, scores.shape[1] - 1), reduction="none")
    return (losses * counts).sum() / counts.sum().clamp(min=1)


def in_global_order(ranks: Sequence[dict[str, Any]]) -> Iterable[str]:
    """Return the ids in the global order: step by step, rank by rank."""
    return [name for step in zip(*(rank["seen"] for rank in ranks), strict=True) for batch in step for name in batch]


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parser().parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    if dist.is_torchelastic_launched():
        dist.init_process_group("gloo")
    else:  # one process alone
        dist.init_process_group(
            "gloo", init_method=f"file://{arguments.out.absolute()}/rendezvous", rank=0, world_size=1
        )
    try:
        found = train(arguments)
        ranks: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(ranks, found)
        if dist.get_rank() == 0:
            ids = list(in_global_order(ranks))
            with (arguments.out / "seen.jsonl").open("a", encoding="utf-8") as log:
                log.writelines(json.dumps(name) + "\n" for name in ids)
            state = ranks[0]["state"]
            print(f"{len(ranks)} ranks took {len(ids)} examples and decoded {ranks[0]['decodes']} volumes between them")
            print(
                f"next: epoch {state['epoch']}, position {state['position']}; all ranks agree: "
                f"{all(rank['state'] == state for rank in ranks)}"
            )
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
