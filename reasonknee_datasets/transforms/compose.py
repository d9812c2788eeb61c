"""`Compose`: several transforms as one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from reasonknee_datasets.errors import shown
from reasonknee_datasets.transforms.base import Transform, TransformError


@dataclass(frozen=True, slots=True)
class Compose(Transform):
    """Apply transforms in order.

    Parameters
    ----------
    transforms : sequence of callables
        Transforms, or your own functions from an example to a new one.

    Examples
    --------
    >>> from reasonknee_datasets.transforms import CropToBox, ToCanonical, Window
    >>> steps = Compose([ToCanonical(), CropToBox(size=(64, 96, 96)), Window()])
    >>> eval(repr(steps)) == steps
    True
    """

    transforms: tuple[Callable[[Any], Any], ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.transforms, Iterable) or isinstance(self.transforms, str | Mapping):
            raise TransformError(
                f"Compose takes a list of transforms, not {shown(self.transforms)}. For example "
                "Compose([ToCanonical(), Window(0, 400)])."
            )
        given = tuple(self.transforms)
        for place, step in enumerate(given):
            if isinstance(step, type):
                raise TransformError(
                    f"Step {place} of Compose is {shown(step)}, not a transform. Create it: {step.__name__}(...)."
                )
            if not callable(step):
                raise TransformError(f"Step {place} of Compose must be a transform or a function, not {shown(step)}.")
        object.__setattr__(self, "transforms", given)

    def __call__(self, example: Any) -> Any:
        """Transform an example, a lazy row or a batch, and leave it as it is."""
        for place, step in enumerate(self.transforms):
            example = step(example)
            if example is None:
                name = getattr(step, "__name__", type(step).__name__)
                raise TransformError(f"Step {place} of Compose ({name}) returned None. Return the example at its end.")
        return example

    def output_features(self, features: Any) -> Any:
        """Return the features of transformed examples, step by step."""
        for step in self.transforms:
            if not hasattr(step, "output_features"):
                raise TransformError(
                    f"A step of Compose ({getattr(step, '__name__', type(step).__name__)}) has no output_features. Add "
                    "one that returns the features of its examples, or map it by itself with features=."
                )
            features = step.output_features(features)
        return features
