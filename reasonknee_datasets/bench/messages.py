"""Requests to a model as plain values: messages of text and frames, independent of any client library.

Frames are arrays of 8-bit pixels made by ``ToFrames``; they are sent as PNG, which is lossless.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.errors import missing_extra

Role = Literal["system", "user", "assistant"]


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
        """SHA-256 of the text in its places, whatever the pixels are."""
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
