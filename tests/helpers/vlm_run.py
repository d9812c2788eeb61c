"""Runs of `examples/train_vlm.py` that keep what enters the model, in a process where torchvision is admitted."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from reasonknee_datasets import load_dataset
from reasonknee_datasets.phantom import write_release
from reasonknee_datasets.prepare import prepare
from tests.helpers.paths import ROOT
from tests.helpers.torchvision_on_cpu import admit

EXAMPLE = ROOT / "examples" / "train_vlm.py"
STEPS = 32
RUNS = {
    "video": ["--as", "video", "--frames", "12", "--rows", "2", "--steps", str(STEPS)],
    "images": ["--as", "images", "--frames", "6", "--rows", "4", "--turns", "2", "--steps", str(STEPS)],
    "again": ["--as", "video", "--frames", "12", "--rows", "2", "--steps", "1"],
}
PHANTOM = Path("phantom", "3dreasonknee")
SIZE = 56
# Mean and deviation by which Qwen2.5-VL's processors normalise.
MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
REFUSED = (["--size", "100"], ["--as", "video", "--frames", "7"])


def run(folder: Path) -> None:
    """Train as video on a phantom found by REASONKNEE_DATA, as images, and for a step more from the first run."""
    admit()
    import torch

    write_release(folder / "release", patients=2, size="tiny", seed=0, workers=1)
    prepare(folder / "release", folder / PHANTOM, workers=1, progress=False)
    os.environ["REASONKNEE_DATA"] = str(folder / PHANTOM)

    spec = importlib.util.spec_from_file_location("train_vlm", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    losses = {}
    for name, options in RUNS.items():
        if name == "again":
            options = [*options, "--model", str(as_on_the_hub(folder / "video", folder / "hub"))]
        seen: dict[str, list[Any]] = {"model": [], "eyes": []}
        watch(example, seen)
        if name != "video":
            options = [*options, "--data", str(folder / PHANTOM)]
        shared = ["--out", str(folder / name), "--size", str(SIZE), "--tokens", "8"]
        losses[name] = example.main([*shared, *options])
        torch.save({"first": first(seen, training=True), "asked": first(seen, training=False)}, folder / f"{name}.pt")
    (folder / "losses.json").write_text(json.dumps(losses))
    (folder / "refusals.json").write_text(json.dumps([refusal(example, options) for options in REFUSED]))
    data = load_dataset(split="train", data_dir=folder / PHANTOM).select(range(2))
    torch.save(collated(example, data, folder / "video"), folder / "collated.pt")
    (folder / "sampled.json").write_text(json.dumps([sampled(data, sampling=sampling) for sampling in (False, True)]))


def as_on_the_hub(saved: Path, folder: Path) -> Path:
    """Copy a model, with its processor in the form of Qwen2.5-VL's on the hub, and set to make frames smaller."""
    shutil.copytree(saved, folder)
    (folder / "processor_config.json").unlink()
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "min_pixels": 28**2,
                "max_pixels": 28**2,
                "patch_size": 14,
                "temporal_patch_size": 2,
                "merge_size": 2,
                "image_mean": MEAN,
                "image_std": DEVIATION,
                "image_processor_type": "Qwen2VLImageProcessor",
                "processor_class": "Qwen2_5_VLProcessor",
            }
        )
    )
    return folder


def refusal(example: Any, options: list[str]) -> str:
    """Return the messages about options that the example refuses."""
    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.suppress(SystemExit):
        example.main(options)
    return said.getvalue()


def watch(example: Any, seen: dict[str, list[Any]]) -> None:
    """Have the next model keep what it is called with, and what its vision tower is."""
    load = example.load

    def loaded(*arguments: Any) -> Any:
        example.load = load
        model, processor = load(*arguments)
        for name, module in (("model", model), ("eyes", model.model.visual)):
            module.register_forward_pre_hook(keep(seen[name]), with_kwargs=True)
        return model, processor

    example.load = loaded


def keep(calls: list[Any]) -> Any:
    def hook(module: Any, arguments: Any, named: dict[str, Any]) -> None:
        import torch

        places = dict(enumerate(arguments)) | named
        tensors = {str(name): value.clone() for name, value in places.items() if isinstance(value, torch.Tensor)}
        seconds = {name: list(value) for name, value in named.items() if name == "second_per_grid_ts"}
        calls.append({"training": module.training, **tensors, **seconds})

    return hook


def first(seen: dict[str, list[Any]], *, training: bool) -> dict[str, Any]:
    return {name: next(call for call in calls if call["training"] is training) for name, calls in seen.items()}


def collated(example: Any, data: Any, saved: Path) -> dict[str, Any]:
    """Collate the same questions with the example's collator and with TRL's own, which knows images only."""
    from transformers import AutoProcessor
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

    from reasonknee_datasets.transforms import ToConversation, ToFrames

    processor = AutoProcessor.from_pretrained(saved)
    frames = ToFrames(count=4, size=(SIZE, SIZE))
    rows = {
        style: [ToConversation(style, media="images", frames=frames)(row) for row in data]
        for style in ("trl", "trl_messages")
    }
    ours = example.encode(processor, rows["trl_messages"])
    ours["labels"] = example.label(ours["input_ids"], processor)
    theirs = DataCollatorForVisionLanguageModeling(processor)
    masked = DataCollatorForVisionLanguageModeling(processor, completion_only_loss=True)
    made = {"ours": ours, "theirs": theirs(rows["trl_messages"]), "masked": masked(rows["trl"])}
    return {name: dict(batch) for name, batch in made.items()}


def sampled(data: Any, *, sampling: bool) -> dict[str, Any]:
    """Return the output of a video processor for seven frames at four a second, with and without sampling."""
    from transformers import Qwen2VLVideoProcessor

    from reasonknee_datasets.transforms import ToConversation, ToFrames

    settings = {"cap_pixels_per_frame": False, "do_sample_frames": sampling, "fps": 2}
    processor = Qwen2VLVideoProcessor(size={"shortest_edge": 28**2, "longest_edge": 28**2 * 768}, **settings)
    rows = [ToConversation(frames=ToFrames(count=7, size=(56, 84)))(row) for row in data]
    given = ToConversation.processor_kwargs(rows)
    made = processor(**given, return_tensors="np", return_metadata=True)
    alone = processor(videos=given["videos"], video_metadata=given["video_metadata"], return_tensors="np")
    return {
        "grids": made["video_grid_thw"].tolist(),
        "fps": [metadata.sampled_fps for metadata in made["video_metadata"]],
        "without": alone["video_grid_thw"].tolist(),
    }


if __name__ == "__main__":
    run(Path(sys.argv[1]))
