"""`Request`: what is sent to a model, as a value that says nothing yet of how it is sent.

The same request goes to every kind of model: frames are arrays of 8-bit pixels, made once by ``ToFrames``, and each
model writes them down losslessly in its own way. Equal requests have equal `Request.digest`.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.errors import missing_extra
from reasonknee_datasets.transforms.pictures import describe_video, to_images

Role = Literal["system", "user", "assistant"]
Media = Literal["images", "video"]


class Frames:
    """The frames of one volume or crop, shared by all requests that show them.

    Parameters
    ----------
    pixels : (frames, rows, columns) array of uint8
    fps : float
        Frames a second, for models that take a video.
    media : {"images", "video"}
        How they are meant to be given.
    """

    def __init__(self, pixels: NDArray[np.uint8], fps: float = 4.0, media: Media = "images") -> None:
        self.pixels = np.ascontiguousarray(pixels, dtype=np.uint8)
        self.pixels.flags.writeable = False
        self.fps, self.media = fps, media

    def __len__(self) -> int:
        return len(self.pixels)

    def __repr__(self) -> str:
        return f"Frames({self.digest[:12]}, shape={self.pixels.shape}, media={self.media!r})"

    @cached_property
    def digest(self) -> str:
        """SHA-256 of shape and pixels."""
        return hashlib.sha256(repr(self.pixels.shape).encode() + self.pixels.tobytes()).hexdigest()

    @cached_property
    def data_urls(self) -> tuple[str, ...]:
        """Each frame as a PNG in a data URL: encoded once, however many questions show it."""
        return tuple(f"data:image/png;base64,{base64.b64encode(_to_png(frame)).decode()}" for frame in self.pixels)

    def images(self) -> list[Any]:
        """Give each frame as a PIL image in three equal channels."""
        return to_images(self.pixels)

    def metadata(self) -> dict[str, Any]:
        """Give what a processor of videos must know: these frames are all there is."""
        return describe_video(self.pixels, self.fps)


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
        In the order in which the model is to read them.
    """

    role: Role
    parts: tuple[str | Frames, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a model.

    Attributes
    ----------
    id : str
        The record's; it is for the journal, and never sent.
    messages : tuple of Message
    step : {"answer", "box"}
        Whether the reply is the answer, or says where the region is.
    """

    id: str = field(compare=False)
    messages: tuple[Message, ...]
    step: Literal["answer", "box"] = "answer"

    @property
    def frames(self) -> tuple[Frames, ...]:
        """All frames, in order."""
        return tuple(part for message in self.messages for part in message.parts if isinstance(part, Frames))

    @property
    def images(self) -> int:
        """How many pictures are sent."""
        return sum(len(frames) for frames in self.frames)

    @property
    def text(self) -> str:
        """All words, turn by turn."""
        return "\n".join(part for message in self.messages for part in message.parts if isinstance(part, str))

    @property
    def prompt_hash(self) -> str:
        """SHA-256 of the words in their places, whatever the pictures are."""
        turns = [
            [message.role, [part if isinstance(part, str) else {"frames": len(part)} for part in message.parts]]
            for message in self.messages
        ]
        return hashlib.sha256(json.dumps(turns, ensure_ascii=False).encode()).hexdigest()

    @property
    def digest(self) -> str:
        """SHA-256 of all that is sent: words, pixels and their order."""
        pixels = "".join(f"{frames.digest}{frames.media}{frames.fps}" for frames in self.frames)
        return hashlib.sha256(f"{self.prompt_hash}{pixels}".encode()).hexdigest()
