"""`Prompts`: the text of each question, with its hash; damaged ones are repaired by a rule.

Prompts come from the official question files (`Prompts.from_files`) or from the rows of the prepared repository
(`Prompts.from_rows`). `Prompts.own` has the project's own words for the same 69 questions and answer schemas, which the
phantom writes too.

**The damaged prompts.** Officially, 58 and 59 lost a part when the box was cut out of their schema: they read ``Provide
your reasoning and end_slice, x_min, x_max, y_min, y_max], "medial_meniscal_root_tear": ...``. Their undamaged
neighbours 54 to 57 describe the answer at this place and open the JSON object. The rule is therefore: `FRAGMENT` is
replaced by `REPAIR`, the words of prompts 56 and 57 with the finding's name. Nothing else of a prompt is changed.
``damaged="leave_out"`` drops such questions instead, and ``"keep"`` asks them unchanged, as the authors' scripts do.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal, get_args

from reasonknee_datasets.boxes import BoxConvention
from reasonknee_datasets.errors import BenchError, nearest
from reasonknee_datasets.moaks import QUESTIONS, Question
from reasonknee_datasets.prompts.prompt_assembly import Wording, describe_subregion, project_prompt
from reasonknee_datasets.release.region_labels import read_questions

Damaged = Literal["repair", "leave_out", "keep"]

FILES: Mapping[str, str] = {"zeroshot": "questions_nobbox_zeroshot.json", "guided": "questions_nobbox_guided.json"}
"""The official question file of each wording."""

FRAGMENT = "your reasoning and end_slice, x_min, x_max, y_min, y_max], "
REPAIR = (
    "your reasoning, and whether it's present. The output format should be a JSON object with the root tear presence: {"
)

FRAME_CONVENTION = BoxConvention(inclusive=True, axes=(0, 2, 1))
"""Order of a requested box: first and last frame, left and right column, top and bottom row."""


# Control tokens of the chat templates in use. A server tokenizes the filled-in template, so that they would end the
# user's message or begin another one.
_CONTROL = re.compile(
    r"<[|\uff5c][^<>\n]{0,64}[|\uff5c]>|\[/?(?:INST|IMG|IMG_END|AVAILABLE_TOOLS|TOOL_CALLS)\]|<</?SYS>>"
    r"|</?(?:s|bos|eos|pad|unk|mask|image|video|audio|img|think|tool_call|box|ref)>"
    r"|<(?:start_of_turn|end_of_turn|start_of_image|end_of_image|image_soft_token|image_placeholder)>",
    re.IGNORECASE,
)


def prompt_hash(text: str) -> str:
    """Return the SHA-256 of a prompt's UTF-8.

    Examples
    --------
    >>> prompt_hash("Any tear?")[:8]
    '98e25ecc'
    """
    return hashlib.sha256(text.encode()).hexdigest()


def repair(text: str) -> str:
    """Repair a damaged prompt by the module's rule; others are returned unchanged.

    Examples
    --------
    >>> repair('Provide your reasoning and end_slice, x_min, x_max, y_min, y_max], "a": {"presence": (0 | 1)}}')[:60]
    "Provide your reasoning, and whether it's present. The output"
    """
    return text.replace(FRAGMENT, REPAIR)


@dataclass(frozen=True, slots=True)
class Prompts:
    """The question texts of one run.

    Attributes
    ----------
    texts : mapping of int to str
        By question.
    source : {"official files", "rows", "project"}
        Origin of the texts.
    repaired, left_out : tuple of int
        Damaged questions that were repaired, and those that are left out.
    """

    texts: Mapping[int, str]
    source: str
    repaired: tuple[int, ...] = ()
    left_out: tuple[int, ...] = ()

    @classmethod
    def of(cls, texts: Mapping[int, str], source: str, damaged: Damaged = "repair") -> Prompts:
        """Build from texts, with damaged ones repaired, left out or kept.

        Raises
        ------
        BenchError
            If ``damaged`` is another word, or a text has a chat template's control token.
        """
        if damaged not in get_args(Damaged):
            known = nearest(str(damaged), get_args(Damaged))
            raise BenchError(f"Unknown treatment {damaged!r} of damaged prompts. {known}.")
        for number, text in texts.items():
            _check_text(number, text, source)
        found = tuple(sorted(number for number, text in texts.items() if FRAGMENT in text))
        if damaged == "keep":
            return cls(MappingProxyType(dict(texts)), source)
        if damaged == "leave_out":
            kept = {number: text for number, text in texts.items() if number not in found}
            return cls(MappingProxyType(kept), source, left_out=found)
        repaired = {number: repair(text) for number, text in texts.items()}
        return cls(MappingProxyType(repaired), source, repaired=found)

    @classmethod
    def from_files(cls, path: str | os.PathLike[str], wording: Wording, damaged: Damaged = "repair") -> Prompts:
        """Read the official question files.

        Parameters
        ----------
        path : str or path
            A question file, or a folder with those of `FILES` in it: the release itself, or its ``question_files``.
        wording : {"zeroshot", "guided"}
            Which file of a folder.
        damaged : {"repair", "leave_out", "keep"}

        Raises
        ------
        BenchError
            If there is no such file.
        ReleaseError
            If it is not a question file.
        """
        given = Path(path)
        folders = (given, given / "question_files", given / "data" / "question_files")
        files = [given] if given.is_file() else [folder / FILES[wording] for folder in folders]
        file = next((each for each in files if each.is_file()), None)
        if file is None:
            raise BenchError(
                f"The official question file {path} does not exist. Name the folder that contains {FILES[wording]}, or "
                "that file."
            )
        return cls.of(read_questions(file), "official files", damaged)

    @classmethod
    def own(cls, wording: Wording, damaged: Damaged = "repair") -> Prompts:
        """Return the project's own prompts, which are damaged where the official ones are."""
        return cls.of({number: project_prompt(number, wording) for number in QUESTIONS}, "project", damaged)

    @classmethod
    def from_rows(cls, rows: Iterable[tuple[int, str]], damaged: Damaged = "repair") -> Prompts:
        """Take the questions from a repository's rows.

        Parameters
        ----------
        rows : iterable of (int, str)
            ``question_id`` and ``question``.

        Raises
        ------
        BenchError
            If one question has two texts, so that no hash would identify the prompts.
        """
        texts: dict[int, str] = {}
        for number, text in rows:
            if texts.setdefault(number, text) != text:
                raise BenchError(
                    f"Question {number} has two different texts in the rows. Name the official question files instead: "
                    "prompts=FOLDER (--prompts FOLDER)."
                )
        return cls.of(texts, "rows", damaged)

    def text(self, question: int) -> str:
        """Return one question's text.

        Raises
        ------
        BenchError
            If it has none.
        """
        if question not in self.texts:
            why = "its text is damaged and was left out" if question in self.left_out else f"none in the {self.source}"
            raise BenchError(f"Question {question} has no prompt: {why}. Ask other questions, or use other prompts.")
        return self.texts[question]

    def hashes(self, questions: Iterable[int]) -> dict[str, str]:
        """Return the SHA-256 of some questions' texts, by their numbers, for a result's identity."""
        return {str(number): prompt_hash(self.text(number)) for number in sorted(set(questions))}


