"""Reads the golden files; README.md in this folder shows their form."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).parent
BOXES = "13_boxes.txt"

_TITLE = re.compile(r"=== (\d+)\. (.+)")
_OUTCOME = re.compile(r"  (\w+) = (?:nothing, (?P<reason>\w+)|(?P<value>[^,]+), by (?P<rules>.+))")


@dataclass
class Golden:
    """One entry: what was said, and what becomes of each slot (value or reason, and rules)."""

    file: str
    title: str
    number: int
    fields: dict[str, str] = field(default_factory=dict)
    said: str = ""
    outcomes: dict[str, tuple[str | None, str | None, tuple[str, ...]]] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{self.file.split('.')[0]}-{self.number}"


def read(path: Path) -> Iterator[Golden]:
    entry: Golden | None = None
    lines: list[str] = []
    for line in path.read_text(encoding="utf-8").split("\n"):
        if title := _TITLE.fullmatch(line):
            entry, lines = Golden(path.name, title[2], int(title[1])), []
            yield entry
        elif entry is None or line in ("", "said:", "becomes:"):
            continue
        elif line.startswith("|"):
            lines.append(line[2:])
            entry.said = "\n".join(lines)
        elif line.startswith("said, as a JSON string: "):
            entry.said = json.loads(line.removeprefix("said, as a JSON string: "))
        elif outcome := _OUTCOME.fullmatch(line):
            rules = tuple(outcome["rules"].split(" + ")) if outcome["rules"] else ()
            entry.outcomes[outcome[1]] = (outcome["value"], outcome["reason"], rules)
        else:
            name, mark, value = line.partition(": ")
            if not mark or name not in ("question", "ended", "error", "convention", "volume"):
                raise ValueError(f"{path.name}, entry {entry.number}: {line!r} is no line of a golden file")
            entry.fields[name] = value


def answers() -> list[Golden]:
    files = sorted(path for path in FOLDER.glob("*.txt") if path.name != BOXES)
    return [entry for path in files for entry in read(path)]


def boxes() -> list[Golden]:
    return list(read(FOLDER / BOXES))
