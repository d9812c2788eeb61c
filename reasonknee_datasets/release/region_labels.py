"""The official question files: 69 prompts in several wordings, and the labels of each question's region in a mask.

How ``labels.json`` and ``question_subregion_mapping.json`` are laid out is not documented. They are read as tables:
whatever the nesting, each entry becomes a row of columns, and the one way to read two of the columns as names and ids,
or as questions and labels, that fits every row is taken. Where no way fits, or two do, nothing is chosen.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, permutations
from pathlib import Path
from typing import Any

from reasonknee_datasets import moaks
from reasonknee_datasets.errors import GradeError, ReleaseError, os_remedy
from reasonknee_datasets.release.paths import is_there
from reasonknee_datasets.release.report import Problems
from reasonknee_datasets.safe_paths import read_regular

QUESTION_FILES = ("questions.json", "questions_nobbox_guided.json", "questions_nobbox_zeroshot.json")
_MOST_PROMPT_BYTES = 10_000_000


def read_questions(path: Path) -> dict[int, str]:
    """Read one question file.

    Returns
    -------
    dict of int to str
        The prompts by question, verbatim.

    Raises
    ------
    ReleaseError
        If it is not an object of prompts by question number.
    """
    remedy = "Download it again with the rest of the release"
    try:
        tree = json.loads(read_regular(path, _MOST_PROMPT_BYTES).decode("utf-8-sig"))
    except OSError as error:
        got = error.strerror or str(error)
        raise ReleaseError(f"The question file {path} cannot be read: {got}. {os_remedy(error, remedy)}.") from error
    except (ValueError, RecursionError) as error:
        raise ReleaseError(f"The question file {path} is not JSON: {error}. {remedy}.") from error
    if not isinstance(tree, dict) or not tree:
        raise ReleaseError(f"The question file {path} is {type(tree).__name__}, not an object of prompts. {remedy}.")
    prompts: dict[int, str] = {}
    for key, prompt in tree.items():
        if not re.fullmatch(r"[0-9]{1,2}", key) or int(key) not in moaks.QUESTIONS or not isinstance(prompt, str):
            raise ReleaseError(
                f"The question file {path} contains {type(prompt).__name__} under {key[:40]!r}, and texts under the "
                f"numbers 1 to 69 are expected. {remedy}."
            )
        prompts[int(key)] = prompt
    return prompts


def read_prompts(folder: Path, problems: Problems, notes: list[str]) -> Mapping[str, frozenset[int]]:
    """Read all question files of a release, and return the questions of each text."""
    asks: dict[str, frozenset[int]] = {}
    for name in QUESTION_FILES:
        path = folder / name
        if not is_there(path):
            notes.append(f"question_files/{name} is absent: prompts are not compared with it")
            continue
        try:
            prompts = read_questions(path)
        except ReleaseError as error:
            problems.add("question-file", str(error), where=f"question_files/{name}")
            continue
        for question, prompt in prompts.items():
            asks[prompt] = asks.get(prompt, frozenset()) | {question}
    return asks


NAMES_FILE = "labels.json"
MAPPING_FILE = "question_subregion_mapping.json"

Atom = str | int
Row = dict[str, tuple[Atom, ...] | None]
"""An entry's values by column; None where a value is not flat, which makes a column useless."""

# Keys by which an entry that is an object gives itself away, and keys that may wrap the whole table.
_COLUMNS = frozenset({"name", "structure", "title", "number", "value", "index"}) | {
    f"{stem}{part}{many}"
    for stem in ("id", "label", "question", "subregion", "region", "mask", "qid")
    for part in ("", " id", " name", " value", " number")
    for many in ("", "s")
}
_WRAPPERS = frozenset({"labels", "label map", "mapping", "map", "questions", "question subregion mapping"})
_IGNORED = frozenset({"color", "colour", "description", "opacity", "comment", "notes"})
# Columns with names that exclude some content.
_QUESTIONS = re.compile(r"^\.(question|qid)")
_LABELS = re.compile(r"^\..*(label|region|mask)")
_QUESTION = re.compile(r"(?:q|question)[ _-]*0*([1-9][0-9]?)", re.IGNORECASE)
_WHOLE = re.compile(r"[0-9]{1,5}")
# Far above the 69 questions and some hundred labels of a knee; every pair of columns is tried on every entry.
_MOST_BYTES, _MOST_ROWS, _MOST_COLUMNS = 4_000_000, 5_000, 16


