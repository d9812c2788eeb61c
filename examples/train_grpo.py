"""Train Qwen2.5-VL by reinforcement learning (GRPO) with the reward of ReasonKnee-Bench, with TRL.

    python examples/train_grpo.py  # a tiny random model and a tiny phantom, in minutes
    python examples/train_grpo.py --model SFT_FOLDER --data 3dreasonknee --questions 42 43 --frames 32 --size 392

A tiny model first learns the form of an answer from a few supervised steps; a real one comes from `train_vlm.py`. The
reward weights grades by their rarity in train, so that answering "normal" to everything earns nothing. Every few steps
the reward is measured on held-out patients (splits validation and test), and drawn in ``reward.png`` at the end. The
same command resumes a run that was killed, from its last checkpoint.

It needs torchvision, as Qwen2.5-VL's processor does: pip install "reasonknee_datasets[train,figures]" torchvision
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import train_vlm  # the example in this folder: model, processor and supervised training

# torch, transformers and TRL are imported in the functions that need them, so that --help works without them.
from reasonknee_datasets import load_dataset
from reasonknee_datasets.bench.reward import Weights, make_reward
from reasonknee_datasets.transforms import CropToBox, Template, ToConversation, ToFrames

if TYPE_CHECKING:
    from datasets import Dataset
    from trl import GRPOTrainer

# The answer alone, one line of JSON: the tiny model writes it in a dozen tokens. "chat" asks for reasoning too.
SHORT = Template("{question}", "{answer}", chat=True)
ASKED = ["id", "question_id", "question", "reasoning", "answer", "grades", "box", "volume_path", "volume"]


def make_phantom(folder: Path, patients: int) -> Path:
    """Make a phantom, or find the one of an earlier run."""
    from reasonknee_datasets.phantom import write_release
    from reasonknee_datasets.prepare import prepare

    if not (folder / "3dreasonknee").exists():
        print(f"data     a phantom of {patients} patients in {folder} (--data names a prepared repository)")
        write_release(folder / "release", patients=patients, size="tiny", seed=0)
        prepare(folder / "release", folder / "3dreasonknee", progress=False)
    return folder / "3dreasonknee"


def conversation(arguments: argparse.Namespace, style: str, *, for_generation: bool = False) -> ToConversation:
    frames = ToFrames(count=arguments.frames, size=(arguments.size, arguments.size))
    template = "chat" if arguments.model else SHORT
    return ToConversation(style, media="images", template=template, frames=frames, for_generation=for_generation)


def cropping(arguments: argparse.Namespace) -> Callable[[Any], Any]:
    """Return the transform before the frames: a crop to the true box, or none."""
    return CropToBox() if arguments.crop else dict


def ask(data: Any, to: ToConversation, crop: Callable[[Any], Any]) -> Dataset:
    """Return a dataset of prompts with images, and of the columns that the reward reads."""
    from datasets import Dataset

    def make(batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        rows = [data[place] for place in batch["row"]]
        made = [to(crop(row)) for row in rows]
        return {
            "prompt": [row["prompt"] for row in made],
            "images": [row["images"] for row in made],
            "question_id": [row["question_id"] for row in rows],
            "grades": [row["grades"] for row in rows],
        }

    return Dataset.from_dict({"row": list(range(len(data)))}).with_transform(make)


def supervise(model: Any, processor: Any, data: Any, arguments: argparse.Namespace) -> None:
    """Train on answers for a few steps and save the model, so that some completions earn a reward."""
    to = conversation(arguments, "trl_messages")
    rows = train_vlm.converse(data, to, cropping(arguments))
    chosen = {"steps": arguments.sft_steps, "batch_size": 16, "learning_rate": 3e-3}
    settings = argparse.Namespace(out=arguments.out / "sft", model=arguments.model, **chosen)
    trainer = train_vlm.make_trainer(model, processor, rows, to.settings(rows[0]), settings)
    trainer.train()
    trainer.save_model()


def make_trainer(model: Any, processor: Any, data: tuple[Any, Any], arguments: argparse.Namespace) -> GRPOTrainer:
    """Set TRL up; the second and third reward have weight 0 and are measured only."""
    import torch
    from trl import GRPOConfig, GRPOTrainer

    rewards = {
        "reward": make_reward(arguments.data),
        "format": make_reward(None, weights=Weights(1, 0, 0)),
        "skill": make_reward(arguments.data, weights=Weights(0, 1, 0)),
    }
    for name, function in rewards.items():
        function.__name__ = name  # TRL logs it
    gpu = torch.cuda.is_available()
    to = conversation(arguments, "trl", for_generation=True)
    train, held = (ask(part, to, cropping(arguments)) for part in data)
    config = GRPOConfig(
        output_dir=str(arguments.out),
        max_steps=arguments.steps,
        per_device_train_batch_size=arguments.prompts * arguments.generations,
        per_device_eval_batch_size=arguments.prompts * arguments.generations,
        num_generations=arguments.generations,
        max_completion_length=arguments.tokens,
        learning_rate=arguments.learning_rate,
        lr_scheduler_type="constant",
        beta=arguments.kl,
        reward_weights=[1.0, 0.0, 0.0],
        # "group", TRL's default, divides by the deviation of each prompt's rewards, which cancels weights by rarity.
        scale_rewards="batch",
        gradient_checkpointing=arguments.model is not None,
        seed=arguments.seed,
        bf16=gpu,
        use_cpu=not gpu,
        logging_steps=1,
        eval_strategy="steps",
        eval_steps=arguments.every,
        eval_on_start=not checkpoints(arguments.out),
        save_steps=arguments.every,
        save_total_limit=2,
        report_to=[],
    )
    return GRPOTrainer(
        model, list(rewards.values()), config, train_dataset=train, eval_dataset=held, processing_class=processor
    )


def complete(trainer: GRPOTrainer, processor: Any, held: Any, arguments: argparse.Namespace) -> list[str]:
    """Return the model's completions of a few held-out questions; read them before you trust a curve."""
    import torch

    to, crop = conversation(arguments, "trl", for_generation=True), cropping(arguments)
    model, texts = trainer.model.eval(), []
    torch.manual_seed(arguments.seed)
    for row in (to(crop(held[place])) for place in range(min(6, len(held)))):
        asked = processor.apply_chat_template(row["prompt"], add_generation_prompt=True)
        inputs = processor(text=[asked], images=row["images"], return_tensors="pt").to(model.device)
        written = model.generate(**inputs, max_new_tokens=arguments.tokens, do_sample=True)
        texts.append(processor.decode(written[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
    return texts


def checkpoints(out: Path) -> list[Path]:
    """Return the whole checkpoints: those with the trainer's state, which is written last."""
    return [path.parent for path in out.glob("checkpoint-*/trainer_state.json")]


def curve(history: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    """Return step, reward and its parts on held-out patients, from the trainer's log."""
    found = {int(entry["step"]): entry for entry in history if "eval_reward" in entry}
    points = [found[step] for step in sorted(found)]
    names = {"reward": "eval_reward", "format": "eval_rewards/format/mean", "skill": "eval_rewards/skill/mean"}
    return {"step": sorted(found)} | {
        name: [float(point[logged]) for point in points] for name, logged in names.items()
    }


def draw(points: dict[str, list[float]], file: Path) -> None:
    """Draw the reward and its parts over the steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, label in (("reward", "reward"), ("format", "format"), ("skill", "grading, by rarity")):
        axes.plot(points["step"], points[name], marker="o", label=label)
    axes.axhline(0, color="grey", linewidth=0.8, linestyle="--", label="grading of a constant answer")
    axes.set(xlabel="step", ylabel="mean on held-out patients", title="GRPO with bench.reward")
    axes.legend()
    figure.savefig(file, dpi=120)


def main(argv: Sequence[str] | None = None) -> dict[str, list[float]]:
    """Train or resume, save the model and the curve; return the curve."""
    arguments = read_arguments(argv)
    train_vlm.check_torchvision()
    from transformers import set_seed

    arguments.data = arguments.data or make_phantom(arguments.out / "phantom", arguments.patients)
    chosen = {"columns": ASKED, "filters": [("question_id", "in", arguments.questions)]}
    train, held = (load_dataset(split=split, data_dir=arguments.data, **chosen) for split in ("train", "val+test"))
    model, processor = train_vlm.load(arguments.model, train, arguments.size**2)
    resume = bool(checkpoints(arguments.out))
    if arguments.model is None:
        set_seed(arguments.seed)
        if not resume:
            supervise(type(model)(model.config), processor, train, arguments)
        model = type(model).from_pretrained(arguments.out / "sft")  # TRL loads its reference from the same folder
    trainer = make_trainer(model, processor, (train, held), arguments)
    if resume:
        print(f"resume   from a checkpoint in {arguments.out}")
    else:
        print("before  ", *complete(trainer, processor, held, arguments), sep="\n         ")
    trainer.train(resume_from_checkpoint=resume)
    trainer.save_model()
    print("after   ", *complete(trainer, processor, held, arguments), sep="\n         ")
    points = curve(trainer.state.log_history)
    (arguments.out / "reward.json").write_text(json.dumps(points), encoding="utf-8")
    draw(points, arguments.out / "reward.png")
    print(
        f"reward   {points['reward'][0]:.3f} at first, {points['reward'][-1]:.3f} after {points['step'][-1]} steps, on"
    )
    print(f"         {len(held)} questions about held-out patients; saved in {arguments.out}")
    return points


def read_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train Qwen2.5-VL with GRPO and the reward of ReasonKnee-Bench.")
    parser.add_argument("--model", help="hub id or folder of a model that writes answers (default: a tiny random one)")
    parser.add_argument("--data", type=Path, help="a prepared repository (default: a phantom, made in --out)")
    parser.add_argument("--patients", type=int, default=40, help="patients of the phantom (default: %(default)s)")
    parser.add_argument("--questions", type=int, nargs="+", default=[43], help="numbers of the questions to train on")
    parser.add_argument("--frames", type=int, default=4, help="sagittal slices of a volume, each an image")
    parser.add_argument("--size", type=int, default=56, help="pixels along an image's side, a multiple of 28")
    parser.add_argument(
        "--crop", action=argparse.BooleanOptionalAction, help="show the true box alone (default: to the tiny model)"
    )
    parser.add_argument("--sft-steps", type=int, default=150, help="supervised steps of the tiny model (default: 150)")
    parser.add_argument("--steps", type=int, default=40, help="steps of GRPO (default: 40)")
    parser.add_argument("--every", type=int, default=10, help="steps between two evaluations, and two checkpoints")
    parser.add_argument("--prompts", type=int, default=4, help="prompts in a batch")
    parser.add_argument("--generations", type=int, default=8, help="completions of a prompt")
    parser.add_argument("--tokens", type=int, default=24, help="most tokens of a completion (default: 24)")
    parser.add_argument("--learning-rate", type=float, default=3e-4, help="for a real model 1e-6 (default: 3e-4)")
    parser.add_argument("--kl", type=float, default=0.02, help="weight of the divergence from the supervised model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("train_grpo"), help="model, processor, checkpoints and curve")
    arguments = parser.parse_args(argv)
    if arguments.crop is None:
        arguments.crop = arguments.model is None
    if arguments.size % 28:
        parser.error("argument --size: must be a multiple of 28, or the processor would resize the images")
    return arguments


if __name__ == "__main__":
    main()
