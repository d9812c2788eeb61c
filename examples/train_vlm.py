"""Fine-tune Qwen2.5-VL on questions about knees, with TRL.

    python examples/train_vlm.py  # a tiny random model; without data a tiny phantom
    python examples/train_vlm.py --model Qwen/Qwen2.5-VL-3B-Instruct --data 3dreasonknee --frames 32 --size 392

Slices become the frames of a video, or as many images. The model sees every frame once, in order and at its size.
Several questions of one volume may share a conversation; the loss runs over the answers alone. All weights are trained;
to save memory, pass a `peft_config` to `SFTTrainer`.

It needs torchvision, as Qwen2.5-VL's processor does: pip install "reasonknee_datasets[train]" torchvision
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

# torch, transformers and TRL are imported in the functions that need them, so that --help works without them.
from reasonknee_datasets import load_dataset
from reasonknee_datasets.transforms import ToConversation, ToFrames

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from transformers import Qwen2_5_VLConfig
    from trl import SFTTrainer

# Chat template of the tiny model, in the form of Qwen2.5-VL's own.
CHAT = """{% for message in messages %}{% if loop.first and message.role != 'system' %}<|im_start|>system
You are a helpful assistant.<|im_end|>
{% endif %}<|im_start|>{{ message.role }}
{% for block in message.content %}{% if block.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>\
{% elif block.type == 'video' %}<|vision_start|><|video_pad|><|vision_end|>\
{% else %}{{ block.text }}{% endif %}{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
SPECIAL = ["endoftext", "im_start", "im_end", "vision_start", "vision_end", "image_pad", "video_pad"]


def load(name: str | None, data: Any, pixels: int) -> tuple[Any, Any]:
    """Load model and processor, or make tiny ones; the processor does not resize frames of so many pixels."""
    import torch
    from transformers import (
        AutoProcessor,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2Tokenizer,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    size = {"min_pixels": pixels, "max_pixels": pixels}
    if name is not None:
        model = Qwen2_5_VLForConditionalGeneration.from_pretrained(name, dtype="auto")
        return model, AutoProcessor.from_pretrained(name, **size)
    print("model    a tiny one with random weights, which can only memorise (--model names a real one)")
    known, special = data.select_columns(["question", "reasoning", "answer"])[:200], [f"<|{name}|>" for name in SPECIAL]
    texts = [*known["question"], *("\n".join(steps) for steps in known["reasoning"]), *known["answer"]]
    tokenizer = Qwen2Tokenizer(eos_token="<|im_end|>").train_new_from_iterator(
        texts, 1000, new_special_tokens=special, show_progress=False
    )
    videos = Qwen2VLVideoProcessor(**size, cap_pixels_per_frame=False)
    processor = Qwen2_5_VLProcessor(Qwen2VLImageProcessor(**size), tokenizer, videos, chat_template=CHAT)
    torch.manual_seed(0)
    return Qwen2_5_VLForConditionalGeneration(tiny(tokenizer)), processor


def tiny(tokenizer: Any) -> Qwen2_5_VLConfig:
    """Configure a model of 0.2 million weights for the words of a tokenizer."""
    from transformers import Qwen2_5_VLConfig

    ids = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in SPECIAL}
    wide = {"hidden_size": 64, "intermediate_size": 128, "vocab_size": len(tokenizer)}
    deep = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]}
    ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    eyes = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 64}
    return Qwen2_5_VLConfig(
        text_config={**wide, **deep, **ends, "rope_parameters": rope},
        vision_config={**eyes, "fullatt_block_indexes": [1], "tokens_per_second": 2},
        image_token_id=ids["image_pad"],
        video_token_id=ids["video_pad"],
        vision_start_token_id=ids["vision_start"],
        vision_end_token_id=ids["vision_end"],
    )


def converse(data: Any, to: ToConversation, crop: Callable[[Any], Any] = dict) -> Dataset:
    """Return a dataset of conversations; each is made, and its volume decoded, when the trainer asks for it."""
    from datasets import Dataset

    volumes = list(data["volume_path"])
    runs = [list(run) for _, run in groupby(range(len(data)), key=volumes.__getitem__)]
    groups = [run[first : first + to.turns] for run in runs for first in range(0, len(run), to.turns)]

    def make(batch: dict[str, list[list[int]]]) -> dict[str, list[Any]]:
        rows = [to(crop(data[places])) for places in batch["questions"]]
        return {name: [value for row in rows for value in row[name]] for name in rows[0]}

    return Dataset.from_dict({"questions": groups}).with_transform(make)


def encode(processor: Any, rows: Sequence[dict[str, Any]], *, ask: bool = False) -> Any:
    """Return the model's inputs for a batch of conversations, pictures included."""
    texts = processor.apply_chat_template([row["messages"] for row in rows], add_generation_prompt=ask)
    return processor(text=texts, padding=True, return_tensors="pt", **ToConversation.processor_kwargs(rows))


