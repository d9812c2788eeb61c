"""The base class of transforms, and how an example carries voxels that are not read yet.

**A transform is a value.** It is frozen, its repr rebuilds it, it pickles and hashes small and the same in every
process (``datasets`` names cached files by that hash). Calling it with an example gives a new example and leaves the
old one alone. An example may be a dict, the lazy row of ``Dataset.map``, or a batch (a dict of lists:
``with_transform``, ``map(batched=True)``); each transform says only which keys change for one example
(`Transform.apply`), and this module does the rest. Of a lazy row a copy is taken and keys are set, so that columns
that stay the same are never decoded.

**Where the voxels are.** ``volume`` is always a nibabel image on the example's *current* grid, and ``box`` always lies
in that grid. `CropToBox`, `ToCanonical`, `RandomFlip`, `RandomShift`, `Resize` and `Resample` read nothing: each lays a
`View` over the volume, a few numbers that say for every axis of the new grid where it runs in the stored array. Views
compose to one, so that any chain of them costs one region read and at most one interpolation, done when they are read:
``np.asarray(example["volume"])``, a `Window`, a `ToFrames` or the collator. A volume in a dataset's column is a string,
and so is a viewed one (its reference with the view behind it): mapped over a dataset these transforms write numbers and
no voxels, and the row that is read back later is the example that was written.

=================  =====================================================================================
key                meaning
=================  =====================================================================================
``volume``         lazy nibabel image on the current grid; ``volume.view`` leads back to the stored one
``box``            six whole numbers in the current grid; never cut, so it may reach beyond a small crop
``region``         six whole numbers: the stored volume's voxels that the grid covers, padding included
``box_volume``     six whole numbers: the box as it was in the stored volume, exact for ever
``mirrored``       whether anatomy was mirrored (`RandomFlip`)
``voxels``         array on the current grid, once values were changed (`Window`, `RandomIntensity`)
``frames`` ...     see `ToFrames`
=================  =====================================================================================

`Window` is the border between the two: it reads the region and gives ``voxels``. Grid transforms after it move
``voxels`` too; what then comes in from outside is padding, since values beyond the array are gone. With ``per="crop"``
a window looks at the region alone, with ``per="volume"`` at the whole stored volume, whose statistics are kept. Without
a window, the collator reads stored numbers, and the GPU may do the rest.

**Two maps in one view.** Re-indexing (`CropToBox`, `ToCanonical`) keeps every voxel at its place in the world. Moving
anatomy (`RandomFlip`, `RandomShift`) keeps the grid where it is and moves the patient in it. So a view holds where its
voxels are read from and where its grid lies, and the two part only once anatomy was moved.

**Randomness** is drawn from the transform's seed, the example's ``epoch`` (a key that a loader sets; 0 without it) and
its ``id``, and from nothing else: not from workers, order, batches or what was drawn before. Drawing
(`Transform.make_params`) is apart from applying, so that parameters can be read, kept, or applied to another example.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from reasonknee_datasets.errors import ReasonKneeError, add_note, shown

if TYPE_CHECKING:
    from typing_extensions import Self

Example = Mapping[str, Any]

# A batch is told from an example by one of these, whose value in an example is never a list.
_SCALARS = ("id", "volume_path", "patient", "side", "question_id", "question", "volume")


class TransformError(ReasonKneeError, ValueError):
    """A transform that cannot be made, or does not apply to an example."""


class Transform:
    """Base of all transforms; a subclass is a frozen dataclass with `apply`, and `make_params` if it is random.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True, slots=True)
    ... class Shout(Transform):
    ...     mark: str = "!"
    ...
    ...     def apply(self, example, params=None):
    ...         return {"question": example["question"].upper() + self.mark}
    >>> Shout()({"id": "a", "question": "Any tear?"})
    {'id': 'a', 'question': 'ANY TEAR?!'}
    >>> Shout()({"id": ["a", "b"], "question": ["Any tear?", "Where?"]})["question"]
    ['ANY TEAR?!', 'WHERE?!']
    """

    __slots__ = ()

    def make_params(self, example: Example) -> Any:
        """Draw the parameters for one example: plain values, from its ``id``, its ``epoch`` and the seed alone.

        Parameters
        ----------
        example : mapping
            One example; no voxel is read.

        Returns
        -------
        object
            What `apply` takes for this or for another example; None for a transform that draws nothing.
        """
        del example

    def apply(self, example: Example, params: Any = None) -> dict[str, Any]:
        """Return the keys that change for one example, and nothing else; the example stays as it is.

        Parameters
        ----------
        example : mapping
            One example. Reading a key may decode it, so read only what is needed.
        params : object
            From `make_params`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no apply method")

    def added_features(self, features: Mapping[str, Any]) -> dict[str, Any]:
        """Return the feature type of every key that `apply` adds or retypes, for examples with these features."""
        del features
        return {}

    def __call__(self, example: Any) -> Any:
        """Transform an example, a lazy row or a batch, and leave it as it is."""
        scratch = example if isinstance(example, dict) else example.copy()
        key = next((name for name in _SCALARS if name in scratch), None)
        if key is None or not is_column(scratch[key]):
            return _updated(example, self._noted(scratch))
        rows = [self._noted(BatchRow(scratch, index)) for index in range(len(scratch[key]))]
        names = dict.fromkeys(name for row in rows for name in row)
        return _updated(example, {name: [row[name] for row in rows] for name in names})

    def output_features(self, features: Any) -> Any:
        """Return the features of transformed examples, for ``map(..., features=...)`` of a streaming dataset.

        Parameters
        ----------
        features : datasets.Features
            Of the examples before.
        """
        return type(features)({**features, **self.added_features(features)})

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Refuse an example, which belongs to an instance, and positions that say nothing."""
        if args and _is_example(args[0]):
            raise TransformError(
                f"{cls.__name__} is a class and was called with an example. Create the transform first, as in "
                f"{cls.__name__}(...)(example), and pass that to Compose, map, with_transform or make_dataloader."
            )
        own: list[Any] = [field for field in fields(cls) if field.init] if is_dataclass(cls) else []
        positional = [field.name for field in own if not field.kw_only]
        if is_dataclass(cls) and len(args) > len(positional):
            given = f", not {shown(args[len(positional)])} by position" if len(args) == len(positional) + 1 else ""
            names = ", ".join(f"{field.name}=" for field in own if field.kw_only and field.name[0] != "_")
            raise TypeError(f"{cls.__name__} takes these by keyword: {names or 'nothing'}{given}.")
        return super().__new__(cls)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Pickle by value: two equal transforms give the same bytes, in any process, so that their hashes agree."""
        names = [sys.intern(field.name) for field in fields(self)]  # type: ignore[arg-type]
        return _create, (type(self), tuple((name, _canonical(getattr(self, name))) for name in names))

    def _noted(self, example: Example) -> dict[str, Any]:
        try:
            return self.apply(example, self.make_params(example))
        except ReasonKneeError as error:
            add_note(error, f"while {type(self).__name__} looked at {example.get('id', 'an example without an id')}")
            raise


