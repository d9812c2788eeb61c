"""The files of records, joined with the volumes of the split files, and what the first pass over all records keeps.

A release has half a million records. Of each, a few numbers are kept in arrays: the six of its box, its place in its
file, a hash. Everything else is read again when rows are written, so that memory stays small.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import ijson
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from reasonknee_datasets import moaks
from reasonknee_datasets.errors import ReleaseError, os_remedy
from reasonknee_datasets.release.official_record import Fault, RecordContent, RecordReader, check_record, volume_key
from reasonknee_datasets.release.report import NULLED, NulledGrade, Problems
from reasonknee_datasets.release.split_files import OFFICIAL_SPLITS, Study
from reasonknee_datasets.safe_paths import open_regular
from reasonknee_datasets.schema import Split, quintuple_id

CHUNK = 1 << 16
# Records nest four levels deep. The parser keeps the path to every level: 100,000 of them took more than 10 GB.
_DEEPEST = 1000
_BOM = b"\xef\xbb\xbf"


class InvalidJSONError(ReleaseError):
    """A file that is not JSON from some place on; the items before it have been returned."""


def stream_records(path: Path) -> Iterator[Any]:
    """Return the items of a JSON list, holding no more than a few of them in memory.

    Numbers come as int and float, which both write back as `json.dumps` would have written them.

    Raises InvalidJSONError where the file stops being a JSON list, with the byte and the last good record.
    """
    # The C parser pushes into this list; 64 KiB hold some thirty records.
    found = ijson.sendable_list()
    parser = ijson.items_coro(found, "item", use_float=True)
    count, offset = 0, 0
    with os.fdopen(open_regular(path), "rb") as file:
        offset = _check_start(file.read(CHUNK), path)
        file.seek(offset)
        while True:
            chunk = file.read(CHUNK)
            if sum(map(chunk.count, (b"[", b"{"))) - sum(map(chunk.count, (b"]", b"}"))) > _DEEPEST:
                raise InvalidJSONError(_message(path, f"more than {_DEEPEST} nested brackets", offset, count))
            error = _feed(parser, chunk)
            yield from found
            count += len(found)
            del found[:]
            if error is not None:
                break
            if not chunk:
                return
            offset += len(chunk)
    reason, at = _explain_error(error, path, offset, chunk)
    raise InvalidJSONError(_message(path, reason, at, count))


def _feed(parser: Any, chunk: bytes) -> ijson.JSONError | None:
    """Push one chunk, or the end, and return the parser's error."""
    try:
        if chunk:
            parser.send(chunk)
        else:
            parser.close()
    except ijson.JSONError as error:
        complaint: ijson.JSONError = error
        return complaint
    return None


def _check_start(head: bytes, path: Path) -> int:
    """Check that a list begins, and return where."""
    skip = len(_BOM) if head.startswith(_BOM) else 0
    first = head[skip:].lstrip(b" \t\r\n")[:1]
    if first != b"[":
        got = f"a file that begins with {first.decode('latin-1')!r}" if first else "an empty file"
        raise InvalidJSONError(_message(path, got, skip, 0))
    return skip


def _explain_error(error: ijson.JSONError, path: Path, start: int, chunk: bytes) -> tuple[str, int]:
    """Find the first wrong byte of a chunk: the parser only reports the chunk.

    It is found by parsing the file a second time, and its last chunk byte by byte; this costs seconds, once, and only
    for a file that is broken.
    """
    text = error.args[0] if error.args else ""
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    reason = text.partition("\n")[0].strip().rstrip(".") or "no JSON"
    if not chunk:
        return f"{reason} (is it cut short?)", start
    ignored = ijson.sendable_list()
    parser = ijson.items_coro(ignored, "item", use_float=True)
    with os.fdopen(open_regular(path), "rb") as file:
        file.seek(len(_BOM) if file.read(len(_BOM)) == _BOM else 0)
        while file.tell() < start:
            parser.send(file.read(min(CHUNK, start - file.tell())))
            del ignored[:]
    for place in range(len(chunk)):
        if _feed(parser, chunk[place : place + 1]) is not None:
            around = chunk[max(0, place - 20) : place + 20].decode("utf-8", "replace")
            return f"{reason} near {around!r}", start + place
    return reason, start  # pragma: no cover - the same bytes fail again


def _message(path: Path, reason: str, offset: int, count: int) -> str:
    last = f"record {count - 1} is the last good one" if count else "no record before it is good"
    remedy = "Download the file again"
    if "NaN" in reason or "Infinity" in reason:
        remedy = "NaN and Infinity are Python's spellings, not JSON's: write null for a missing value"
    where = f"at byte {offset:,} of {path} ({last})"
    return f"This is not a JSON list of records: {reason} {where}. {remedy}."


QUESTIONS = sum(question.in_records for question in moaks.QUESTIONS.values())
"""How many questions a volume answers: 1 to 62."""

