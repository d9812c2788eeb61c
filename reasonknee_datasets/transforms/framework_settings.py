"""Settings of training frameworks with which every frame of a row is used once and at its full size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reasonknee_datasets.transforms.pictures import picture_size

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
