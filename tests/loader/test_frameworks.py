"""Hugging Face Trainer, accelerate, Lightning and torchdata over the loader, each through a checkpoint and a resume."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import datasets
import pytest

pytest.importorskip("torch")

import torch
from torch import nn

from reasonknee_datasets.errors import LoaderError
from reasonknee_datasets.loader import ResumableLoader, make_dataloader

pytestmark = pytest.mark.slow

SIZES = [4] * 9 + [2]  # 38 rows: with four to a batch, nine whole batches and one of two
BATCHES = 10


def rows() -> list[dict[str, Any]]:
    return [
        {"id": f"{volume + 1:07d}/00M/left/q{question:02d}", "volume_path": f"{volume}", "box": [0, 0, 0, 1, 1, 1]}
        for volume, questions in enumerate(SIZES)
        for question in range(1, questions + 1)
    ]


def new_loader(*, stream: bool = False, shuffled: bool = False, **options: Any) -> ResumableLoader:
    if stream:
        dataset = datasets.Dataset.from_list(rows()).to_iterable_dataset(3)
        return make_dataloader(dataset.shuffle(5, buffer_size=9) if shuffled else dataset, batch_size=4, **options)
    return make_dataloader(rows(), batch_size=4, **({"shuffle": True, "seed": 3, "volumes_in_flight": 3} | options))


def epochs(count: int = 2, *, stream: bool = False, **options: Any) -> list[list[str]]:
    """List the batches of whole epochs, as a plain loop takes them."""
    loader = new_loader(stream=stream, **options)
    return [batch["id"] for _ in range(count) for batch in loader]


class Recorder(nn.Module):
    """A model that notes the ids that it is trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.seen: list[list[str]] = []

    def forward(self, id: list[str], **others: Any) -> dict[str, torch.Tensor]:
        self.seen.append(list(id))
        return {"loss": (self.weight**2).sum()}


# Settings of a loader.


@pytest.mark.parametrize("stream", [False, True])
def test_loader_has_what_torch_loaders_have(stream: bool) -> None:
    loader, stock = new_loader(stream=stream, num_workers=1), torch.utils.data.DataLoader([1], num_workers=1)
    names = [name for name in vars(stock) if not name.startswith("_")] + ["sampler", "batch_sampler", "dataset"]
    lacking = [name for name in names if not hasattr(loader, name)]
    assert set(lacking) <= {"in_order", "pin_memory_device"}, lacking  # libraries have defaults for these
    assert loader.num_workers == 1
    assert (loader.batch_size, loader.drop_last) == (4, False)
    assert not isinstance(loader, torch.utils.data.DataLoader)  # else libraries would deal its batches out again
    loader.close()


def test_loader_without_an_attribute_says_so() -> None:
    with pytest.raises(AttributeError, match="'ResumableLoader' object has no attribute 'smapler'"):
        _ = new_loader().smapler


def test_dataset_of_a_loader_has_the_rows() -> None:
    loader = new_loader()
    assert len(loader.dataset) == 38
    assert loader.dataset[5] == rows()[5]


@pytest.mark.parametrize(("workers", "stream"), [(0, False), (2, False), (2, True)])
def test_batch_sampler_drives_a_stock_loader(workers: int, stream: bool) -> None:
    loader = new_loader(stream=stream)
    stock = torch.utils.data.DataLoader(
        loader.dataset, batch_sampler=loader.batch_sampler, collate_fn=loader.collate_fn, num_workers=workers
    )
    assert [batch["id"] for _ in range(2) for batch in stock] == epochs(stream=stream)
    loader.batch_sampler.set_epoch(0)
    assert [batch["id"] for batch in stock] == epochs(1, stream=stream)


# accelerate.


