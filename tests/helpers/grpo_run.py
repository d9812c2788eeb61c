"""Run `examples/train_grpo.py` with the arguments given, in a process where torchvision is admitted."""

from __future__ import annotations

import sys

from tests.helpers.paths import ROOT
from tests.helpers.torchvision_on_cpu import admit

sys.path.insert(0, str(ROOT / "examples"))

if __name__ == "__main__":
    admit()
    import train_grpo

    train_grpo.main()
