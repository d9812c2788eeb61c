"""Steps and batches: which places of an epoch's order go to which rank, and in which step."""

from __future__ import annotations

from dataclasses import dataclass

from reasonknee_datasets.collate.argument_checks import check_count, check_flag
from reasonknee_datasets.errors import LoaderError


@dataclass(frozen=True, slots=True)
class Topology:
    """Number of examples in a step, and the part of them that belongs to this rank.

    Each step takes the next ``world_size * batch_size`` examples of the global order; rank 0 gets the first
    ``batch_size`` of them, and so on.

    Attributes
    ----------
    batch_size, rank, world_size : int
    drop_last : bool
        Leave out the examples at the end of an epoch that do not fill a step. Otherwise one rank gets a smaller last
        batch, and several ranks, which need equal steps, get a last step filled with repeats (``valid=False``).
    """

    batch_size: int
    rank: int = 0
    world_size: int = 1
    drop_last: bool = False

    def __post_init__(self) -> None:
        check_count("batch_size", self.batch_size, least=1)
        check_count("rank", self.rank, least=0)
        check_count("world_size", self.world_size, least=1)
        if self.rank >= self.world_size:
            raise LoaderError(
                f"Rank {self.rank} does not exist among {self.world_size} ranks, which are numbered from 0. Leave "
                "rank= and world_size= out under torchrun, which sets RANK and WORLD_SIZE."
            )
        check_flag("drop_last", self.drop_last)

    @property
    def step(self) -> int:
        """How many examples of the global order a step takes."""
        return self.batch_size * self.world_size

    @property
    def fills(self) -> bool:
        """Whether the last step is filled with repeats."""
        return self.world_size > 1 and not self.drop_last

    def count(self, total: int) -> int:
        """Count the steps of an epoch of `total` examples.

        Examples
        --------
        >>> Topology(4, world_size=2).count(20), Topology(4, world_size=2, drop_last=True).count(20)
        (3, 2)
        """
        return total // self.step if self.drop_last else -(-total // self.step)

    def batch(self, present: int) -> list[tuple[int, bool]]:
        """List the places of this rank's batch within a step, and which of them are no repeats.

        Parameters
        ----------
        present : int
            How many examples the step has before it is filled: at least 1.

        Examples
        --------
        >>> Topology(2, rank=1, world_size=2).batch(present=3)
        [(2, True), (0, False)]
        >>> Topology(2).batch(present=1)
        [(0, True)]
        """
        first = self.rank * self.batch_size
        last = first + self.batch_size if self.fills else min(first + self.batch_size, present)
        return [(place % present, place < present) for place in range(first, last)]