@pytest.mark.parametrize(("workers", "stream"), [(0, False), (1, False), (0, True), (1, True)])
def test_accelerate_skips_the_first_batches(workers: int, stream: bool) -> None:
    accelerate = pytest.importorskip("accelerate")
    loader = accelerate.Accelerator(cpu=True).prepare(new_loader(stream=stream, num_workers=workers))
    skipped = accelerate.skip_first_batches(loader, 3)
    expected = epochs(stream=stream)
    assert [batch["id"] for batch in skipped] == expected[3:BATCHES]
    with pytest.raises(
        LoaderError, match="position of this loader is not known: another loader iterates its batch_sampler"
    ):
        loader.state_dict()
    assert [batch["id"] for batch in loader] == expected[BATCHES:]
    assert loader.state_dict()["epoch"] == 2


@pytest.mark.parametrize(("workers", "stream"), [(0, False), (1, False), (1, True)])
def test_accelerate_saves_and_loads_the_state(tmp_path: Path, workers: int, stream: bool) -> None:
    accelerate = pytest.importorskip("accelerate")
    seen: list[list[str]] = []
    for stop in (BATCHES + 3, None):
        accelerator = accelerate.Accelerator(cpu=True)
        model = Recorder()
        model, optimizer, loader = accelerator.prepare(
            model, torch.optim.SGD(model.parameters(), lr=0.1), new_loader(stream=stream, num_workers=workers)
        )
        accelerator.register_for_checkpointing(loader)
        if stop is None:
            accelerator.load_state(str(tmp_path / "state"))
        stepped = 0
        while loader.epoch < 2 and stepped != stop:
            for batch in loader:
                accelerator.backward(model(**batch)["loss"])
                optimizer.step()
                stepped += 1
                if stepped == stop:
                    accelerator.save_state(str(tmp_path / "state"))
                    break
        seen += model.seen
    assert seen == epochs(stream=stream)


# The Hugging Face Trainer.


def train(folder: Path, loader: ResumableLoader, *, resume: Any = None, **options: Any) -> list[list[str]]:
    transformers = pytest.importorskip("transformers")

    class Trainer(transformers.Trainer):  # type: ignore[misc,name-defined]
        def get_train_dataloader(self) -> Any:
            return loader

    arguments = {"max_steps": 2 * BATCHES, "save_steps": BATCHES + 3, "report_to": [], "disable_tqdm": True}
    settings = transformers.TrainingArguments(str(folder), use_cpu=True, **(arguments | options))
    model = Recorder()
    Trainer(model, settings, train_dataset=rows()).train(resume_from_checkpoint=resume)
    return model.seen


@pytest.mark.parametrize(("workers", "stream"), [(0, False), (2, False), (2, True)])
def test_trainer_resumes_within_an_epoch(tmp_path: Path, workers: int, stream: bool) -> None:
    expected = epochs(stream=stream)
    assert train(tmp_path, new_loader(stream=stream, num_workers=workers)) == expected
    checkpoint = str(tmp_path / f"checkpoint-{BATCHES + 3}")
    resumed = train(tmp_path, new_loader(stream=stream, num_workers=workers), resume=checkpoint)
    if not stream:  # where no length is known, the Trainer takes max_steps for the length of an epoch
        assert resumed == expected[BATCHES + 3 :]
    assert len(resumed) == BATCHES - 3


def test_trainer_may_leave_skipping_to_the_loader(tmp_path: Path) -> None:
    first = new_loader()
    for _ in first:
        pass
    batches = iter(first)
    for _ in range(3):
        next(batches)
    assert len(train(tmp_path, new_loader())) == 2 * BATCHES
    loader = new_loader()
    loader.load_state_dict(first.state_dict())
    checkpoint = str(tmp_path / f"checkpoint-{BATCHES + 3}")
    assert train(tmp_path, loader, resume=checkpoint, ignore_data_skip=True) == epochs()[BATCHES + 3 :]


