"""torchvision for a torch without CUDA, in the processes that call `admit` and nowhere else.

PyPI's wheels of torchvision declare their operators in a library that is linked against CUDA. With a CPU build of
torch it does not load, and the import fails at the first operator that Python code refines. Qwen2.5-VL's processors
call none of these operators: they resize and normalize with torch's own. So the two that are refined are declared here,
by name and without a kernel, and everything else is torchvision as it was published.

Installed among the others, such a torchvision would break every import of transformers and TRL that looks for it. So
it is in a folder `torchvision` of its own, next to the environment's ``lib``, where only `admit` finds it::

    python -m pip install --no-deps --target "$VIRTUAL_ENV/torchvision" torchvision==0.28.0
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

FOLDER = Path(sys.prefix) / "torchvision"
_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def admit() -> None:
    """Make torchvision importable; call it before transformers is imported."""
    import torch

    if importlib.util.find_spec("torchvision") is None:
        sys.path.append(str(FOLDER))
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for operator in _OPERATORS:
            library.define(operator)
        importlib.import_module("torchvision")
