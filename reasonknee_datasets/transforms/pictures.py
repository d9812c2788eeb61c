"""Frames as pictures for training frameworks, in memory or as files, and the settings with which all are used."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.atomic_files import write_files
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
        write_files(folder, {path.name: _to_png(image) for path, image in zip(paths, to_images(frames), strict=True)})
    return [str(path) for path in paths]


def _to_png(image: Any) -> bytes:
    """Encode a picture as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


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


# The keys of dataset_info.json that say how messages name things.
_TAGS = {
    "role_tag": "role",
    "content_tag": "content",
    "user_tag": "user",
    "assistant_tag": "assistant",
    "system_tag": "system",
}


def settings(style: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings for a style of `ToConversation`; `ToConversation.settings` says what they are.

    Examples
    --------
    >>> video = {"total_num_frames": 32, "fps": 4.0, "width": 224, "height": 224}
    >>> settings("trl", {"videos": [[]], "video_metadata": [video]})
    {'completion_only_loss': True, 'max_length': None, 'remove_unused_columns': False, \
'dataset_kwargs': {'skip_prepare_dataset': True}}
    >>> settings("ms_swift", {"videos": [[]], "video_metadata": [video]})
    {'FPS': '4.0', 'VIDEO_MIN_TOKEN_NUM': '49', 'VIDEO_MAX_TOKEN_NUM': '64'}
    """
    known = (row.get("video_metadata") or [{}])[0]
    if style.startswith("trl"):
        # Without it TRL takes the loss over the questions too.
        masked = "assistant_only_loss" if style == "trl_messages" else "completion_only_loss"
        return {masked: True, **_trl(row, video=bool(known))}
    if style == "ms_swift":
        return _ms_swift(known)
    return _llama_factory(row, known)


def _trl(row: Mapping[str, Any], *, video: bool) -> dict[str, Any]:
    # Else it takes away the columns that rows are made from, where they are made as it reads them.
    kept = {"remove_unused_columns": False} if video or row.get("images") else {}
    # Rows with images it leaves as they are, but those with videos it would tokenize as text.
    return {"max_length": None, **kept, **({"dataset_kwargs": {"skip_prepare_dataset": True}} if video else {})}


def _ms_swift(known: Mapping[str, Any]) -> dict[str, Any]:
    if not known:
        return {}
    # qwen_vl_utils 0.0.14 makes frames larger that have less than 128 tokens, and smaller those with more than 768. A
    # token is 28 pixels wide for Qwen2.5-VL and 32 for Qwen3-VL.
    pixels = known["width"] * known["height"]
    tokens = {"VIDEO_MIN_TOKEN_NUM": max(1, pixels // 32**2), "VIDEO_MAX_TOKEN_NUM": -(-pixels // 28**2)}
    return {"FPS": str(known["fps"]), **{name: str(number) for name, number in tokens.items()}}


def _llama_factory(row: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    columns = {"messages": "messages"} | {name: name for name in ("images", "videos") if name in row}
    info = {"dataset_info": {"formatting": "sharegpt", "columns": columns, "tags": dict(_TAGS)}}
    if known:
        pixels = known["width"] * known["height"]
        run = {"video_fps": known["fps"], "video_maxlen": known["total_num_frames"]}
        return {**info, **run, "video_min_pixels": pixels, "video_max_pixels": pixels}
    pictures = [width * height for width, height in map(picture_size, row.get("images", ()))]
    return info | ({"image_min_pixels": min(pictures), "image_max_pixels": max(pictures)} if pictures else {})
