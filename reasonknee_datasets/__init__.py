"""Load, train on and score 3DReasonKnee."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Imported on first use, so that ``import reasonknee_datasets`` stays light and never imports torch.
_HOMES = {
    "Box": "reasonknee_datasets.boxes",
    "Compose": "reasonknee_datasets.transforms",
    "CropToBox": "reasonknee_datasets.transforms",
    "QuintupleCollator": "reasonknee_datasets.collate",
    "ToCanonical": "reasonknee_datasets.transforms",
    "ToConversation": "reasonknee_datasets.transforms",
    "ToFrames": "reasonknee_datasets.transforms",
    "TokenizeReasoning": "reasonknee_datasets.transforms",
    "Window": "reasonknee_datasets.transforms",
    "load_dataset": "reasonknee_datasets.load",
    "make_dataloader": "reasonknee_datasets.loader",
    "open_volume": "reasonknee_datasets.volumes",
    "prefetch_to_device": "reasonknee_datasets.loader",
    "register": "reasonknee_datasets.load",
}

__all__ = [
    "Box",
    "Compose",
    "CropToBox",
    "QuintupleCollator",
    "ToCanonical",
    "ToConversation",
    "ToFrames",
    "TokenizeReasoning",
    "Window",
    "__version__",
    "load_dataset",
    "make_dataloader",
    "open_volume",
    "prefetch_to_device",
    "register",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(import_module(home), name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "torch":
            raise
        from reasonknee_datasets.errors import missing_extra

        raise missing_extra("torch", "torch", f"reasonknee_datasets.{name}") from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
