"""The files of records, joined with the volumes of the split files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.errors import ReleaseError, os_remedy
from reasonknee_datasets.release.official_record import Fault, RecordContent, RecordReader, check_record, volume_key
from reasonknee_datasets.release.record_index import Survey, file_name
from reasonknee_datasets.release.report import Problems
from reasonknee_datasets.release.split_files import OFFICIAL_SPLITS, Study
from reasonknee_datasets.release.stream import InvalidJSONError, stream_records
from reasonknee_datasets.schema import Split

BALANCED: Mapping[Split, str] = {"train": "train_balanced.json", "test": "test_balanced.json"}
"""The splits that have a balanced file, and its name."""

Track = Callable[[Iterable[Any], str], Iterable[Any]]
"""Progress bar: takes an iterable and its description, and returns an iterable."""


class LocatedRecord(NamedTuple):
    """A record that belongs to a volume (its place in the split files) and answers a question."""

    volume: int
    content: RecordContent


class RecordFiles:
    """The record files of a release.

    Parameters
    ----------
    folder : Path
        ``generate_data``.
    studies : sequence of Study
        The volumes.
    prompts : mapping of str to set of int
        Official prompts, with the questions of each.
    track : Track
        A progress bar.
    """

    def __init__(
        self, folder: Path, studies: Sequence[Study], prompts: Mapping[str, frozenset[int]], track: Track
    ) -> None:
        self._folder = folder
        self._studies = studies
        self._track = track
        self._volumes = {study.key: place for place, study in enumerate(studies)}
        self._reader = RecordReader(prompts)

    def survey(self, problems: Problems) -> Survey:
        """Read every file to its end, and collect what is wrong."""
        survey = Survey.empty(self._studies)
        for split in OFFICIAL_SPLITS:
            name = file_name(split)
            for number, record in self._read(name, problems):
                found = self._find(record, split)
                survey.seen += found is not None
                if found is None:
                    survey.nameless += 1
                elif isinstance(found, LocatedRecord):
                    survey.take(found.volume, found.content, number, record, problems)
                else:
                    problems.add(*found, where=f"generate_data/{name} record {number}")
        for split, name in BALANCED.items():
            survey.repeats[split] = np.zeros(survey.index.shape, np.int32)
            for number, record in self._read(name, problems):
                found = self._find(record, split)
                where = f"generate_data/{name} record {number}"
                if found is None:
                    survey.nameless += 1
                elif isinstance(found, LocatedRecord):
                    survey.count_repeat(split, where, found.volume, found.content, record, problems)
                else:
                    problems.add(*found, where=where)
        return survey

    def rows(self, wanted: NDArray[np.int32]) -> Iterator[tuple[Split, int, RecordContent, Any]]:
        """Read every file again, and return the wanted records in file order.

        Parameters
        ----------
        wanted : (volumes, 62) int array
            Which record of its split's file is wanted; -1 where none is.

        Yields
        ------
        split : str
        volume : int
            Place in the split files.
        content : RecordContent
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
            yield from enumerate(self._track(stream_records(self._folder / name), name))
        except InvalidJSONError as error:
            problems.add("invalid-json", str(error))
        except OSError as error:
            remedy = os_remedy(error, "download it with the rest of the release")
            message = f"{remedy} ({error.strerror})"
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
