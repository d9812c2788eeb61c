"""The hand-written reasoning texts of `tests/bench/golden`, as cases."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.helpers.paths import ROOT

FILE = ROOT / "tests" / "bench" / "golden" / "hand_written_reasoning.md"
_STATED = {"s": "supported", "c": "contradicted", "n": "not_stated", "-": None}
_NAMED = {"r": "right", "w": "wrong", "-": "not_named"}
_POSITION = {"i": "inside", "o": "outside", "-": "not_stated"}


@dataclass(frozen=True)
class Case:
    """One text with what a person reads in it."""

    name: str
    question: int
    knee: str
    text: str
    consistency: dict[str, str | None]
    coverage: dict[str, bool]
    grounding: tuple[str, str, str]


def cases() -> list[Case]:
    found = []
    entries = re.split(r"(?m)^@", FILE.read_text(encoding="utf-8"))[1:]
    for number, entry in enumerate(entries, start=1):
        head, _, text = entry.partition("\n")
        question, knee, *pairs = head.split()
        read = dict(pair.split("=") for pair in pairs)
        places = (_NAMED[read.pop("place")], _NAMED[read.pop("side")], _POSITION[read.pop("slices")])
        stated = {name: _STATED[value[0]] for name, value in read.items()}
        covered = {name: value[1] == "+" for name, value in read.items()}
        found.append(Case(f"{number:02d}-q{question}", int(question), knee, text.strip(), stated, covered, places))
    return found
