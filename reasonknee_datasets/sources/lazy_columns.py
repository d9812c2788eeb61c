"""Types of the lazy columns (volumes and masks) in datasets."""

from __future__ import annotations

from typing import Any

import datasets

from reasonknee_datasets.feature import VolumeFeature
from reasonknee_datasets.sources.selection import LAZY, Selection
from reasonknee_datasets.sources.visit_pairs import EARLIER, LATER


def volume_features(selection: Selection) -> datasets.Features:
    """Return the features of a selection's rows, volumes and masks typed."""
    features = datasets.Features.from_arrow_schema(selection.schema)
    features.update({name: VolumeFeature() for name in LAZY if name in features})
    return features


def with_volumes(loaded: Any) -> Any:
    """Set the types of the lazy columns of a dataset, or of a dict or list of datasets."""
    if isinstance(loaded, dict):
        return type(loaded)({split: with_volumes(dataset) for split, dataset in loaded.items()})
    if isinstance(loaded, list):
        return [with_volumes(dataset) for dataset in loaded]
    for name in LAZY:
        loaded = loaded.cast_column(name, VolumeFeature()) if name in loaded.column_names else loaded
    for side in (EARLIER, LATER):
        if side in loaded.column_names:
            lazy = {name: VolumeFeature() for name in LAZY if name in loaded.features[side]}
            loaded = loaded.cast_column(side, {**loaded.features[side], **lazy}) if lazy else loaded
    return loaded