def test_trainer_with_loaded_state_skips_once(tmp_path: Path) -> None:
    first = new_loader()
    first.load_state_dict({**first.state_dict(), "epoch": 1, "position": 12})
    train(tmp_path, new_loader())
    checkpoint = str(tmp_path / f"checkpoint-{BATCHES + 3}")
    assert train(tmp_path, first, resume=checkpoint) == epochs()[BATCHES + 3 :]


# Lightning.


@pytest.fixture
def lightning() -> Any:
    module = pytest.importorskip("lightning.pytorch")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    return module


def fit(lightning: Any, folder: Path, loader: ResumableLoader, *, resume: str | None = None) -> list[list[str]]:
    class Module(lightning.LightningModule):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.model = Recorder()

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            return self.model(**batch)["loss"]

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    saver = lightning.callbacks.ModelCheckpoint(folder, filename="{step}", every_n_train_steps=1, save_top_k=-1)
    trainer = lightning.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[saver],
    )  # fmt: skip
    module = Module()
    trainer.fit(module, loader, ckpt_path=resume)
    return module.model.seen


@pytest.mark.filterwarnings("ignore::UserWarning:lightning")
@pytest.mark.filterwarnings("ignore:.*(weights_only|isinstance).*")
@pytest.mark.parametrize(("workers", "stream"), [(0, False), (0, True), (2, True)])
def test_lightning_resumes_after_any_step(lightning: Any, tmp_path: Path, workers: int, stream: bool) -> None:
    expected = epochs(stream=stream, shuffled=True)
    options: dict[str, Any] = {"stream": stream, "shuffled": True}
    assert fit(lightning, tmp_path, new_loader(**options, num_workers=workers)) == expected
    for step in (1, BATCHES - 1, BATCHES, BATCHES + 4) if workers == 0 else (BATCHES + 4,):
        loader = new_loader(**options, num_workers=workers)
        resumed = fit(lightning, tmp_path / "resumed", loader, resume=str(tmp_path / f"step={step}.ckpt"))
        assert resumed == expected[step:], step


@pytest.mark.filterwarnings("ignore::UserWarning:lightning")
@pytest.mark.filterwarnings("ignore:.*(weights_only|isinstance).*")
@pytest.mark.parametrize("stream", [False, True])
def test_lightning_resumes_over_batches_of_any_type(lightning: Any, tmp_path: Path, stream: bool) -> None:
    options: dict[str, Any] = {"stream": stream, "shuffled": True, "collate_fn": ids_alone}
    expected = fit(lightning, tmp_path, new_loader(**options))
    assert expected == epochs(stream=stream, shuffled=True)
    for step in (1, BATCHES - 1, BATCHES, BATCHES + 4):
        resumed = fit(lightning, tmp_path / "on", new_loader(**options), resume=str(tmp_path / f"step={step}.ckpt"))
        assert resumed == expected[step:], step


def ids_alone(examples: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": [example["id"] for example in examples]}


def test_without_its_trainer_lightning_changes_nothing(lightning: Any) -> None:
    """A batch that a plain loop has not read from counts as seen, though Lightning is imported."""
    loader = new_loader(stream=True)
    batches = iter(loader)
    for step in (1, 2, 3):
        kept = next(batches)
        assert loader.state_dict()["position"] == 4 * step
    assert kept["id"] == epochs(1, stream=True)[2]
    assert loader.state_dict()["position"] == 12


# torchdata.


@pytest.mark.parametrize(("workers", "stream"), [(0, False), (2, False), (0, True)])
def test_stateful_dataloader_resumes(workers: int, stream: bool) -> None:
    stateful = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader

    def make() -> Any:
        loader = new_loader(stream=stream)
        return stateful(
            loader.dataset, batch_sampler=loader.batch_sampler, collate_fn=loader.collate_fn, num_workers=workers
        )

    first, seen = make(), []
    batches = iter(first)
    seen = [next(batches)["id"] for _ in range(4)]
    state = first.state_dict()
    second = make()
    second.load_state_dict(state)
    assert seen + [batch["id"] for batch in second] == epochs(1, stream=stream)
