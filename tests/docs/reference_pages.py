"""Write the reference pages that are made from the code: the row, and the command line.

``python -m tests.docs.reference_pages`` writes them; test_pages.py fails where a page differs from the code.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from reasonknee_datasets.boxes import CONVENTIONS
from reasonknee_datasets.moaks import CATEGORIES, QUESTIONS
from reasonknee_datasets.release import KINDS

PAGES = Path(__file__).parents[2] / "docs" / "reference"
CARD = Path(__file__).parents[2] / "dataset_card.md"

_ROW = """# The row

A row of the default config `quintuples` is one question about one volume.

{fields}

`load_dataset` of this package adds `volume`, a lazy nibabel image of the file that `volume_path` names.

## Questions

Each volume has a row for questions 1 to 62. Questions 63 to 69 occur in the official prompt files only.

| question | category | finding | subregion | attributes |
|---:|---|---|---|---|
{questions}

## Attributes and their grades

`grades` is a list with one entry for each attribute of the question. `scale` is `ordinal` (the grades have an order),
`binary`, or `nominal` (the
grades are names without an order). A missing grade is null, never 0.

The same grades are in flat columns, `grade_` and the name of the attribute: null where the grade is missing, and where
the question has no such attribute. Filters on them are applied while the Parquet is read:

```python
>>> from reasonknee_datasets import load_dataset
>>> large = [("category", "==", "cartilage_lesion"), ("grade_size", ">=", 2)]
>>> rows = load_dataset("3dreasonknee", split="train", filters=large)
>>> set(rows["grade_size"]) <= {{2, 3}}
True
```

| attribute | scale | grades | findings |
|---|---|---|---|
{attributes}
"""

_COMMANDS = """# Command line

`reasonknee COMMAND --help` prints the same. `python -m reasonknee_datasets` is the same command.

{commands}
"""


_NAMES = """# Names that arguments take

## Categories, findings and subregions

`filters=[("category", "==", ...)]`, `("finding", ...)` and `("subregion", ...)` take these values.
[The row](row.md) lists the questions that they make.

- `category`: {categories}
- `finding`: {findings}
- `subregion`: {subregions}

## Box conventions

`--box-convention` and `box_convention=` take the name of one of these 48 conventions. `pairs`, `inclusive` and
`voxel` may be left out: `slice0-x1-y2` is `slice0-x1-y2-pairs-inclusive-voxel`.
[Boxes and their conventions](../explanation/boxes.md) explains the parts.

{conventions}

## Problems of a release

`reasonknee prepare --allow NAME` and `prepare(allow=[...])` continue in spite of a problem. The manifest
records what was allowed.

| name | problem | if allowed |
|---|---|---|
{kinds}
"""


def names_page() -> str:
    """Return the page of closed lists: what filters, --box-convention and --allow take."""
    questions = [question for question in QUESTIONS.values() if question.in_records]
    return _NAMES.format(
        categories=_listed(name for name in CATEGORIES if any(name == each.category for each in questions)),
        findings=_listed(each.finding for each in questions),
        subregions=_listed(each.subregion for each in questions),
        conventions="\n".join(f"- `{convention}`" for convention in CONVENTIONS),
        kinds="\n".join(
            f"| `{each.name}` | {each.meaning} | {each.allowed or '*never allowed*'} |" for each in KINDS.values()
        ),
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in dict.fromkeys(names))


def row_page() -> str:
    """Return the page of the row: the card's table, and what every question asks."""
    fields = re.search(r"<!-- fields quintuples -->\n(.*?)\n<!-- /fields", CARD.read_text(encoding="utf-8"), re.DOTALL)
    assert fields, "dataset_card.md has a table of fields"
    slots: dict[tuple[str, str, int, int], list[str]] = {}
    rows = []
    for number, question in QUESTIONS.items():
        names = ", ".join(slot.attribute for slot in question.slots)
        rows.append(f"| {number} | `{question.category}` | `{question.finding}` | `{question.subregion}` | {names} |")
        for slot in question.slots:
            found = slots.setdefault((slot.attribute, slot.scale, slot.low, slot.high), [])
            if question.finding not in found:
                found.append(question.finding)
    attributes = [
        f"| `{name}` | {scale} | {low} to {high} | {', '.join(f'`{finding}`' for finding in findings)} |"
        for (name, scale, low, high), findings in slots.items()
    ]
    return _ROW.format(fields=fields[1].strip(), questions="\n".join(rows), attributes="\n".join(attributes))


def command_page() -> str:
    """Return the page of the command line: the help text of every command."""
    # argparse wraps to the width of the terminal; a page has one width.
    os.environ["COLUMNS"] = "82"
    from reasonknee_datasets.cli.main import _parser

    parts = [f"## {name}\n\n```text\n{parser.format_help().strip()}\n```" for name, parser in _commands(_parser())]
    return _COMMANDS.format(commands="\n\n".join(parts))


def _commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Iterate over the commands below a parser, nested ones included."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                nested = list(_commands(child))
                yield from nested or [(child.prog, child)]


MADE = {"row.md": row_page, "names.md": names_page, "cli.md": command_page}

if __name__ == "__main__":
    for name, make in MADE.items():
        (PAGES / name).write_text(make(), encoding="utf-8")
