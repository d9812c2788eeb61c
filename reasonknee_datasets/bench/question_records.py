"""Records that a model is asked about, read from a prepared repository without their answers."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from reasonknee_datasets.bench.arrays import Truth
from reasonknee_datasets.bench.run_metadata import RunMetadata
from reasonknee_datasets.bench.truth import Data, identify, open_data, read_truth
from reasonknee_datasets.errors import BenchError
from reasonknee_datasets.moaks import QUESTIONS
from reasonknee_datasets.sources import (
    Repository,
    find_volumes,
    join,
    keep_credentials,
    parse_split,
    read_shard,
    select,
)
from reasonknee_datasets.volumes import open_volume

COLUMNS = ("id", "volume_path", "side", "question_id", "question", "box")
"""All columns that a request can be made from: neither reasoning nor grades, answer or record."""


@dataclass(frozen=True, slots=True)
class Record:
    """What a request about one record may depend on.

    Attributes
    ----------
    id : str
        ``patient/visit/side/qNN``.
    volume_path : str
    side : str
        ``right`` or ``left``.
    question : int
        1 to 62.
    box : tuple of six ints
        The true box in the stored volume; only the conditions that show the true region read it.
    """

    id: str
    volume_path: str
    side: str
    question: int
    box: tuple[int, int, int, int, int, int]

    @property
    def patient(self) -> str:
        """The patient, the first part of the id."""
        return self.id.partition("/")[0]

    @property
    def region(self) -> str:
        """A name for this box of this volume, which several questions share."""
        return f"{self.volume_path} {' '.join(map(str, self.box))}"


@dataclass(frozen=True)
class Records:
    """The records of a run.

    Attributes
    ----------
    repository : Repository
    volumes : str
        The folder or URL that contains ``volumes/``.
    items : tuple of Record
        In the repository's order, in which the questions about a volume follow each other.
    rows : tuple of (int, str)
        ``question_id`` and ``question`` of each, as the repository holds them.
    truth : Truth
        The true grades, row for row, for the scorer alone.
    identity : RunMetadata
        As far as it follows from the records.
    """

    repository: Repository
    volumes: str
    items: tuple[Record, ...]
    rows: tuple[tuple[int, str], ...]
    truth: Truth
    identity: RunMetadata

    def volume(self, path: str) -> Any:
        """Return a volume as a lazy image; nothing is opened."""
        return open_volume(join(self.volumes, path), geometry=self.repository.manifest.volume(path).geometry)

    def other_volume(self, record: Record, seed: int) -> str:
        """Draw the path of a volume of another patient, the same for all questions about one knee.

        The pool is every knee of the same side in the whole split, so that the draw for a record does not depend on
        which sample of patients is asked about.

        Raises
        ------
        BenchError
            If the split has no other patient's knee of that side.
        """
        pool = [path for path, patient in self._knees.get(record.side, ()) if patient != record.patient]
        if not pool:
            raise BenchError(
                f"The condition shuffled_image shows another patient's knee, but split {self.identity.split!r} has no "
                f"{record.side} knee of a patient other than {record.patient}. Use a split with more patients."
            )
        digest = hashlib.blake2b(f"{seed}|{record.volume_path}".encode(), digest_size=8).digest()
        return pool[int.from_bytes(digest, "big") % len(pool)]

    @cached_property
    def _knees(self) -> dict[str, list[tuple[str, str]]]:
        """Volume paths and patients of the split, by side."""
        found: dict[str, list[tuple[str, str]]] = {}
        selection = select("volumes", ["volume_path", "patient", "side"])
        for shard in self.repository.manifest.shards("volumes", self.identity.split or "test"):
            for table in read_shard(self.repository.url(shard.path), shard, selection):
                for row in table.to_pylist():
                    found.setdefault(row["side"], []).append((row["volume_path"], row["patient"]))
        return found


def read_records(
    data: Data | None = None,
    split: str = "test",
    *,
    patients: int | None = None,
    questions: Sequence[int] | None = None,
    without: Collection[int] = (),
    seed: int = 0,
    volumes_dir: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    token: bool | str | None = None,
) -> Records:
    """Read the records to ask about.

    Parameters
    ----------
    data, split
        As for `reasonknee_datasets.bench.truth.read_truth`.
    patients : int, optional
        A sample of whole patients, drawn with ``seed``; a larger sample contains the smaller ones.
    questions : sequence of int, optional
        Only these.
    without : collection of int
        Not these.
    seed : int
    volumes_dir, storage_options, token
        As for `reasonknee_datasets.load_dataset`.

    Raises
    ------
    BenchError
        If nothing is left to ask, or a question is none of 1 to 62.
    """
    repository = open_data(data, storage_options=storage_options, token=token)
    volumes = find_volumes(volumes_dir, repository.root)
    keep_credentials(volumes, storage_options, token)
    filters = _filter(questions, without)
    truth = read_truth(repository, split, patients=patients, seed=seed, filters=filters)
    wanted = frozenset(truth.ids)
    items: list[Record] = []
    rows: list[tuple[int, str]] = []
    selection = select("quintuples", COLUMNS, filters)
    (part,) = parse_split(split, repository.manifest.splits())
    for shard in repository.manifest.shards("quintuples", part.name):
        for table in read_shard(repository.url(shard.path), shard, selection):
            for row in table.select(list(COLUMNS)).to_pylist():
                if row["id"] in wanted:
                    box = tuple(row["box"])
                    items.append(Record(row["id"], row["volume_path"], row["side"], row["question_id"], box))
                    rows.append((row["question_id"], row["question"]))
    identity = identify(repository, split, truth, seed=seed)
    return Records(repository, volumes, tuple(items), tuple(rows), truth, identity)


def _filter(questions: Sequence[int] | None, without: Collection[int]) -> Any:
    scored = [number for number, question in QUESTIONS.items() if question.in_records]
    for number in questions or ():
        if number not in scored:
            raise BenchError(
                f"No record asks question {number!r}. Records ask questions 1 to 62; leave the others out."
            )
    asked = sorted(set(questions or scored) - set(without))
    if not asked:
        raise BenchError("No question is left to ask. Name other questions, or repair the damaged prompts 58 and 59.")
    return None if len(asked) == len(scored) else [("question_id", "in", asked)]


def parse_questions(value: int | str | Sequence[int | str]) -> tuple[int, ...]:
    """Read question numbers and ranges of them.

    Examples
    --------
    >>> parse_questions("1-3,34"), parse_questions(45), parse_questions(["1-2", 5])
    ((1, 2, 3, 34), (45,), (1, 2, 5))
    """
    parts = [part for each in ([value] if isinstance(value, int | str) else value) for part in str(each).split(",")]
    found: list[int] = []
    for part in parts:
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first:
            raise BenchError(f"Questions are numbers and ranges such as 1-15,34, got {part!r}.")
        found += range(first, last + 1)
    return tuple(found)
