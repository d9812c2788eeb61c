"""Load, train on and score 3DReasonKnee."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Imported on first use, so that ``import reasonknee_datasets`` stays light and never imports torch.
_HOMES = {
    "Box": "reasonknee_datasets.boxes",
    "load_dataset": "reasonknee_datasets.load",
    "open_volume": "reasonknee_datasets.volumes",
    "register": "reasonknee_datasets.load",
}

__all__ = ["Box", "__version__", "load_dataset", "open_volume", "register"]


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
