"""Frames as pictures for training frameworks: in memory or as files, with the settings of their processors."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.errors import missing_extra
from reasonknee_datasets.transforms.base import TransformError


def read_frames(example: Mapping[str, Any], media: str) -> tuple[NDArray[np.uint8], float]:
    """Return an example's frames and how many there are in a second."""
    if example.get("frames") is None:
        raise TransformError(
            f"The example has no frames, which media={media!r} needs. Pass ToConversation(frames=ToFrames(...)), put "
            "ToFrames before it, or set media='none'."
        )
    frames = np.asarray(example["frames"], dtype=np.uint8)
    return frames, float(example.get("frame_fps") or 1.0)


def to_images(frames: NDArray[np.uint8]) -> list[Any]:
    """Return each frame as a picture in three channels, as processors of videos need them."""
    try:
        from PIL import Image
    except ImportError as error:
        raise missing_extra("pillow", "text", "ToConversation") from error
    return [Image.fromarray(frame).convert("RGB") for frame in frames]


def picture_size(picture: Any) -> tuple[int, int]:
    """Return the width and height of a picture, or of the file that it was written to."""
    if not isinstance(picture, str):
        return picture.size  # type: ignore[no-any-return]
    from PIL import Image  # which wrote it

    with Image.open(picture) as image:
        return image.size


def save_images(frames: NDArray[np.uint8], folder: Path) -> list[str]:
    """Write each frame as a PNG file, unless the same files exist already, and return their absolute paths.

    Files are named by what all frames hold, and appear whole or not at all: several workers may write the same ones.
    """
    digest = hashlib.blake2b(np.ascontiguousarray(frames).tobytes(), digest_size=6).hexdigest()
    folder = folder.absolute()
    paths = [folder / f"{digest}_{place:04d}.png" for place in range(len(frames))]
    if not all(path.exists() for path in paths):
        folder.mkdir(parents=True, exist_ok=True)
        for image, path in zip(to_images(frames), paths, strict=True):
            partial = path.with_suffix(f".{os.getpid()}.tmp")
            image.save(partial, format="PNG")
            partial.replace(path)
    return [str(path) for path in paths]


def describe_video(frames: NDArray[np.uint8], fps: float) -> dict[str, Any]:
    """Return what transformers' ``VideoMetadata`` is made from: these frames are all there is.

    Examples
    --------
    >>> describe_video(np.zeros((3, 28, 56), np.uint8), 2.0)
    {'total_num_frames': 3, 'fps': 2.0, 'width': 56, 'height': 28, 'duration': 1.5, 'frames_indices': [0, 1, 2]}
    """
    count, height, width = frames.shape
    return {
        "total_num_frames": count,
        "fps": fps,
        "width": width,
        "height": height,
        "duration": count / fps,
        "frames_indices": list(range(count)),
    }
