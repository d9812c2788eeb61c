"""Build requests: from a condition and a record to the text and frames that a model is sent.

Requests are built from a `Record` (id, side, question and box), which holds neither reasoning nor grades nor answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from reasonknee_datasets.bench.conditions import Condition, jitter
from reasonknee_datasets.bench.messages import Frames, Message, Request
from reasonknee_datasets.bench.prompts import Prompts, box_prompt
from reasonknee_datasets.bench.question_records import Record
from reasonknee_datasets.bench.reference_scripts import SCRIPTS
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
_ENDING = "End your reply with the JSON object that is asked for, and write nothing after it."
_CLOSE = "The frames show only the region that the question is about."


def system_prompt(condition: Condition) -> str:
    """Return the system prompt: one for all records, so that a provider's prompt cache can hold it.

    Examples
    --------
    >>> from reasonknee_datasets.bench.conditions import OFFICIAL_O1
    >>> system_prompt(OFFICIAL_O1)
    'You are a radiologist. You are given a question and a set of knee MRI images.'
    """
    if condition.script is not None:
        return SCRIPTS[condition.script].system
    if condition.image == "none":
        return f"You are a radiologist. You are asked about a 3D DESS MRI of one knee. {_ENDING}"
    frames = condition.frames if condition.region == "whole" else condition.region_frames
    return f"You are a radiologist. You are given frames of a 3D DESS MRI: {_ORDER[frames.plane]}. You are then asked \
about them. {_ENDING}"


def true_region(record: Record, condition: Condition, shape: tuple[int, int, int], seed: int) -> Box:
    """Return the box that a condition with the true region shows, in the stored volume."""
    box = Box.from_row(record.box)
    return box if condition.region == "true" else jitter(box, shape, condition, seed=seed, key=record.region)


def show(recipe: ToFrames, volume: Any) -> Frames:
    """Render the frames of a volume, or of a crop of one."""
    return Frames(recipe.apply({"volume": volume})["frames"])


def crop(volume: Any, region: Box, condition: Condition) -> Any:
    """Return the lazy view of a volume that shows a region, with the condition's margin."""
    row = {"volume": volume, "box": region.to_row()}
    return CropToBox(margin_mm=condition.margin_mm)(row)["volume"]


def ask(record: Record, condition: Condition, prompts: Prompts, frames: Frames | None) -> Request:
    """Build the request with a record's question.

    Parameters
    ----------
    record : Record
    condition : Condition
    prompts : Prompts
    frames : Frames or None
        Of the whole volume, or of the crop that the condition shows; None for ``text_only``.
    """
    question = prompts.text(record.question)
    system = Message("system", (system_prompt(condition),))
    if condition.script is not None and frames is not None:
        parts = (question, frames) if SCRIPTS[condition.script].text_first else (frames, question)
        return Request((system, Message("user", parts)))
    words = [_whose(record), question] if condition.region == "whole" else [_whose(record), _CLOSE, question]
    shown = () if frames is None else (frames,)
    return Request((system, Message("user", (*shown, " ".join(words)))))


def ask_for_box(record: Record, condition: Condition, frames: Frames) -> Request:
    """Build the request for the position of a question's region."""
    shape = (len(frames), *frames.pixels.shape[1:])
    words = f"{_whose(record)} {box_prompt(QUESTIONS[record.question], shape)}"
    system = Message("system", (system_prompt(replace(condition, region="whole")),))
    return Request((system, Message("user", (frames, words))), "box")


def ask_after_box(request: Request, reply: str, record: Record, prompts: Prompts) -> Request:
    """Build the request with the question that continues a conversation about the box.

    Parameters
    ----------
    request : Request
        From `ask_for_box`.
    reply : str
        The model's own text.
    record : Record
    prompts : Prompts
    """
    words = f"Now look at this region. {prompts.text(record.question)}"
    return Request((*request.messages, Message("assistant", (reply,)), Message("user", (words,))))


def _whose(record: Record) -> str:
    """Name the side: frames alone do not show which one is medial."""
    return f"This is the patient's {record.side} knee."
