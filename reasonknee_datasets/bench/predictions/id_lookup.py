"""`Elsewhere`: where an id belongs that is not scored."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from reasonknee_datasets.bench.predictions.problems import Ledger
from reasonknee_datasets.errors import RepositoryError
from reasonknee_datasets.moaks import QUESTIONS
from reasonknee_datasets.schema import parse_id
from reasonknee_datasets.sources import Repository, parse_split, read_shard, select


@dataclass(frozen=True, slots=True)
class Scan:
    """Where a volume belongs, and which of a knee's scans it is."""

    split: str
    study: str
    series: str


class Elsewhere:
    """Tells ids of other splits, and of records that were not asked for, from unknown ones.

    Parameters
    ----------
    data : Repository or None
        Where the scored records are from; without it, all are unknown.
    split : str
        Of the scored records.
    ledger : Ledger
        Learns of each.
    """

    def __init__(self, data: Repository | None, split: str, ledger: Ledger) -> None:
        self._data, self._ledger = data, ledger
        self._split = split if data is None else parse_split(split, data.manifest.splits())[0].name

    @cached_property
    def scans(self) -> dict[str, Scan]:
        """Every volume of the repository by its id; read when it is first needed."""
        if self._data is None:
            return {}
        manifest, selection = self._data.manifest, select("volumes", ["id", "study", "series"])
        found: dict[str, Scan] = {}
        for split in manifest.splits("volumes"):
            for shard in manifest.shards("volumes", split):
                for table in read_shard(self._data.url(shard.path), shard, selection):
                    for row in table.to_pylist():
                        found[row["id"]] = Scan(split, row["study"], row["series"])
        return found

    def note(self, name: str, place: str) -> None:
        """Note one id.

        Parameters
        ----------
        name : str
            The id.
        place : str
            Where it stands.
        """
        try:
            question = parse_id(name).question_id
        except RepositoryError:
            question = None
        known = question is not None and question in QUESTIONS
        if question is not None and known and not QUESTIONS[question].in_records:
            self._ledger.note("unscored", name)
            return
        scan = self.scans.get(name.rpartition("/q")[0]) if known else None
        if scan is None:
            self._ledger.note("unknown_id", f"{name[:80]} ({place})")
        elif scan.split == self._split:
            self._ledger.note("not_asked", f"{name} ({place})")
        else:
            self._ledger.note("other_split", f"{name} is of {scan.split} ({place})")
