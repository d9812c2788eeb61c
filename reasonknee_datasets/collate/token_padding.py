"""Padding tokens to one length."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reasonknee_datasets.errors import LoaderError

TOKENS = ("input_ids", "attention_mask", "labels")
SPANS = ("reasoning_spans", "grade_spans", "box_span")
_NOTHING_TO_LEARN = -100  # the index that torch's losses ignore

Tokens = NDArray[np.int64]


def pad_tokens(
    examples: Sequence[Mapping[str, Any]],
    pad_token_id: int | None,
    buckets: Sequence[int] | None,
    side: str,
    multiple: int | None = None,
) -> dict[str, torch.Tensor]:
    """Pad ``input_ids``, ``attention_mask`` and ``labels`` to the longest example, to a multiple or to a bucket.

    Parameters
    ----------
    examples : sequence of mappings
        With ``input_ids``, and ``attention_mask`` and ``labels`` where they have them; an ``attention_mask`` is made
        where they have none.
    pad_token_id : int or None
        None takes the examples' own.
    buckets : sequence of int or None
        Lengths to choose from.
    side : {"right", "left"}
        Where the padding goes.
    multiple : int, optional
        Pad to a multiple of this; buckets, where they are given, are taken as they are.

    Returns
    -------
    dict of (B, T) int64 tensors
    """
    rows = [_numbers(example["input_ids"]) for example in examples]
    length = _choose_length(max(map(len, rows)), buckets, multiple or 1)
    padded = {"input_ids": _pad(rows, length, _find_pad(examples, rows, length, pad_token_id), side)}
    pairs = list(zip(examples, rows, strict=True))
    ones = np.ones(length, np.int64)
    masks = [ones[: len(row)] if (mask := _mask(example, row)) is None else mask for example, row in pairs]
    padded["attention_mask"] = _pad(masks, length, 0, side)
    if any(example.get("labels") is not None for example in examples):
        padded["labels"] = _pad(
            [_sequence(example, "labels", row) for example, row in pairs], length, _NOTHING_TO_LEARN, side
        )
    return padded


def moved_spans(example: Mapping[str, Any], name: str, length: int) -> Any:
    """Move an example's spans of tokens behind padding on the left; [-1, -1], no span, stays."""
    by = length - len(example["input_ids"])

    def moved(span: Any) -> Any:
        return [end + by if end >= 0 else end for end in span] if span is not None else None

    return [moved(span) for span in example[name]] if name.endswith("spans") else moved(example[name])


def find_padding(transform: Any) -> dict[str, Any]:
    """Read how a transform's tokenizer pads, alone or somewhere in a `Compose`.

    Returns
    -------
    dict
        ``pad_token_id``, ``padding_side`` and ``pad_to_multiple_of`` for `QuintupleCollator`; empty where nothing
        tokenizes.
    """
    if getattr(transform, "pad_token_id", None) is not None:
        names = ("pad_token_id", "padding_side", "pad_to_multiple_of")
        return {name: getattr(transform, name, None) for name in names}
    parts = map(find_padding, getattr(transform, "transforms", ()))
    return next((padding for padding in parts if padding), {})


def choose_side(examples: Sequence[Mapping[str, Any]]) -> str:
    """Choose the padding side of examples: their own key ``padding_side``, else left for prompts without labels."""
    own = {str(example["padding_side"]) for example in examples if example.get("padding_side") is not None}
    if own:
        if len(own) > 1 or not own <= {"right", "left"}:
            raise LoaderError(f"padding_side must be 'right' or 'left' in all examples of a batch, not {sorted(own)}.")
        return own.pop()
    return "right" if any(example.get("labels") is not None for example in examples) else "left"


def _choose_length(longest: int, buckets: Sequence[int] | None, multiple: int) -> int:
    if buckets is None:
        return -(-longest // multiple) * multiple
    fitting = [bucket for bucket in buckets if bucket >= longest]
    if not fitting:
        raise LoaderError(
            f"An example of {longest} tokens is longer than every bucket, {tuple(buckets)}. Add a larger bucket, or "
            "set max_length in TokenizeReasoning."
        )
    return min(fitting)


def _find_pad(examples: Sequence[Mapping[str, Any]], rows: Sequence[Tokens], length: int, given: int | None) -> int:
    """Find the token that pads; none is needed where nothing is padded."""
    if given is not None:
        return given
    own = {int(example["pad_token_id"]) for example in examples if example.get("pad_token_id") is not None}
    if len(own) == 1:
        return own.pop()
    if all(len(row) == length for row in rows):
        return 0
    known = f"the examples have several, {sorted(own)}" if own else "none is known"
    raise LoaderError(
        f"The examples of a batch differ in length and need a pad token, but {known}. Pass a collate_fn with all that "
        "the tokenizer states: QuintupleCollator(pad_token_id=tokenize.pad_token_id, "
        "padding_side=tokenize.padding_side, pad_to_multiple_of=tokenize.pad_to_multiple_of)."
    )


def _numbers(values: Any) -> Tokens:
    """Convert whole numbers to an array; of a list, `array` reads each number once."""
    return np.frombuffer(array("q", values), np.int64) if type(values) is list else np.asarray(values, np.int64)


def _mask(example: Mapping[str, Any], row: Tokens) -> Tokens | None:
    """Read an example's mask; None where it attends to all of its tokens."""
    found = example.get("attention_mask")
    # Of the tokens of one example all are attended to, and counting them is three times as fast as converting them.
    if found is None or (type(found) is list and found.count(1) == len(found) == len(row)):
        return None
    return _sequence(example, "attention_mask", row)


def _sequence(example: Mapping[str, Any], name: str, row: Tokens) -> Tokens:
    found = example.get(name)
    values = None if found is None else _numbers(found)
    if values is None or len(values) != len(row):
        got = "none" if values is None else str(len(values))
        raise LoaderError(
            f"{name} must be as long as input_ids in {example.get('id', 'an example without an id')}, but there are "
            f"{got} for {len(row)} tokens. Make both with one TokenizeReasoning."
        )
    return values


def _pad(rows: Sequence[Tokens], length: int, fill: int, side: str) -> torch.Tensor:
    padded = np.full((len(rows), length), fill, np.int64)
    for room, row in zip(padded, rows, strict=True):
        start = length - len(row) if side == "left" else 0
        room[start : start + len(row)] = row
    return torch.from_numpy(padded)