def _create(kind: type[Transform], settings: tuple[tuple[str, Any], ...]) -> Transform:
    return kind(**dict(settings))


class BatchRow(Mapping[str, Any]):
    """One row of a batch, column by column as it is asked for."""

    def __init__(self, batch: Mapping[str, Any], index: int) -> None:
        self._batch, self._index = batch, index

    def __getitem__(self, key: str) -> Any:
        return self._batch[key][self._index]

    def __iter__(self) -> Iterator[str]:
        return iter(self._batch)

    def __len__(self) -> int:
        return len(self._batch)

    def __contains__(self, key: object) -> bool:
        return key in self._batch  # Mapping's own would decode the column


def require(example: Example, key: str, needed_for: str) -> Any:
    """Return the value of a key that must be there."""
    value = example.get(key)
    if value is None:
        raise TransformError(
            f"The example has no {key}, which is needed for {needed_for}. Load that column with columns=[..., "
            f"{key!r}], and do not remove it before."
        )
    return value


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> str:
    """Check that a word is one of a few, and return it."""
    if not isinstance(value, str) or value not in choices:
        raise TransformError(f"{name} must be one of {', '.join(choices)}, not {shown(value)}.")
    return value


def _is_example(value: object) -> bool:
    return isinstance(value, Mapping) and any(name in value for name in _SCALARS)


def is_column(value: Any) -> bool:
    """Return whether a value is a column of a batch, and not a value of one example."""
    return isinstance(value, list | tuple) or getattr(value, "ndim", 0) == 1


def _updated(example: Any, changes: Mapping[str, Any]) -> Any:
    if isinstance(example, dict):
        return {**example, **changes}
    new = example.copy()
    for key, value in changes.items():
        new[key] = value
    return new


def _canonical(value: Any) -> Any:
    """Make equal values the same to a pickler, which writes an object that it has met before in another way."""
    if isinstance(value, str):
        return sys.intern(value)
    return tuple(map(_canonical, value)) if type(value) is tuple else value
