"""Requests to a model: messages of text and frames, built from a condition and a record; boxes read from replies.

A `Request` depends on no client library. It is built from a `Record` (id, side, question and box), which holds neither
reasoning nor grades nor answer. Frames are arrays of 8-bit pixels made by ``ToFrames``, and are sent as PNG, which is
lossless. `reasonknee_datasets.bench.record_solver` sends requests.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.bench.answers import ParsedBox, parse_box
from reasonknee_datasets.bench.conditions import SCRIPTS, Condition
from reasonknee_datasets.boxes import Box
from reasonknee_datasets.errors import BoxError, missing_extra
from reasonknee_datasets.moaks import QUESTIONS
from reasonknee_datasets.prompts import FRAME_CONVENTION, Prompts, box_prompt
from reasonknee_datasets.transforms import CropToBox, ToFrames

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Record:
    """Columns of one record that a request may depend on.

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
        The true box in the stored volume; only the conditions that show the true region read it.
    """

    id: str
    volume_path: str
    side: str
    question: int
    box: tuple[int, int, int, int, int, int]

    @property
    def patient(self) -> str:
        """The patient, the first part of the id."""
        return self.id.partition("/")[0]

    @property
    def region(self) -> str:
        """Key of this box of this volume; several questions share it."""
        return f"{self.volume_path} {' '.join(map(str, self.box))}"


class Frames:
    """The frames of one volume or crop.

    Parameters
    ----------
    pixels : (frames, rows, columns) array of uint8
    """

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self.pixels = np.ascontiguousarray(pixels, dtype=np.uint8)
        self.pixels.flags.writeable = False

    def __len__(self) -> int:
        return len(self.pixels)

    def __repr__(self) -> str:
        return f"Frames({self.digest[:12]}, shape={self.pixels.shape})"

    @cached_property
    def digest(self) -> str:
        """SHA-256 of shape and pixels."""
        return hashlib.sha256(repr(self.pixels.shape).encode() + self.pixels.tobytes()).hexdigest()

    @cached_property
    def data_urls(self) -> tuple[str, ...]:
        """Each frame as a PNG in a data URL."""
        return tuple(f"data:image/png;base64,{base64.b64encode(_to_png(frame)).decode()}" for frame in self.pixels)


def _to_png(frame: NDArray[np.uint8]) -> bytes:
    try:
        from PIL import Image
    except ImportError as error:
        raise missing_extra("pillow", "bench", "frames as pictures") from error
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, format="PNG")
    return buffer.getvalue()


@dataclass(frozen=True, slots=True)
class Message:
    """One turn.

    Attributes
    ----------
    role : {"system", "user", "assistant"}
    parts : tuple of str and Frames
        In the order in which they are sent.
    """

    role: Role
    parts: tuple[str | Frames, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a model.

    Attributes
    ----------
    messages : tuple of Message
    """

    messages: tuple[Message, ...]

    @property
    def frames(self) -> tuple[Frames, ...]:
        """All frames, in order."""
        return tuple(part for message in self.messages for part in message.parts if isinstance(part, Frames))

    @property
    def images(self) -> int:
        """Number of images that are sent."""
        return sum(len(frames) for frames in self.frames)

    @property
    def text(self) -> str:
        """All text, message by message."""
        return "\n".join(part for message in self.messages for part in message.parts if isinstance(part, str))

    @property
    def prompt_hash(self) -> str:
        """SHA-256 of the text with its roles and order; pixels do not change it."""
        turns = [
            [message.role, [part if isinstance(part, str) else {"frames": len(part)} for part in message.parts]]
            for message in self.messages
        ]
        return hashlib.sha256(json.dumps(turns, ensure_ascii=False).encode()).hexdigest()

    @property
    def frames_hash(self) -> str | None:
        """SHA-256 over the pixels of all frames; None without frames."""
        if not self.frames:
            return None
        return hashlib.sha256("".join(frames.digest for frames in self.frames).encode()).hexdigest()


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


def render_frames(recipe: ToFrames, volume: Any) -> Frames:
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
    return Request((system, Message("user", (frames, words))))


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


def read_box(text: str | None, recipe: ToFrames, volume: Any, finish_reason: str | None = None) -> ParsedBox:
    """Read the box of a reply.

    Parameters
    ----------
    text : str or None
        The reply.
    recipe : ToFrames
        Recipe of the frames that the model saw.
    volume : nibabel image
        The volume that they show.
    finish_reason : str, optional
        As the model returned it.

    Returns
    -------
    ParsedBox
        In the stored volume, cut at its faces: the last frame may be thicker than the rest of the volume.
    """
    view = recipe.view(volume)
    parsed = parse_box(text, convention=FRAME_CONVENTION, shape=view.shape, finish_reason=finish_reason)
    if parsed.box is None:
        return parsed
    try:
        return replace(parsed, box=view.box_to_source(parsed.box).clip(volume.shape))
    except BoxError:
        return ParsedBox(None, "out_of_range")
