"""Reading ``priors.json``: what the train split says without looking at anything."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.bench.table import NONE, WIDTH
from reasonknee_datasets.errors import BenchError, RepositoryNotFoundError, explain
from reasonknee_datasets.moaks import QUESTIONS, SLOTS, Question
from reasonknee_datasets.prepare.priors import FORMAT, PRIORS
from reasonknee_datasets.schema import SIDES
from reasonknee_datasets.sources import Repository
from reasonknee_datasets.sources.places import reading
from reasonknee_datasets.sources.repository import read_bytes

_AGAIN = "Prepare the release again: reasonknee prepare --release RELEASE --out FOLDER --overwrite"
_GRADES = 1 + max(slot.high for slot in SLOTS)
_ROWS = 1 + max(QUESTIONS)


@dataclass(frozen=True, slots=True, eq=False)
class TrainPriors:
    """Counts of grades and median boxes of the unbalanced train split.

    Attributes
    ----------
    revision : str
        Digest of the manifest of the repository that they are of.
    rows : int
        Records of train.
    counts : (118, 9) int64 array
        How often each grade occurs, by slot id.
    answers : mapping of int to (mapping of tuple of int to int)
        How often each whole answer occurs, by question; its grades in the question's order.
    boxes_mm, boxes_fraction : (70, 2, 2, 3) float64 array
        Median start and stop by question and code of the side, along the axes that run closest to right, anterior and
        superior: in mm from the volume's centre, and in shares of its extent. NaN where there is none.
    """

    revision: str
    rows: int
    counts: NDArray[np.int64]
    answers: Mapping[int, Mapping[tuple[int, ...], int]]
    boxes_mm: NDArray[np.float64]
    boxes_fraction: NDArray[np.float64]

    @property
    def most_frequent(self) -> NDArray[np.int8]:
        """Each slot's most frequent grade, the lowest of equals; -1 where train has none. Shape (118,)."""
        found = np.argmax(self.counts, axis=1)  # the first of equals
        return np.where(self.counts.any(axis=1), found, NONE).astype(np.int8)

    @property
    def majority(self) -> NDArray[np.int8]:
        """Each question's most frequent whole answer, the lowest of equals; shape (70, 3), padded with -1.

        It need not be made of the most frequent grades. Where train has no whole answer, it is.
        """
        table = np.full((_ROWS, WIDTH), NONE, dtype=np.int8)
        by_slot = self.most_frequent
        for number, question in QUESTIONS.items():
            best = tuple(int(by_slot[slot.id]) for slot in question.slots)
            counts = self.answers.get(number, {})
            for answer in sorted(counts):
                if counts[answer] > counts.get(best, 0) or (counts[answer] == counts.get(best, 0) and answer < best):
                    best = answer
            table[number, : len(best)] = best
        return table

    @property
    def has_boxes(self) -> bool:
        """Whether there are median boxes: the repository was prepared with images."""
        return bool(np.isfinite(self.boxes_mm).any())


def read_priors(data: Repository) -> TrainPriors:
    """Read the priors of a prepared repository.

    Parameters
    ----------
    data : Repository
        What `reasonknee_datasets.bench.truth.open_data` gave.

    Raises
    ------
    BenchError
        If they are absent, of another revision than the repository, of another format, or damaged.
    """
    url = data.url(PRIORS)
    try:
        with reading(url, "priors"):
            text = read_bytes(url)
    except RepositoryNotFoundError as error:
        rule = f"stand beside the manifest as {PRIORS}, since every score is shown beside what train alone would answer"
        raise BenchError(explain("priors", rule, "no such file", _AGAIN, where=f"at {data.root}")) from error
    return _read(text, data.manifest.digest, url)


def _read(text: bytes, revision: str, url: str) -> TrainPriors:
    try:
        tree = json.loads(text)
        found = tree.get("format")
    except (ValueError, AttributeError) as error:
        raise BenchError(explain("priors", "be a JSON object", str(error), _AGAIN, where=f"in {url}")) from error
    if found != FORMAT:
        remedy = f"Upgrade reasonknee_datasets if the number is higher, otherwise: {_AGAIN}"
        raise BenchError(explain("priors", f"have format {FORMAT}", found, remedy, where=f"in {url}"))
    if tree.get("revision") != revision:
        rule = f"be of this repository, whose manifest has digest {revision}"
        remedy = f"Copy the repository whole, or prepare it again: {_AGAIN}"
        raise BenchError(explain("priors", rule, f"those of {tree.get('revision')}", remedy, where=f"in {url}"))
    try:
        boxes = _boxes(tree["boxes"])
        answers = dict(_answers(tree["questions"]))
        return TrainPriors(revision, int(tree["rows"]), _counts(tree["slots"]), answers, boxes["mm"], boxes["fraction"])
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        got = f"{type(error).__name__}: {error}"
        raise BenchError(
            explain("priors", "hold slots, questions and boxes", got, _AGAIN, where=f"in {url}")
        ) from error


def _counts(slots: Mapping[str, Any]) -> NDArray[np.int64]:
    table = np.zeros((len(SLOTS), _GRADES), dtype=np.int64)
    for slot in SLOTS:
        if QUESTIONS[slot.question_id].in_records:
            table[slot.id, : slot.high + 1] = [int(slots[slot.name]["counts"][str(grade)]) for grade in slot.legal]
    return table


def _answers(questions: Mapping[str, Any]) -> Iterator[tuple[int, dict[tuple[int, ...], int]]]:
    for question in QUESTIONS.values():
        if question.in_records:
            counts = questions[f"q{question.id:02d}"]["counts"]
            yield question.id, {_answer(question, text): int(count) for text, count in counts.items()}


def _answer(question: Question, text: str) -> tuple[int, ...]:
    return tuple(slot.check(grade) for slot, grade in zip(question.slots, text.split(), strict=True))


def _boxes(boxes: Mapping[str, Any]) -> dict[str, NDArray[np.float64]]:
    tables = {unit: np.full((_ROWS, len(SIDES), 2, 3), np.nan) for unit in ("mm", "fraction")}
    for item in boxes.values():
        place = int(item["question_id"]), SIDES.index(item["side"])
        for unit, table in tables.items():
            table[place] = np.array(item[unit], dtype=np.float64).reshape(2, 3)
    return tables
