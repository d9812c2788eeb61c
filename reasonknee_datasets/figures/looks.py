"""Colours of figures: a dark and a light look.

Every pair that is used together has contrast for all common kinds of colour vision; tests/figures/test_looks.py checks
it with simulated protanopia, deuteranopia and tritanopia.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reasonknee_datasets.errors import ReasonKneeError

LookName = Literal["dark", "light"]

# On slices, which are black and grey in every look.
BOX = "#ffb000"
PREDICTED = "#56cfff"
SLICE_TEXT = "#eceff4"
SLICE_CAPTION = "#ccd3de"
SLICE_WARNING = "#ff5d8f"


class FigureError(ReasonKneeError, OSError, ValueError):
    """A figure that cannot be drawn or written."""


@dataclass(frozen=True, slots=True)
class Look:
    """Colours of the text of a figure.

    Attributes
    ----------
    paper : str
        Ground of the figure.
    ink, faint : str
        Text; secondary text.
    rule : str
        Ground of the grades that do not apply.
    accent : str
        Subregion, numbers of steps, and ground of the true grade.
    warning : str
        The mark of synthetic data.
    """

    paper: str
    ink: str
    faint: str
    rule: str
    accent: str
    warning: str


LOOKS: dict[str, Look] = {
    "dark": Look(paper="#101318", ink="#eceff4", faint="#a3adbb", rule="#2a303b", accent="#ffb000", warning="#ff8f86"),
    "light": Look(paper="#ffffff", ink="#1b2129", faint="#566070", rule="#eceff2", accent="#8a5a00", warning="#b3261e"),
}


def find_look(name: str) -> Look:
    """Return a look by its name.

    Raises FigureError if there is none.
    """
    if name not in LOOKS:
        raise FigureError(f"Unknown look {name!r}. Available: {', '.join(LOOKS)}.")
    return LOOKS[name]
