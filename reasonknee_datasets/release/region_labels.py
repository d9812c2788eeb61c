"""The official question files: 69 prompts in several wordings, and the labels of each question's region in a mask.

``labels.json`` and ``question_subregion_mapping.json`` are only reported, not seen. Where one is not the object that is
expected, it is noted, and the labels of each question are established by comparing boxes with masks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
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

_QUESTION = re.compile(r"(?:q|question)?[ _-]*0*([1-9][0-9]?)", re.IGNORECASE)
_MOST_BYTES = 4_000_000


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
    """Read ``labels.json``, an object of label ids by name.

    Returns
    -------
    dict of int to str
        Names by label id, without the background (0).

    Raises
    ------
    ReleaseError
        If it cannot be read, or is not such an object.
    """
    tree = _read_object(path)
    labels = list(tree.values())
    if not all(type(label) is int and label >= 0 for label in labels) or len(set(labels)) < len(labels):
        raise _unclear(path, "does not have a different whole number for each name")
    return {label: name for name, label in tree.items() if label}


def read_mapping(path: Path, names: Mapping[int, str]) -> dict[int, tuple[int, ...]]:
    """Read ``question_subregion_mapping.json``, an object of labels by question.

    Parameters
    ----------
    path : Path
        The file. It may name questions by number or in any official spelling, and labels by id or name.
    names : mapping of int to str
        From `read_names`; without them, only ids can be understood.

    Returns
    -------
    dict of int to tuple of int
        Label ids by question.

    Raises
    ------
    ReleaseError
        If it cannot be read, or any entry is not a question and its labels.
    """
    known = {_plain(name): label for label, name in names.items()}
    read: dict[int, set[int]] = {}
    for key, value in _read_object(path).items():
        question = _question(key)
        given = [] if value is None else value if isinstance(value, list) else [value]
        labels = [_label(each, known, names) for each in given]
        if question is None or None in labels:
            got = json.dumps({key: value})[:80]
            raise _unclear(path, f"has the entry {got}, which is not a question and labels of {NAMES_FILE}")
        read.setdefault(question, set()).update(label for label in labels if label)
    return {question: tuple(sorted(labels)) for question, labels in sorted(read.items()) if labels}


def _one_side(name: str) -> str | None:
    words = set(_plain(name).split()) & {"medial", "lateral"}
    return words.pop() if len(words) == 1 else None


def _plain(name: str) -> str:
    """Normalise case, blanks, hyphens and underscores of a name."""
    return " ".join(re.findall("[a-z0-9%]+", name.lower()))


def _unclear(path: Path, problem: str) -> ReleaseError:
    return ReleaseError(f"{path} {problem}. The boxes are compared with every label's extent instead.")


def _read_object(path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(read_regular(path, _MOST_BYTES).decode("utf-8-sig"))
    except FileNotFoundError as error:
        raise _unclear(path, "does not exist") from error
    except OSError as error:
        raise _unclear(path, f"cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise _unclear(path, f"is not JSON: {error}") from error
    if not isinstance(tree, dict) or not tree:
        raise _unclear(path, "is not an object with entries")
    return tree


def _question(key: str) -> int | None:
    """Read a question's number, or any official spelling of its subject."""
    numbered = _QUESTION.fullmatch(key.strip())
    try:
        number = int(numbered[1]) if numbered else moaks.find_question(key).id
    except GradeError:
        return None
    return number if number in moaks.QUESTIONS else None


def _label(value: Any, known: Mapping[str, int], names: Mapping[int, str]) -> int | None:
    """Read a label's id or name; an id must be one that has a name, where names are known."""
    if isinstance(value, str):
        return known.get(_plain(value))
    return value if type(value) is int and value > 0 and (value in names or not names) else None