@dataclass(frozen=True, slots=True)
class LabelMap:
    """Names of labels, and the labels of questions.

    Parameters
    ----------
    names : mapping of int to str
        By label id, without the background; empty where the release does not state them.
    questions : mapping of int to tuple of int
        Label ids by question; a question that is not there has no known region.
    """

    names: Mapping[int, str]
    questions: Mapping[int, tuple[int, ...]]

    def sides(self) -> dict[int, str]:
        """Classify labels as medial or lateral, as far as names and questions state it.

        Examples
        --------
        >>> LabelMap({50: "femur medial central", 62: "tibia subspinous"}, {27: (63,)}).sides()
        {50: 'medial', 63: 'lateral'}
        """
        by_name = {label: _one_side(name) for label, name in self.names.items()}
        told: dict[int, set[str | None]] = {label: {side} for label, side in by_name.items() if side}
        for question, labels in self.questions.items():
            for label in labels:
                told.setdefault(label, set()).add(_one_side(moaks.QUESTIONS[question].subregion))
        # A label that serves both ends, or a middle (a whole bone, the subspinous tibia), has no side.
        return {label: side for label, sides in sorted(told.items()) if len(sides) == 1 for side in sides if side}


def read_label_map(folder: Path, notes: list[str]) -> LabelMap:
    """Read a release's label map as far as possible, and add notes on the rest."""
    names: dict[int, str] = {}
    questions: dict[int, tuple[int, ...]] = {}
    try:
        names = read_names(folder / NAMES_FILE)
    except ReleaseError as error:
        notes.append(str(error))
    try:
        questions = read_mapping(folder / MAPPING_FILE, names)
    except ReleaseError as error:
        notes.append(str(error))
    return LabelMap(names, questions)


def read_names(path: Path) -> dict[int, str]:
    """Read ``labels.json``.

    Returns
    -------
    dict of int to str
        Names by label id, without the background (0).

    Raises
    ------
    ReleaseError
        If it cannot be understood as ids and names.
    """
    table = _read_table(path)
    ways = []
    for name_column, id_column in permutations(_columns(table), 2):
        read = _names_by(table, name_column, id_column)
        if read is not None and read not in ways:
            ways.append(read)
    if len(ways) == 1:
        return {label: name for label, name in ways[0].items() if label}
    raise _unclear_ways(path, "names and whole-number ids", len(ways))


def read_mapping(path: Path, names: Mapping[int, str]) -> dict[int, tuple[int, ...]]:
    """Read ``question_subregion_mapping.json``.

    Parameters
    ----------
    path : Path
        The file. It may name questions by number or in any official spelling, and labels by id or name; and it may go
        from questions to labels or the other way.
    names : mapping of int to str
        From `read_names`; without them, only ids can be understood.

    Returns
    -------
    dict of int to tuple of int
        Label ids by question.

    Raises
    ------
    ReleaseError
        If it cannot be understood as questions and labels, or in two different ways.
    """
    table = _read_table(path)
    known = {_plain(name): label for label, name in names.items()}
    ways = []
    for question_column, label_column in permutations(_columns(table), 2):
        if _LABELS.search(question_column) or _QUESTIONS.search(label_column):
            continue
        read = _questions_by(table, question_column, label_column, known, frozenset(names))
        if read and read not in ways:
            ways.append(read)
    if len(ways) == 1:
        return ways[0]
    raise _unclear_ways(path, "questions and labels that labels.json names", len(ways))


def _one_side(name: str) -> str | None:
    words = set(_plain(name).split()) & {"medial", "lateral"}
    return words.pop() if len(words) == 1 else None


def _plain(name: str) -> str:
    """Normalise case, blanks, hyphens and underscores of a name."""
    return " ".join(re.findall("[a-z0-9%]+", name.lower()))


def _unclear(path: Path, problem: str) -> ReleaseError:
    return ReleaseError(f"{path} {problem}. The boxes are compared with every label's extent instead.")


def _unclear_ways(path: Path, pairs: str, ways: int) -> ReleaseError:
    if not ways:
        return _unclear(path, f"cannot be read as pairs of {pairs}")
    return _unclear(path, f"can be read as pairs of {pairs} in {ways} ways")


