"""Cutting the global order into steps and steps into batches: which places of an epoch go to which rank, and when."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Literal

from reasonknee_datasets.errors import LoaderError, explain

Tail = Literal["drop", "pad", "keep"]
TAILS: tuple[Tail, ...] = ("drop", "pad", "keep")


@dataclass(frozen=True, slots=True)
class Topology:
    """How many examples a step takes, and which of them are one rank's.

    Each step takes the next ``world_size * batch_size`` examples of the global order; rank 0 gets the first
    ``batch_size`` of them, and so on.

    Attributes
    ----------
    batch_size, rank, world_size : int
    tail : {"drop", "pad", "keep"}
        What becomes of the examples at an epoch's end that do not fill a step: left out, filled up with repeats that
        are marked as such, or (on one rank) given as a smaller batch.
    """

    batch_size: int
    rank: int = 0
    world_size: int = 1
    tail: Tail = "drop"

    def __post_init__(self) -> None:
        if not isinstance(self.batch_size, Integral) or self.batch_size < 1:
            rule = "be a whole number of at least 1"
            raise LoaderError(explain("batch_size", rule, self.batch_size, "Give the examples of a batch"))
        if not 0 <= self.rank < self.world_size:
            got = f"rank={self.rank}, world_size={self.world_size}"
            remedy = "Leave both out under torchrun, which sets RANK and WORLD_SIZE"
            raise LoaderError(explain("rank", "lie between 0 and world_size - 1", got, remedy))
        if self.tail not in TAILS:
            remedy = "drop leaves the last examples out, pad repeats some, keep gives a smaller batch"
            raise LoaderError(explain("tail", f"be one of {', '.join(TAILS)}", repr(self.tail), remedy))
        if self.tail == "keep" and self.world_size > 1:
            got, remedy = f"{self.world_size} ranks", "Choose drop, or pad and leave examples with valid=False out"
            raise LoaderError(explain("tail='keep'", "stand alone, since ranks need equal steps", got, remedy))

    @property
    def step(self) -> int:
        """How many examples of the global order a step takes."""
        return self.batch_size * self.world_size

    def count(self, total: int) -> int:
        """Tell how many steps an epoch of `total` examples has.

        Examples
        --------
        >>> Topology(4, world_size=2).count(20), Topology(4, world_size=2, tail="pad").count(20)
        (2, 3)
        """
        return total // self.step if self.tail == "drop" else -(-total // self.step)

    def batch(self, present: int) -> list[tuple[int, bool]]:
        """Give the places of this rank's batch in a step, and which of them stand there for the first time.

        Parameters
        ----------
        present : int
            How many examples the step has before it is filled up: at least 1.

        Examples
        --------
        >>> Topology(2, rank=1, world_size=2, tail="pad").batch(present=3)
        [(2, True), (0, False)]
        """
        first = self.rank * self.batch_size
        last = min(first + self.batch_size, present) if self.tail == "keep" else first + self.batch_size
        return [(place % present, place < present) for place in range(first, last)]
