"""Load, train on and score 3DReasonKnee.

Names are imported on first use. Those for training (`make_dataloader`, `prefetch_to_device`, `QuintupleCollator`) need
torch: ``pip install "reasonknee_datasets[torch]"``.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from reasonknee_datasets.registration import register_feature_type

if TYPE_CHECKING:
    from reasonknee_datasets.boxes import Box
    from reasonknee_datasets.collate import QuintupleCollator
    from reasonknee_datasets.feature import VolumeFeature
    from reasonknee_datasets.load import load_dataset, register
    from reasonknee_datasets.loader import make_dataloader, prefetch_to_device
    from reasonknee_datasets.transforms import (
        Compose,
        CropToBox,
        ToCanonical,
        ToConversation,
        ToFrames,
        TokenizeReasoning,
        Window,
    )
    from reasonknee_datasets.volumes import open_volume

__version__ = "0.1.0"

__all__ = [
    "Box",
    "Compose",
    "CropToBox",
    "QuintupleCollator",
    "ToCanonical",
    "ToConversation",
    "ToFrames",
    "TokenizeReasoning",
    "VolumeFeature",
    "Window",
    "__version__",
    "load_dataset",
    "make_dataloader",
    "open_volume",
    "prefetch_to_device",
    "register",
]

# Where a name is imported from on first use, so that importing the package stays light and never imports torch.
_HOMES = {
    "Box": "boxes",
    "Compose": "transforms",
    "CropToBox": "transforms",
    "QuintupleCollator": "collate",
    "ToCanonical": "transforms",
    "ToConversation": "transforms",
    "ToFrames": "transforms",
    "TokenizeReasoning": "transforms",
    "VolumeFeature": "feature",
    "Window": "transforms",
    "load_dataset": "load",
    "make_dataloader": "loader",
    "open_volume": "volumes",
    "prefetch_to_device": "loader",
    "register": "load",
}
_NEED_TORCH = ("collate", "loader")


def _can_import(name: str) -> bool:
    """Check whether what a public name needs is installed, without importing it."""
    if _HOMES.get(name) not in _NEED_TORCH:
        return True
    try:
        return find_spec("torch") is not None
    except (ImportError, ValueError):  # an import hook refuses it, or sys.modules holds None for it
        return False


register_feature_type()
# ``from reasonknee_datasets import *`` imports every name here, so a name with a missing extra would stop it.
__all__[:] = [name for name in __all__ if _can_import(name)]


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(import_module(f"{__name__}.{home}"), name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "torch":
            raise
        from reasonknee_datasets.errors import missing_extra

        raise missing_extra("torch", "torch", f"reasonknee_datasets.{name}") from error
    except AttributeError as error:
        # Python would say "cannot import name", and hide the cause.
        raise ImportError(f"{__name__}.{name} cannot be imported: {error}") from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the names that can be imported: ``help`` and ``inspect.getmembers`` import each of them."""
    return sorted(name for name in {*_HOMES, "__version__"} if _can_import(name))