def _check_text(number: int, text: str, source: str) -> None:
    """Raise if a prompt has a token that would change the conversation in which it is sent."""
    match = _CONTROL.search(text)
    if match is not None:
        raise BenchError(
            f"The prompt of question {number} ({source}) contains {match[0]!r}, which chat templates use as a control "
            "token: a server would read it as structure, not as text. Remove it, or use other prompts."
        )


def box_prompt(question: Question, shape: tuple[int, int, int]) -> str:
    """Write the request for a question's region, in the numbers of the frames that the model sees.

    The words are the project's own: the official localisation prompts (``questions.json``) ask for box and grades at
    once, and do not define their numbers.

    Parameters
    ----------
    question : Question
    shape : three ints
        Frames, rows and columns.

    Examples
    --------
    >>> print(box_prompt(QUESTIONS[45], (32, 384, 384)))  # doctest: +ELLIPSIS
    Where in these frames is the body of the medial meniscus? Give the smallest box that holds all of it, ...
    """
    frames, rows, columns = shape
    where = describe_subregion(question).replace("hoffa", "Hoffa")
    return (
        f"Where in these frames is the {where}? Give the smallest box that holds all of it, as a JSON "
        'object: {"bounding_box": [start_slice, end_slice, x_min, x_max, y_min, y_max]}. '
        f"start_slice and end_slice are the first and the last frame that show it, counted from 0 to {frames - 1} in "
        f"the order given; x is the column, from 0 at the left to {columns - 1}; y is the row, from 0 at the top to "
        f"{rows - 1}. All six are whole numbers, and both ends belong to the box."
    )


def box_prompt_hash() -> str:
    """Return the SHA-256 over the localisation prompts of all questions, for a result's identity."""
    return prompt_hash("\n".join(box_prompt(question, (1, 1, 1)) for question in QUESTIONS.values()))
