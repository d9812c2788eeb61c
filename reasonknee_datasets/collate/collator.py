"""`QuintupleCollator`: convert a list of examples to one `Batch`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from reasonknee_datasets.collate.argument_checks import check_count, check_flag, check_names, check_number
from reasonknee_datasets.collate.batch import Batch
from reasonknee_datasets.collate.token_padding import SPANS, TOKENS, choose_side, moved_spans, pad_tokens
from reasonknee_datasets.collate.voxel_stacking import noted, stack
from reasonknee_datasets.errors import GradeError, LoaderError, shown
from reasonknee_datasets.moaks import QUESTIONS, get_question
from reasonknee_datasets.orientation import axcodes
from reasonknee_datasets.volumes import Geometry, LazyVolume

# Letters of the two directions of each anatomical axis.
_AXES = ("LR", "PA", "IS")


def check_setting(orientation: str) -> None:
    """Raise a `LoaderError` unless a setting is "same", "any" or three letters such as "RAS"."""
    word = orientation if isinstance(orientation, str) else ""
    letters = sorted(next((axis for axis in _AXES if letter in axis), letter) for letter in word)
    if word not in ("same", "any") and letters != sorted(_AXES):
        raise LoaderError(
            f"orientation must be 'same', 'any' or three letters such as 'RAS', not {shown(orientation)}. The letters "
            "are L or R, P or A, I or S, each pair once."
        )


def find_orientation(example: Mapping[str, Any]) -> str | None:
    """Find the directions in which the axes D, H and W of an example run; None where it has no affine.

    Examples
    --------
    >>> import nibabel as nib, numpy as np
    >>> find_orientation({"volume": nib.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.diag([-1, 1, 1, 1]))})
    'LAS'
    """
    volume = example.get("volume")
    if isinstance(volume, LazyVolume) and volume.geometry is not None:
        view = volume.view
        if view is None or view.world is None:
            return _lazy_codes(volume.geometry, *((None, None) if view is None else (view.axes, view.step)))
    affine = volume.grid[1] if isinstance(volume, LazyVolume) else getattr(volume, "affine", None)
    # Without the translation, which differs from crop to crop.
    return None if affine is None else _codes(np.asarray(affine, np.float64)[:3, :3].tobytes())


def check_orientations(examples: Sequence[Mapping[str, Any]], orientation: str) -> list[str | None]:
    """Find the orientation of each example, and refuse a batch with axes of different directions.

    Parameters
    ----------
    examples : sequence of mappings
        Examples of a batch.
    orientation : str
        "same", "any", or the three letters that all must have.

    Raises
    ------
    LoaderError
        With the names of two examples that differ.
    """
    found = [find_orientation(example) for example in examples]
    known = [(code, example.get("id")) for code, example in zip(found, examples, strict=True) if code is not None]
    if orientation == "any" or not known:
        return found
    wanted, first = known[0] if orientation == "same" else (orientation, None)
    other = next(((code, name) for code, name in known if code != wanted), None)
    if other is not None:
        contrast = "" if first is None else f" while {first} is {wanted}"
        rule = (
            "This batch mixes arrays of different orientation" if first else f"A batch must be {wanted} (orientation=)"
        )
        raise LoaderError(
            f"{rule}: {other[1]} is {other[0]}{contrast}, so that an axis of the batch runs in different anatomical "
            "directions. Put ToCanonical() first in the transform, which turns every volume and box to RAS. For models "
            'that do not mind, pass collate_fn=QuintupleCollator(orientation="any").'
        )
    return found


@lru_cache(maxsize=4096)
def _lazy_codes(geometry: Geometry, axes: Sequence[int] | None, step: Sequence[float] | None) -> str:
    linear = geometry.matrix[:3, :3]
    if axes is not None and step is not None:
        linear = linear[:, axes] * step
    return _codes(np.ascontiguousarray(linear).tobytes())


@lru_cache(maxsize=4096)
def _codes(linear: bytes) -> str:
    affine = np.eye(4)
    affine[:3, :3] = np.frombuffer(linear).reshape(3, 3)
    return "".join(axcodes(affine))


MISSING = -1
MOST_SLOTS = max(len(question.slots) for question in QUESTIONS.values())


def grade_rows(example: Mapping[str, Any]) -> tuple[list[int], list[int]]:
    """Return an example's grades and slot ids, each filled up to the most that a question has.

    Examples
    --------
    >>> grade_rows({"question_id": 19, "grades": [{"attribute": "depth", "grade": 1}]})
    ([-1, 1, -1], [51, 52, -1])
    """
    if example.get("question_id") is None:
        raise GradeError("The example has grades but no question_id. Keep that column, or remove grades too.")
    question = get_question(int(example["question_id"]))
    items = () if example["grades"] is None else example["grades"]
    given = {str(item["attribute"]): _number(item["grade"]) for item in items}
    unknown = sorted(set(given) - set(question.attributes))
    if unknown:
        names = ", ".join(question.attributes)
        raise GradeError(
            f"Question {question.id} has no attribute {', '.join(unknown)}, only {names}. Take grades from the row of "
            "this question."
        )
    grades = [
        MISSING if given.get(slot.attribute) is None else slot.check(given[slot.attribute]) for slot in question.slots
    ]
    empty = [MISSING] * (MOST_SLOTS - len(grades))
    return grades + empty, [slot.id for slot in question.slots] + empty


def _number(grade: Any) -> Any:
    """Unwrap a grade that ``with_format`` made a scalar tensor or a NumPy scalar."""
    return grade.item() if hasattr(grade, "item") else grade


# Keys that become tensors by a rule of their own. Of the others, arrays are stacked and everything else is a list.
_CONSUMED = {
    "voxels",
    "volume",
    "mask",
    "box",
    "box_volume",
    "grades",
    "valid",
    "pad_token_id",
    "padding_side",
    *TOKENS,
}
# Keys that replace the volume: a model that is trained on pictures has no use for the voxels.
_PICTURES = {"frames", "images", "videos"}
# Long texts from which tokens are made.
_TEXTS = {"question", "reasoning", "answer", "record"}
_DTYPES = ("uint8", "int16", "float16", "bfloat16", "float32")


@dataclass(frozen=True, slots=True)
class QuintupleCollator:
    """Make a batch of examples.

    =================  ==================================================================================
    key                value
    =================  ==================================================================================
    ``id``             list of strings, as all other columns that are kept
    ``volume``         (B, C, D, H, W), padded at the ends where shapes differ; in the voxels' own type (int16 for
                       stored knees) unless `dtype` names another
    ``orientation``    list of strings: the direction in which D, H and W run, such as "RAS"
    ``voxel_mask``     (B, 1, D, H, W) bool, true where a voxel comes from the stored volume and false where it is
                       padding, of a crop or of this batch
    ``segmentation``   (B, 1, D, H, W) uint8, labels of the column ``mask`` (``load_dataset(..., masks=True)``)
    ``unpadded_box``   (B, 6) int64, the box of the voxels that are not padding, from which ``voxel_mask`` is computed
    ``boxes``          (B, 6) int64, i0 j0 k0 i1 j1 k1 in the grid of ``volume``; it may reach beyond a crop
    ``boxes_volume``   (B, 6) int64, the same boxes in the stored volume
    ``grades``         (B, 3) int64 in the order of the question's slots, -1 where missing or no slot: leave it out
                       of a loss (``ignore_index=-1``)
    ``slots``          (B, 3) int64, ids into `moaks.SLOTS`, -1 where there is none
    ``input_ids`` ...  (B, T) int64, ``attention_mask`` and ``labels`` with it
    ``valid``          (B,) bool, false for an example that is a repeat, with which several ranks fill their last step
    ``frames`` ...     arrays of one shape stacked; where shapes differ, a list of tensors
    =================  ==================================================================================

    **Axes.** D, H and W are the array axes of the volume in its own orientation, which differs between stored volumes.
    After `ToCanonical` it is RAS: D runs from left to right, H from posterior to anterior, W from inferior to superior,
    and ``boxes`` count in the same order. A batch that mixes orientations is an error by default.

    **Columns.** Where there are tokens, their source texts are dropped (unless `keep` names them), since
    the whole batch is sent from its worker to the training process.

    ``volume`` has the memory order of the stored volume, so it is not contiguous (``.contiguous()`` costs next to
    nothing on a GPU, and `Batch.cast` returns a contiguous one).

    Parameters
    ----------
    dtype : torch.dtype or str, optional
        Type of ``volume``: uint8, int16, float16, bfloat16 or float32; by default the type of the voxels. Values that
        it would wrap or cut are an error.
    pad_value : float
        Value of voxels beyond a smaller example.
    contiguous : bool
        Lay the memory of ``volume`` in C order here. It takes about 2 ms for 64x96x96 voxels.
    pad_token_id : int, optional
        Where ``input_ids`` differ in length: `TokenizeReasoning.pad_token_id`. By default the examples' key of that
        name.
    buckets : sequence of int, optional
        Lengths: tokens are padded to the smallest one that fits the longest, so that a compiled model sees few shapes.
    padding_side : {"right", "left"}, optional
        By default the side of the transform's tokenizer (in `make_dataloader`), else the examples' key of that name,
        else right where there are labels and left, for generation, where there are none. Spans of tokens move with
        them.
    keep : sequence of str, optional
        The other columns to keep, besides ``id``. By default all but long texts that have become tokens.
    orientation : str
        "same" refuses a batch of arrays that differ in orientation, "any" accepts it, and three letters such as "RAS"
        refuse every other orientation.
    pad_to_multiple_of : int, optional
        Pad tokens to a multiple of this length; by default as the transform's tokenizer states it.

    Examples
    --------
    >>> import numpy as np
    >>> example = {
    ...     "id": "9016403/00M/right/q19",
    ...     "voxels": np.zeros((4, 6, 8), np.float32),
    ...     "box": [1, 1, 1, 3, 4, 5],
    ...     "question_id": 19,
    ...     "grades": [{"attribute": "size", "grade": 2}, {"attribute": "depth", "grade": None}],
    ... }
    >>> batch = QuintupleCollator(dtype="float16")([example])
    >>> batch["volume"].shape, batch["grades"], batch["slots"]
    (torch.Size([1, 1, 4, 6, 8]), tensor([[ 2, -1, -1]]), tensor([[51, 52, -1]]))
    """

    dtype: torch.dtype | str | None = None
    pad_value: float = 0.0
    contiguous: bool = False
    pad_token_id: int | None = None
    buckets: tuple[int, ...] | None = None
    padding_side: str | None = None
    keep: tuple[str, ...] | None = None
    orientation: str = "same"
    pad_to_multiple_of: int | None = None

    def __post_init__(self) -> None:
        if self.dtype is not None:
            name = str(self.dtype).removeprefix("torch.")
            if name not in _DTYPES:
                raise LoaderError(f"dtype must be one of {', '.join(_DTYPES)}, not {shown(self.dtype)}.")
            object.__setattr__(self, "dtype", getattr(torch, name))
        if not (
            self.padding_side is None or (isinstance(self.padding_side, str) and self.padding_side in ("right", "left"))
        ):
            raise LoaderError(
                "padding_side must be 'right' (for training) or 'left' (for generation), "
                f"not {shown(self.padding_side)}."
            )
        check_setting(self.orientation)
        check_number("pad_value", self.pad_value)
        check_flag("contiguous", self.contiguous)
        check_count("pad_token_id", self.pad_token_id, 0, optional=True)
        check_count("pad_to_multiple_of", self.pad_to_multiple_of, 1, optional=True)
        if self.keep is not None:
            object.__setattr__(self, "keep", check_names("keep", self.keep))
        if self.buckets is not None:
            if isinstance(self.buckets, str) or not isinstance(self.buckets, Iterable):
                raise LoaderError(f"buckets must be a list of lengths such as (256, 512), not {shown(self.buckets)}.")
            object.__setattr__(self, "buckets", tuple(self.buckets))
            for bucket in self.buckets:
                check_count("A length in buckets", bucket, 1)

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> Batch:
        """Make a batch; an error names the example that it comes from, where it comes from one."""
        if not examples:
            raise LoaderError("A batch needs at least one example, and the list of examples is empty.")
        has = _common_keys(examples)
        items: dict[str, Any] = {name: _together([example[name] for example in examples]) for name in self._kept(has)}
        if "voxels" in has or ("volume" in has and not _PICTURES & set(has)):
            assert self.dtype is None or isinstance(self.dtype, torch.dtype)
            items["volume"], items["unpadded_box"] = stack(
                examples, self.dtype, self.pad_value, contiguous=self.contiguous
            )
            found = check_orientations(examples, self.orientation)
            if None not in found:
                items["orientation"] = found
        if "mask" in has and "volume" in items:
            masks = [{"id": example.get("id"), "volume": example["mask"]} for example in examples]
            items["segmentation"], _ = stack(masks, None, 0, contiguous=self.contiguous)
        if "box" in has:
            items["boxes"] = torch.tensor([list(example["box"]) for example in examples])
            originals = [example["box" if example.get("box_volume") is None else "box_volume"] for example in examples]
            items["boxes_volume"] = torch.tensor([list(row) for row in originals])
        if "grades" in has:
            rows = [noted(grade_rows, example) for example in examples]
            items["grades"], items["slots"] = (torch.tensor(rows) for rows in zip(*rows, strict=True))
        if "input_ids" in has:
            side = self.padding_side or choose_side(examples)
            items |= pad_tokens(examples, self.pad_token_id, self.buckets, side, self.pad_to_multiple_of)
            length = items["input_ids"].shape[1]
            for name in SPANS if side == "left" else ():
                if name in items:
                    items[name] = [moved_spans(example, name, length) for example in examples]
        items["valid"] = torch.tensor([bool(example.get("valid", True)) for example in examples])
        return Batch(items)

    def padded_as(self, padding: Mapping[str, Any]) -> QuintupleCollator:
        """Return a collator that pads as a tokenizer does, where padding was not set (see `find_padding`)."""
        return replace(self, **{name: value for name, value in padding.items() if getattr(self, name) is None})

    def _kept(self, has: Sequence[str]) -> list[str]:
        kept = [name for name in has if name not in _CONSUMED]
        if self.keep is None and "input_ids" in has:
            return [name for name in kept if name not in _TEXTS]
        return kept if self.keep is None else [name for name in kept if name == "id" or name in self.keep]


def _common_keys(examples: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name the keys, which must be those of all examples; what is None everywhere counts as left out."""
    odd_ones = [type(example).__name__ for example in examples if not isinstance(example, Mapping)]
    if odd_ones:
        raise LoaderError(
            f"The examples of a batch must be mappings, not {odd_ones[0]}. Return the example from the transform, or "
            "pass a collate_fn for what it returns."
        )
    names = list(examples[0])
    for example in examples[1:]:
        if set(example) != set(names):
            odd = sorted(set(example) ^ set(names))
            raise LoaderError(
                f"The examples of a batch must have the same keys, but {', '.join(map(str, odd))} are only in some. "
                "Apply the same transform to all of them."
            )
    for name in ("box", "input_ids", "mask"):
        lacking = [example for example in examples if name in names and example[name] is None]
        if 0 < len(lacking) < len(examples):
            raise LoaderError(
                f"{lacking[0].get('id')} has no {name}, but other examples of the batch have one. Remove the column "
                f"{name}, or the rows without it."
            )
    return [name for name in names if name == "id" or any(example[name] is not None for example in examples)]


def _together(values: list[Any]) -> Any:
    """Stack arrays of one shape; leave everything else in a list."""
    if not all(isinstance(value, np.ndarray | torch.Tensor) and value.ndim for value in values):
        return values
    if any(isinstance(value, np.ndarray) and value.dtype.kind not in "biufc" for value in values):
        return values  # words, as a dataset gives them with_format("numpy")
    tensors = [torch.as_tensor(np.ascontiguousarray(value)) for value in values]
    return torch.stack(tensors) if len({tensor.shape for tensor in tensors}) == 1 else tensors