def label(ids: torch.Tensor, processor: Any) -> torch.Tensor:
    """Return labels of the answers alone, each with the token that ends it."""
    import torch

    start = processor.tokenizer("<|im_start|>assistant\n")["input_ids"]
    end, labels = processor.tokenizer.convert_tokens_to_ids("<|im_end|>"), torch.full_like(ids, -100)
    for line, row in enumerate(ids.tolist()):
        for place in range(len(start), len(row)):
            if row[place - len(start) : place] == start:
                answer = slice(place, row.index(end, place) + 1)
                labels[line, answer] = ids[line, answer]
    return labels


def make_trainer(model: Any, processor: Any, rows: Dataset, settings: dict[str, Any], arguments: Any) -> SFTTrainer:
    """Set TRL up, with a collator of our own, since TRL's supports images only."""
    import torch
    from trl import SFTConfig, SFTTrainer

    def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
        batch = encode(processor, rows)
        return {**batch, "labels": label(batch["input_ids"], processor)}

    gpu = torch.cuda.is_available()
    config = SFTConfig(
        output_dir=str(arguments.out),
        max_steps=arguments.steps,
        per_device_train_batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate or (1e-5 if arguments.model else 5e-3),
        bf16=gpu,
        use_cpu=not gpu,
        logging_steps=1,
        save_strategy="no",
        # No answer and no placeholder of a picture is cut; the collator above masks the questions.
        **{**settings, "assistant_only_loss": False},
    )
    return SFTTrainer(model, config, collate, train_dataset=rows, processing_class=processor)


def main(argv: Sequence[str] | None = None) -> list[float]:
    """Fine-tune, save and answer a question; return the loss of every step."""
    arguments = read_arguments(argv)
    check_torchvision()
    data = load_dataset(split="train", data_dir=arguments.data)
    data = data if arguments.rows is None else data.select(range(min(arguments.rows, len(data))))
    frames = ToFrames(count=arguments.frames, size=(arguments.size, arguments.size))
    to = ToConversation("trl_messages", turns=arguments.turns, media=arguments.media, frames=frames)
    rows = converse(data, to)
    model, processor = load(arguments.model, data, arguments.size**2)
    trainer = make_trainer(model, processor, rows, to.settings(rows[0]), arguments)
    trainer.train()
    trainer.save_model()  # and the processor with it
    losses = [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
    print(f"loss     {losses[0]:.3f} at first, {losses[-1]:.3f} after {len(losses)} steps; saved in {arguments.out}")
    inputs = encode(processor, [replace(to, turns=1, for_generation=True)(data[0])], ask=True).to(model.device)
    written = model.eval().generate(**inputs, max_new_tokens=arguments.tokens, do_sample=False)
    answer = processor.decode(written[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    print(f"asked    {data[0]['question']!r}\nanswered {answer!r}")
    return losses


def check_torchvision() -> None:
    """Stop if torchvision is missing or was built for another torch; transformers' own error does not name it."""
    import torch

    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError, AttributeError, OSError) as error:
        raise SystemExit(
            f"Qwen2.5-VL's processor needs a torchvision that fits torch {torch.__version__}. Importing torchvision "
            f"failed: {error}. Install both from the same index, for example pip install torch torchvision "
            "--index-url https://download.pytorch.org/whl/cpu."
        ) from error


def read_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Fine-tune Qwen2.5-VL on questions about knees, with TRL.")
    parser.add_argument("--model", help="hub id or folder (default: a tiny random one)")
    parser.add_argument(
        "--data", type=Path, help="a prepared repository (default: REASONKNEE_DATA, ./3dreasonknee, or else a phantom)"
    )
    parser.add_argument(
        "--as",
        dest="media",
        choices=("video", "images"),
        default="video",
        help="form of the slices (default: %(default)s)",
    )
    parser.add_argument("--frames", type=int, default=16, help="sagittal slices of a volume (default: %(default)s)")
    parser.add_argument("--size", type=int, default=112, help="pixels along a frame's side, a multiple of 28")
    parser.add_argument("--rows", type=int, help="train on the first N questions (default: all)")
    parser.add_argument("--turns", type=int, default=1, help="most questions of one volume in a conversation")
    parser.add_argument("--steps", type=int, default=30, help="optimizer steps (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=2, help="conversations in a batch")
    parser.add_argument("--learning-rate", type=float, help="default: 1e-5, and 5e-3 for the tiny model")
    parser.add_argument("--tokens", type=int, default=256, help="most tokens of the answer that is written at the end")
    parser.add_argument("--out", type=Path, default=Path("train_vlm"), help="model and processor")
    arguments = parser.parse_args(argv)
    if arguments.size % 28:
        parser.error("argument --size: must be a multiple of 28, or the processor would resize the frames")
    if arguments.media == "video" and arguments.frames % 2:
        parser.error("argument --frames: must be even for a video, whose frames are taken in pairs")
    return arguments


if __name__ == "__main__":
    main()
