"""Which records are asked about, in which order: read from a prepared repository without their answers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from reasonknee_datasets.bench.conditions import Condition
from reasonknee_datasets.bench.identity import Identity
from reasonknee_datasets.bench.runner.asking import Task
from reasonknee_datasets.bench.truth import Data, identify, open_data, read_truth
from reasonknee_datasets.errors import BenchError, explain
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
"""All that the runner reads of a row: neither reasoning nor grades, answer or record."""


@dataclass(frozen=True, slots=True)
class Records:
    """The records of a run.

    Attributes
    ----------
    repository : Repository
    volumes : str
        The place that holds ``volumes/``.
    tasks : tuple of Task
        In the repository's order, in which the questions of a volume stand together.
    rows : tuple of (int, str)
        ``question_id`` and ``question`` of each, as the repository holds them.
    identity : Identity
        As far as it follows from the records.
    """

    repository: Repository
    volumes: str
    tasks: tuple[Task, ...]
    rows: tuple[tuple[int, str], ...]
    identity: Identity

    def volume(self, path: str) -> Any:
        """Give a volume as a lazy image; nothing is opened."""
        return open_volume(join(self.volumes, path), geometry=self.repository.manifest.volume(path).geometry)


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
    """Read what is asked about.

    Parameters
    ----------
    data, split
        As for `reasonknee_datasets.bench.truth.read_truth`.
    patients : int, optional
        A sample of whole patients, drawn with ``seed``; a larger sample holds the smaller ones.
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
    # Which records these are, and nothing else of the truth, leaves this function.
    truth = read_truth(repository, split, patients=patients, seed=seed, filters=filters)
    wanted, identity = frozenset(truth.ids), identify(repository, split, truth, seed=seed)
    del truth
    tasks: list[Task] = []
    rows: list[tuple[int, str]] = []
    selection = select("quintuples", COLUMNS, filters)
    (part,) = parse_split(split, repository.manifest.splits())
    for shard in repository.manifest.shards("quintuples", part.name):
        for table in read_shard(repository.url(shard.path), shard, selection):
            for row in table.select(list(COLUMNS)).to_pylist():
                if row["id"] in wanted:
                    tasks.append(
                        Task(row["id"], row["volume_path"], row["side"], row["question_id"], tuple(row["box"]))
                    )
                    rows.append((row["question_id"], row["question"]))
    return Records(repository, volumes, tuple(tasks), tuple(rows), identity)


def _filter(questions: Sequence[int] | None, without: Collection[int]) -> Any:
    scored = [number for number, question in QUESTIONS.items() if question.in_records]
    for number in questions or ():
        if number not in scored:
            remedy = "Questions 63 to 69 are in the prompt files only: no record answers them"
            raise BenchError(explain("questions", "be 1 to 62", repr(number), remedy))
    asked = sorted(set(questions or scored) - set(without))
    if not asked:
        raise BenchError(explain("a run", "ask at least one question", "none", "Name others, or repair the prompts"))
    return None if len(asked) == len(scored) else [("question_id", "in", asked)]


def in_order(tasks: Sequence[Task], condition: Condition, done: Collection[str]) -> Iterator[tuple[str, list[Task]]]:
    """Group what is still to be asked by volume, questions about one crop together.

    Frames come first in a request, so that consecutive requests share the longest prefix that they can.

    Examples
    --------
    >>> from reasonknee_datasets.bench.conditions import REGION_GIVEN
    >>> boxes = [(0, 0, 0, 2, 2, 2), (0, 0, 0, 1, 1, 1), (0, 0, 0, 2, 2, 2)]
    >>> tasks = [Task(f"a/q0{n}", "a", "left", n, box) for n, box in enumerate(boxes, start=1)]
    >>> [[task.question for task in group] for _, group in in_order(tasks, REGION_GIVEN, {"a/q03"})]
    [[2, 1]]
    """
    for path, group in groupby(tasks, key=lambda task: task.volume_path):
        left = [task for task in group if task.id not in done]
        if condition.sees_true_box:
            left.sort(key=lambda task: (task.box, task.question))
        if left:
            yield path, left