MIXED, WHOLE, REAL = 0, 1, 2  # how the six numbers of a box are written: as ints and floats, ints only, floats only


@dataclass(slots=True)
class Survey:
    """Content of a release's records, as arrays by volume (in the order of the split files) and question (1 first)."""

    studies: Sequence[Study]
    # (volumes, 62) int array: which record of its split's file answers the question; -1 where none does.
    index: NDArray[np.int32]
    # (volumes, 62, 6) float array: official boxes; NaN where there is none that makes sense.
    numbers: NDArray[np.float64]
    writing: NDArray[np.uint8]  # (volumes, 62) uint8 array: `MIXED`, `WHOLE` or `REAL`
    # (volumes, 62) int array: hashes of the record's texts and diagnosis, to compare balanced records with.
    hashes: NDArray[np.int64]
    # (volumes, 62) int arrays: how often the balanced file of a split repeats a record.
    repeats: dict[Split, NDArray[np.int32]] = field(default_factory=dict)
    seen: int = 0  # records read, balanced and nameless ones apart
    nameless: int = 0  # records of all files with an empty image; they are left out
    # As in `ReleaseReport`.
    nulled: list[NulledGrade] = field(default_factory=list)
    nulled_count: int = 0
    violations: Counter[str] = field(default_factory=Counter)

    @classmethod
    def empty(cls, studies: Sequence[Study]) -> Survey:
        """Begin with nothing found."""
        size = (len(studies), QUESTIONS)
        index, numbers = np.full(size, -1, np.int32), np.full((*size, 6), np.nan)
        return cls(studies, index, numbers, np.zeros(size, np.uint8), np.zeros(size, np.int64))

    def row_id(self, volume: int, question: int) -> str:
        """Return a row's id; ``question`` is a place in the arrays, from 0."""
        return quintuple_id(self.studies[volume].volume_id, question + 1)

    def place(self, volume: int, question: int) -> str:
        """Name a record for messages: its file, number and id."""
        name = file_name(self.studies[volume].split)
        return f"generate_data/{name} record {self.index[volume, question]} ({self.row_id(volume, question)})"

    def take(
        self, volume: int, content: RecordContent, number: int, record: Mapping[str, Any], problems: Problems
    ) -> None:
        """Store the content of a record of a known volume and question."""
        question = content.number - 1
        first = self.index[volume, question]
        if first >= 0:
            name = file_name(self.studies[volume].split)
            where = f"generate_data/{name} record {number} ({self.row_id(volume, question)})"
            problems.add("duplicate-record", f"record {first} answers that question already", where=where)
            return
        self.index[volume, question] = number
        self.hashes[volume, question] = hash_record(record)
        for fault in content.faults:
            problems.add(*fault, where=self.place(volume, question))
        for attribute, raw in content.nulled:
            self.nulled_count += 1
            if len(self.nulled) < NULLED:
                self.nulled.append(NulledGrade(self.row_id(volume, question), attribute, raw))
        for violation in moaks.violations(content.number, content.grades, self.studies[volume].visit):
            self.violations[violation.rule] += 1
        self._take_box(volume, question, record["final_diagnosis"]["bounding_box"], problems)

    def _take_box(self, volume: int, question: int, box: Any, problems: Problems) -> None:
        kinds = {type(number) for number in box} if isinstance(box, list) and len(box) == 6 else {None}
        if not kinds <= {int, float}:
            message = f"bounding_box must be six numbers, not {box!r}"
            problems.add("bad-box", message, where=self.place(volume, question))
            return
        self.numbers[volume, question] = box
        self.writing[volume, question] = MIXED if len(kinds) > 1 else WHOLE if kinds == {int} else REAL

    def count_repeat(
        self, split: Split, where: str, volume: int, content: RecordContent, record: Any, problems: Problems
    ) -> None:
        """Count a record of a balanced file."""
        question = content.number - 1
        if self.index[volume, question] < 0:
            message = f"the record of {self.row_id(volume, question)} is not in {file_name(split)}"
            problems.add("unknown-balanced", message, where=where)
            return
        if self.hashes[volume, question] != hash_record(record):
            problems.add("changed-balanced", f"differs from {self.place(volume, question)}", where=where)
        self.repeats[split][volume, question] += 1

    def check_complete(self, problems: Problems) -> list[str]:
        """Check that volumes answer all questions, and note those that answer none."""
        answered = (self.index >= 0).sum(axis=1)
        for volume in np.flatnonzero((answered > 0) & (answered < QUESTIONS)).tolist():
            study = self.studies[volume]
            missing = [question + 1 for question in np.flatnonzero(self.index[volume] < 0).tolist()]
            message = f"lacks {len(missing)} of {QUESTIONS} questions: {_some(missing)}"
            problems.add("incomplete-volume", message, where=f"{study.volume_id} ({study.where})")
        silent = np.flatnonzero(answered == 0).tolist()
        notes = []
        if silent:
            named = _some([self.studies[volume].volume_id for volume in silent])
            notes.append(f"{len(silent):,} of {len(answered):,} volumes have no records and no rows: {named}")
        if self.nameless:
            notes.append(f"{self.nameless:,} records name no image and were left out, as the authors' own script does")
        return notes


