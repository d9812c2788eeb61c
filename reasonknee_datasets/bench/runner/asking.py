"""From a condition and a record to the words and pictures that a model gets.

All that is known of a record here is a `Task`: whose knee, which question, which box. Reasoning, grades and answer are
in no `Task`, and are never read from the repository by whoever makes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from reasonknee_datasets.bench.conditions import Condition, jitter
from reasonknee_datasets.bench.official import SCRIPTS
from reasonknee_datasets.bench.prompts import Prompts, box_prompt
from reasonknee_datasets.bench.runner.requests import Frames, Media, Message, Request
from reasonknee_datasets.boxes import Box
from reasonknee_datasets.moaks import QUESTIONS
from reasonknee_datasets.transforms import CropToBox, ToFrames

# ToFrames runs frames with RAS+, and rows and columns as radiologists look at them.
_ORDER: Mapping[str, str] = {
    "sagittal": "sagittal slices of one knee, from the patient's left to the patient's right, each with superior at "
    "the top and anterior at the left",
    "coronal": "coronal slices of one knee, from posterior to anterior, each with superior at the top and the "
    "patient's right at the left",
    "axial": "axial slices of one knee, from inferior to superior, each with anterior at the top and the patient's "
    "right at the left",
    "axis0": "slices of one knee, in the order in which they are stored",
}
_CLOSE = "The frames show only the region that the question is about."


@dataclass(frozen=True, slots=True)
class Task:
    """What may be known of a record when a model is asked about it.

    Attributes
    ----------
    id : str
        ``patient/visit/side/qNN``.
    volume_path : str
    side : str
        ``right`` or ``left``.
    question : int
        1 to 62.
    box : tuple of six ints
        The true one, in the stored volume; only the conditions that are given the region look at it.
    """

    id: str
    volume_path: str
    side: str
    question: int
    box: tuple[int, int, int, int, int, int]

    @property
    def region(self) -> str:
        """A name for this box of this volume, which several questions share."""
        return f"{self.volume_path} {' '.join(map(str, self.box))}"


def system_prompt(condition: Condition) -> str:
    """Give the system prompt: one for all records, so that it is the start of every cached prefix.

    Examples
    --------
    >>> from reasonknee_datasets.bench.conditions import OFFICIAL_O1
    >>> system_prompt(OFFICIAL_O1)
    'You are a radiologist. You are given a question and a set of knee MRI images.'
    """
    if condition.script is not None:
        return SCRIPTS[condition.script].system
    frames = condition.frames if condition.region == "whole" else condition.region_frames
    return (
        f"You are a radiologist. You are given frames of a 3D DESS MRI: {_ORDER[frames.plane]}. You are then asked "
        "about them. End your reply with the JSON object that is asked for, and write nothing after it."
    )


def media(condition: Condition) -> Media:
    """Tell how a condition gives its frames: as pictures, except where the authors gave a video."""
    return "images" if condition.script is None else SCRIPTS[condition.script].media


def true_region(task: Task, condition: Condition, shape: tuple[int, int, int], seed: int) -> Box:
    """Give what a condition that knows the true box crops to, in the stored volume."""
    box = Box.from_row(task.box)
    return box if condition.region == "true" else jitter(box, shape, condition, seed=seed, key=task.region)


def show(recipe: ToFrames, volume: Any, kind: Media = "images") -> Frames:
    """Make the frames of a volume, or of a crop of one."""
    made = recipe.apply({"volume": volume})
    return Frames(made["frames"], made["frame_fps"], kind)


def crop(volume: Any, region: Box, condition: Condition) -> Any:
    """Give the lazy view of a volume that shows a region, with the condition's margin."""
    row = {"volume": volume, "box": region.to_row()}
    return CropToBox(margin_mm=condition.margin_mm)(row)["volume"]


def ask(task: Task, condition: Condition, prompts: Prompts, frames: Frames) -> Request:
    """Ask a question about frames that are at hand.

    Parameters
    ----------
    task : Task
    condition : Condition
    prompts : Prompts
    frames : Frames
        Of the whole volume, or of the crop that the condition shows.
    """
    question = prompts.text(task.question)
    system = Message("system", (system_prompt(condition),))
    if condition.script is not None:
        parts = (question, frames) if SCRIPTS[condition.script].text_first else (frames, question)
        return Request(task.id, (system, Message("user", parts)))
    words = [_whose(task), question] if condition.region == "whole" else [_whose(task), _CLOSE, question]
    return Request(task.id, (system, Message("user", (frames, " ".join(words)))))


def ask_for_box(task: Task, condition: Condition, frames: Frames) -> Request:
    """Ask where a question's region is."""
    shape = (len(frames), *frames.pixels.shape[1:])
    words = f"{_whose(task)} {box_prompt(QUESTIONS[task.question], shape)}"
    system = Message("system", (system_prompt(_seeing_all(condition)),))
    return Request(task.id, (system, Message("user", (frames, words))), "box")


def ask_after_box(request: Request, reply: str, task: Task, prompts: Prompts) -> Request:
    """Ask the question in the conversation that began with the box.

    Parameters
    ----------
    request : Request
        What `ask_for_box` gave.
    reply : str
        The model's own words.
    task : Task
    prompts : Prompts
    """
    words = f"Now look at this region. {prompts.text(task.question)}"
    turns = (*request.messages, Message("assistant", (reply,)), Message("user", (words,)))
    return Request(task.id, turns)


def _whose(task: Task) -> str:
    """Say which knee it is: without that, nobody can tell medial from lateral in frames."""
    return f"This is the patient's {task.side} knee."


def _seeing_all(condition: Condition) -> Condition:
    return replace(condition, region="whole")
