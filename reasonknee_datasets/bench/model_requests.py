"""Requests to a model: messages of text and frames, built from a condition and a record; boxes read from replies.

Requests are values that depend on no client library. They are built from a `Record` (id, side, question and box), which
holds neither reasoning nor grades nor answer. Frames are arrays of 8-bit pixels made by ``ToFrames``; they are sent as
PNG, which is lossless. The last functions convert a request to inspect_ai's messages and send it; they import
inspect_ai when they are called, since planning a run does without it.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.bench.answers import parse_box
from reasonknee_datasets.bench.conditions import SCRIPTS, Condition, jitter
from reasonknee_datasets.boxes import Box
from reasonknee_datasets.errors import BoxError, missing_extra
from reasonknee_datasets.moaks import QUESTIONS
from reasonknee_datasets.prompts import FRAME_CONVENTION, Prompts, box_prompt
from reasonknee_datasets.transforms import CropToBox, ToFrames

if TYPE_CHECKING:
    from inspect_ai.event import ModelEvent
    from inspect_ai.model import ChatMessage, ChatMessageBase, Content, ModelOutput

_Message = TypeVar("_Message", bound="ChatMessageBase")
Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Record:
    """What a request about one record may depend on.

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
        """A name for this box of this volume, which several questions share."""
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
    step : {"answer", "box"}
        Whether the reply is the answer, or the position of the region.
    """

    messages: tuple[Message, ...]
    step: Literal["answer", "box"] = "answer"

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


def true_region(record: Record, condition: Condition, shape: tuple[int, int, int], seed: int) -> Box:
    """Return the box that a condition with the true region shows, in the stored volume."""
    box = Box.from_row(record.box)
    return box if condition.region == "true" else jitter(box, shape, condition, seed=seed, key=record.region)


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


@dataclass(frozen=True, slots=True)
class PredictedBox:
    """A box in the stored volume with the parser's rules that read it, or the reason why there is none."""

    box: Box | None
    reason: str | None
    rules: tuple[str, ...] = ()


def read_box(text: str | None, recipe: ToFrames, volume: Any, finish_reason: str | None = None) -> PredictedBox:
    """Read the box of a reply.

    Parameters
    ----------
    text : str or None
        The reply.
    recipe : ToFrames
        What made the frames that the model saw.
    volume : nibabel image
        What they were made of.
    finish_reason : str, optional
        As the model gave it.

    Returns
    -------
    PredictedBox
        Cut at the volume's faces, where frames are thicker than what is left of it.
    """
    view = recipe.view(volume)
    parsed = parse_box(text, convention=FRAME_CONVENTION, shape=view.shape, finish_reason=finish_reason)
    if parsed.box is None:
        return PredictedBox(None, parsed.reason)
    try:
        return PredictedBox(view.box_to_source(parsed.box).clip(volume.shape), None, parsed.rules)
    except BoxError:
        return PredictedBox(None, "out_of_range")


def to_chat(request: Request) -> list[ChatMessage]:
    """Convert a request to inspect_ai's chat messages, each frame a PNG in a data URL."""
    from inspect_ai.model import ChatMessageAssistant, ChatMessageSystem, ChatMessageUser

    chat: list[ChatMessage] = []
    for message in request.messages:
        text = message.parts[0]
        if message.role == "system":
            chat.append(ChatMessageSystem(content=str(text)))
        elif message.role == "assistant":
            chat.append(ChatMessageAssistant(content=str(text)))
        elif len(message.parts) == 1 and isinstance(text, str):
            chat.append(ChatMessageUser(content=text))
        else:
            chat.append(ChatMessageUser(content=[block for part in message.parts for block in _blocks(part)]))
    return chat


def _blocks(part: str | Frames) -> list[Content]:
    from inspect_ai.model import ContentImage, ContentText

    if isinstance(part, str):
        return [ContentText(text=part)]
    return [ContentImage(image=url) for url in part.data_urls]


def without_images(messages: Iterable[_Message]) -> list[_Message]:
    """Copy messages with each run of images replaced by one line of text."""
    return [_without_images(message) for message in messages]


def _without_images(message: _Message) -> _Message:
    from inspect_ai.model import ContentImage, ContentText

    if isinstance(message.content, str):
        return message
    kept: list[Content] = []
    count = 0
    for block in [*message.content, None]:
        if isinstance(block, ContentImage):
            count += 1
            continue
        if count:
            kept.append(ContentText(text=f"[{count} frames, not logged]"))
            count = 0
        if block is not None:
            kept.append(block)
    return message.model_copy(update={"content": kept})


class _EventsWithoutImages:
    """Add model calls to the sample's transcript with their images replaced."""

    def on_pending(self, event: ModelEvent) -> None:
        from inspect_ai.log import transcript

        event.input = without_images(event.input)
        transcript()._event(event)

    def on_complete(self, event: ModelEvent) -> None:
        from inspect_ai.log import transcript

        transcript()._event_updated(event)


async def generate_unlogged(request: Request) -> ModelOutput:
    """Send a request to the evaluated model; the log gets everything but the images."""
    from inspect_ai.model import get_model

    # Not among inspect_ai's public names, and the only way to keep images out of a log without an option that every
    # user would have to give (--no-log-images). tests/bench/test_tasks.py notices if it goes.
    from inspect_ai.model._model import use_model_event_sink

    with use_model_event_sink(_EventsWithoutImages()):
        return await get_model().generate(to_chat(request))
