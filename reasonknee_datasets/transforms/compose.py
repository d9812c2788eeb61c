"""`Compose`: several transforms as one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from reasonknee_datasets.errors import explain
from reasonknee_datasets.transforms.base import Transform, TransformError


@dataclass(frozen=True, slots=True)
class Compose(Transform):
    """Apply transforms in order.

    Parameters
    ----------
    transforms : sequence of callables
        Transforms, or functions of your own that take an example and give a new one.

    Examples
    --------
    >>> from reasonknee_datasets.transforms import CropToBox, ToCanonical, Window
    >>> steps = Compose([ToCanonical(), CropToBox(size=(64, 96, 96)), Window()])
    >>> eval(repr(steps)) == steps
    True
    """

    transforms: tuple[Callable[[Any], Any], ...] = ()

    def __post_init__(self) -> None:
        given = tuple(self.transforms) if isinstance(self.transforms, Iterable) else ("no list",)
        if not all(map(callable, given)):
            remedy = "Write Compose([CropToBox(...), Window()])"
            raise TransformError(explain("Compose", "be given a list of transforms", repr(self.transforms), remedy))
        object.__setattr__(self, "transforms", given)

    def __call__(self, example: Any) -> Any:
        """Transform an example, a lazy row or a batch, and leave it as it is."""
        for step in self.transforms:
            example = step(example)
        return example

    def features(self, features: Any) -> Any:
        """Give the features of transformed examples."""
        for step in self.transforms:
            if not hasattr(step, "features"):
                remedy = "Give it a features method, or map it by itself with features="
                raise TransformError(explain("each step", "say what features it gives", repr(step), remedy))
            features = step.features(features)
        return features
