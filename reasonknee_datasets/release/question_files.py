"""The official question files: 69 prompts, in several wordings."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from reasonknee_datasets import moaks
from reasonknee_datasets.errors import ReleaseError, os_remedy
from reasonknee_datasets.private_files import read_regular
from reasonknee_datasets.release.paths import is_there
from reasonknee_datasets.release.report import Problems

QUESTION_FILES = ("questions.json", "questions_nobbox_guided.json", "questions_nobbox_zeroshot.json")
_MOST_BYTES = 10_000_000


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
        tree = json.loads(read_regular(path, _MOST_BYTES).decode("utf-8-sig"))
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