def _read_table(path: Path) -> list[Row]:
    """Read a file as rows that all have the same columns."""
    try:
        tree = json.loads(read_regular(path, _MOST_BYTES).decode("utf-8-sig"))
    except FileNotFoundError as error:
        raise _unclear(path, "does not exist") from error
    except OSError as error:
        raise _unclear(path, f"cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise _unclear(path, f"is not JSON: {error}") from error
    rows = list(islice(_rows(_unwrap(tree)), _MOST_ROWS + 1))
    if len(rows) > _MOST_ROWS or any(len(row) > _MOST_COLUMNS for row in rows):
        got = f"{len(rows)} entries of {max(map(len, rows))} columns"
        raise _unclear(path, f"has {got}, and at most {_MOST_ROWS} of {_MOST_COLUMNS} are read")
    if not rows or any(row.keys() != rows[0].keys() for row in rows):
        raise _unclear(path, f"has {len(rows)} entries of several forms" if rows else "has no entries")
    return rows


def _columns(table: list[Row]) -> list[str]:
    return [column for column in table[0] if all(row[column] is not None for row in table)]


def _unwrap(tree: Any) -> Any:
    """Return the object or list that contains the table, from inside any wrappers."""
    while isinstance(tree, dict):
        inner = {key: value for key, value in tree.items() if isinstance(value, dict | list) and value}
        # Alone ({"data": {...}}), or by its name among facts about the file, as nnU-Net writes it ({"labels": {...}}).
        named = [value for key, value in inner.items() if _plain(key) in _WRAPPERS]
        if len(named) == 1:
            tree = named[0]
        elif len(tree) == 1 and inner and not _WHOLE.fullmatch(next(iter(tree))):
            (tree,) = tree.values()
        else:
            break
    return tree


def _rows(tree: Any) -> Iterator[Row]:
    """Turn dicts and lists, nested once at most, into rows."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _entry({"key": (_atom(key),)}, value)
    elif isinstance(tree, list):
        for place, item in enumerate(tree):
            if isinstance(item, dict):
                yield from _object({}, item) if _fields(item) else _rows(item)
            elif isinstance(item, list) and len(item) == 2:
                yield {"key": _atoms(item[0]), "value": _atoms(item[1])}
            else:
                # A plain list of names: its places are the ids only if it says so by beginning with the background.
                first = str(tree[0]).lower() == "background"
                yield {"key": (place,), "value": _atoms(item)} if first else {"value": _atoms(item)}


def _entry(above: Row, value: Any) -> Iterator[Row]:
    """Read the value of a key."""
    if isinstance(value, dict):
        if _fields(value):
            yield from _object(above, value)
        elif "group" not in above:
            for key, inner in value.items():
                yield from _entry({"group": above["key"], "key": (_atom(key),)}, inner)
        else:
            yield {**above, "value": None}  # nested deeper than once
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        for item in value:
            yield from _object(above, item)
    else:
        yield {**above, "value": _atoms(value)}


def _object(above: Row, item: Mapping[str, Any]) -> Iterator[Row]:
    """Read an object with columns as its keys."""
    row = dict(above)
    for key, value in item.items():
        if _plain(key) not in _IGNORED:
            row[f".{_plain(key)}"] = _atoms(value)
    yield row


def _fields(item: Mapping[str, Any]) -> bool:
    return any(_plain(key) in _COLUMNS for key in item)


def _atoms(value: Any) -> tuple[Atom, ...] | None:
    """Take a value or a flat list of values; null is an empty list."""
    values = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(each, str | int | float) for each in values):
        return None
    return tuple(_atom(each) for each in values)


def _atom(value: str | float) -> Atom:
    if isinstance(value, str):
        return int(value) if _WHOLE.fullmatch(value.strip()) else value.strip()
    if isinstance(value, int):
        return value
    return int(value) if value.is_integer() else str(value)


def _names_by(table: list[Row], name_column: str, id_column: str) -> dict[int, str] | None:
    """Read two columns as names and ids; a group ("femur": {"medial": 50}) goes into the name."""
    if "group" in (name_column, id_column):
        return None
    names: dict[int, str] = {}
    for row in table:
        words = row[name_column] or ()
        if len(words) != 1 or not isinstance(words[0], str):
            return None
        group = [word for word in row.get("group") or () if isinstance(word, str)]
        for label in row[id_column] or ():
            if not isinstance(label, int) or label in names:
                return None
            names[label] = " ".join([*group, words[0]])
    return names or None


def _questions_by(
    table: list[Row], question_column: str, label_column: str, known: Mapping[str, int], ids: frozenset[int]
) -> dict[int, tuple[int, ...]] | None:
    """Read two columns as questions and labels; None where any entry does not fit."""
    read: dict[int, set[int]] = {}
    for row in table:
        numbers: list[int | None] = []
        for question in row[question_column] or ():
            numbers.append(_question(question))
            if numbers[-1] is None:  # at the first: to look a wrong name up costs milliseconds
                return None
        labels = [_label(label, known, ids) for label in row[label_column] or ()]
        if None in labels:
            return None
        for number in numbers:
            read.setdefault(number or 0, set()).update(label or 0 for label in labels)
    # Names next to their own ids are a copy of labels.json: 56 is then that label, not a question.
    if all(labels <= {number} for number, labels in read.items()):
        return None
    return {number: tuple(sorted(labels)) for number, labels in sorted(read.items()) if labels}


def _question(atom: Atom) -> int | None:
    """Read a question's number, or any official spelling of its subject."""
    if isinstance(atom, int):
        return atom if atom in moaks.QUESTIONS else None
    numbered = _QUESTION.fullmatch(atom)
    if numbered:
        return int(numbered[1]) if int(numbered[1]) in moaks.QUESTIONS else None
    try:
        return moaks.find_question(atom).id
    except GradeError:
        return None


def _label(atom: Atom, known: Mapping[str, int], ids: frozenset[int]) -> int | None:
    """Read a label's id or name; an id must be one that has a name, where names are known."""
    if isinstance(atom, int):
        return atom if atom and (atom in ids or not ids) else None
    return known.get(_plain(atom))