def hash_record(record: Mapping[str, Any]) -> int:
    """Hash a record's content; valid within this process only."""
    return hash((record["prompt"], record["answer"], repr(record["final_diagnosis"])))


def file_name(split: Split) -> str:
    """Name a split's file of records."""
    return f"{OFFICIAL_SPLITS[split]}.json"


def _some(items: Sequence[object], most: int = 8) -> str:
    """List the first few."""
    more = f" and {len(items) - most:,} more" if len(items) > most else ""
    return ", ".join(map(str, items[:most])) + more


BALANCED: Mapping[Split, str] = {"train": "train_balanced.json", "test": "test_balanced.json"}
"""The splits that have a balanced file, and its name."""


class LocatedRecord(NamedTuple):
    """A record that belongs to a volume (its place in the split files) and answers a question."""

    volume: int
    content: RecordContent


class RecordFiles:
    """The record files of a release.

    `folder`: ``generate_data``. `prompts`: official prompts, with the questions of each. `progress`: whether bars
    are shown, where there is a terminal.
    """

    def __init__(
        self, folder: Path, studies: Sequence[Study], prompts: Mapping[str, frozenset[int]], progress: bool
    ) -> None:
        self._folder = folder
        self._studies = studies
        self._progress = progress
        self._volumes = {study.key: place for place, study in enumerate(studies)}
        self._reader = RecordReader(prompts)

    def survey(self, problems: Problems) -> Survey:
        """Read every file to its end, and collect what is wrong."""
        survey = Survey.empty(self._studies)
        files = [(split, file_name(split), False) for split in OFFICIAL_SPLITS]
        for split, name, balanced in (*files, *((split, name, True) for split, name in BALANCED.items())):
            if balanced:
                survey.repeats[split] = np.zeros(survey.index.shape, np.int32)
            for number, record in self._read(name, problems):
                found = self._find(record, split)
                where = f"generate_data/{name} record {number}"
                survey.seen += found is not None and not balanced
                if found is None:
                    survey.nameless += 1
                elif isinstance(found, Fault):
                    problems.add(*found, where=where)
                elif balanced:
                    survey.count_repeat(split, where, found.volume, found.content, record, problems)
                else:
                    survey.take(found.volume, found.content, number, record, problems)
        return survey

    def rows(self, wanted: NDArray[np.int32]) -> Iterator[tuple[Split, int, RecordContent, Any]]:
        """Read every file again, and return the wanted records in file order.

        Parameters
        ----------
        wanted : (volumes, 62) int array
            Which record of its split's file is wanted; -1 where none is.

        Yields
        ------
        volume : int
            Place in the split files.
        box : list
            The six numbers as written.

        Raises
        ------
        ReleaseError
            If the files no longer hold all of them.
        """
        problems, missing = Problems(), int((wanted >= 0).sum())
        for split in OFFICIAL_SPLITS:
            for number, record in self._read(file_name(split), problems):
                found = self._find(record, split)
                if isinstance(found, LocatedRecord) and wanted[found.volume, found.content.number - 1] == number:
                    missing -= 1
                    yield split, found.volume, found.content, record["final_diagnosis"]["bounding_box"]
        if missing:
            told = [example for examples in problems.examples.values() for example in examples]
            got = "; ".join([f"{missing:,} fewer records than when it was checked", *told])
            raise ReleaseError(
                f"generate_data changed while it was read: {got}. Read it again, and make sure that no program writes "
                "to the release meanwhile."
            )

    def _read(self, name: str, problems: Problems) -> Iterator[tuple[int, Any]]:
        """Return the records of one file with their numbers, up to where it breaks."""
        try:
            records = stream_records(self._folder / name)
            yield from enumerate(tqdm(records, name, unit="record", disable=None if self._progress else True))
        except InvalidJSONError as error:
            problems.add("invalid-json", str(error))
        except OSError as error:
            remedy = os_remedy(error, "download it with the rest of the release")
            message = f"{error.strerror}: {remedy}"
            problems.add("missing-file", message, where=f"generate_data/{name}")

    def _find(self, record: Any, split: Split) -> LocatedRecord | Fault | None:
        """Find a record's volume and read it, or return what keeps it from being a row; None if it names no image."""
        fault = check_record(record)
        if fault is not None:
            return fault
        if not record["image"].strip():
            return None
        volume = self._volumes.get(volume_key(record["image"]))
        if volume is None:
            return Fault("unknown-volume", f"its image is in no split file: {record['image']}")
        home = self._studies[volume].split
        if home != split:
            return Fault("wrong-split", f"its image is of {home}, not {split}: {record['image']}")
        content = self._reader.read(record)
        return LocatedRecord(volume, content) if content.number else content.faults[0]
