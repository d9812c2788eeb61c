"""The order of an epoch: a pure function of the dataset's volumes, the seed, the epoch and ``volumes_in_flight``.

Nothing else enters: not the number of workers or ranks, not the batch size, not the machine, and not NumPy's random
generators, whose streams may change between versions. All draws are a published 64-bit mix of counters (splitmix64), so
that an order can be continued years later on another machine.

**Shuffling by groups of volumes.** A uniform shuffle would look at a volume's 62 questions an epoch apart and decode it
62 times; going volume by volume would fill a batch with one patient. So volumes are put in random order, and the
questions of each are spread evenly at random over the time of the `volumes_in_flight` volumes around it. At any moment
no more than `volumes_in_flight` volumes are open (some of their rows read, some not), a batch draws from all of
them, and one volume opens as another closes: no decoder ever has to start a whole group at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_GOLDEN = 0x9E3779B97F4A7C15
# Purpose of a draw; a purpose never shares draws with another.
_VOLUME, _PLACE, _CLASS, _MEMBER = range(4)


@dataclass(frozen=True, slots=True)
class EpochPlan:
    """Settings that determine the order of every epoch.

    Attributes
    ----------
    volumes : (n,) int array
        Volume of each row, numbered by first appearance.
    seed : int
        Seed of the shuffle.
    volumes_in_flight : int
        How many volumes are open at a time.
    shuffle : bool
        False keeps the rows in their stored order, in every epoch.
    classes : (n,) int array or None
        Where rows are drawn with replacement: the class of each, and every class is as likely as any other.
    """

    volumes: NDArray[np.int64]
    seed: int = 0
    volumes_in_flight: int = 1
    shuffle: bool = True
    classes: NDArray[np.int64] | None = None

    def rows(self, epoch: int) -> NDArray[np.int64]:
        """Return the epoch's rows in order.

        Without classes it is a permutation of all rows; with them, as many rows drawn with replacement.

        Examples
        --------
        >>> plan = EpochPlan(volumes=np.repeat(np.arange(4), 3), seed=1, volumes_in_flight=2)
        >>> plan.rows(epoch=0).tolist()
        [3, 10, 9, 11, 4, 5, 8, 0, 1, 6, 2, 7]
        >>> plan.volumes[plan.rows(epoch=1)].tolist()
        [3, 2, 2, 3, 2, 3, 1, 1, 0, 1, 0, 0]
        """
        rows = np.arange(len(self.volumes), dtype=np.int64)
        if self.classes is not None:
            rows = self._drawn(epoch, self.classes)
        if not self.shuffle:
            return rows
        places = _uniform(_bits(self.seed, epoch, _PLACE, len(rows)))
        present = np.flatnonzero(np.bincount(self.volumes[rows]))
        if self.volumes_in_flight < len(present):
            keys = _bits(self.seed, epoch, _VOLUME, len(present))
            turn = np.empty(present[-1] + 1, np.float64)
            turn[present[np.argsort(keys, kind="stable")]] = np.arange(len(present)) + 0.5
            places = turn[self.volumes[rows]] + self.volumes_in_flight * (places - 0.5)
            # Rows beyond an end of the epoch are folded back, so that its first batches are mixed as all others are.
            places = np.abs(places)
            places = np.where(places > len(present), 2 * len(present) - places, places)
        return rows[np.argsort(places, kind="stable")]

    def _drawn(self, epoch: int, classes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Draw a class, all equally likely, and then one of its rows."""
        by_class = np.argsort(classes, kind="stable")
        _, first, count = np.unique(classes[by_class], return_index=True, return_counts=True)
        chosen = (_bits(self.seed, epoch, _CLASS, len(classes)) % np.uint64(len(count))).astype(np.int64)
        member = _bits(self.seed, epoch, _MEMBER, len(classes)) % count[chosen].astype(np.uint64)
        return by_class[first[chosen] + member.astype(np.int64)]


def enumerate_labels(labels: NDArray[Any]) -> NDArray[np.int64]:
    """Assign numbers to labels by first appearance.

    Examples
    --------
    >>> enumerate_labels(np.array(["b", "a", "b", "c"])).tolist()
    [0, 1, 0, 2]
    """
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    order = np.empty(len(first), np.int64)
    order[np.argsort(first)] = np.arange(len(first))
    return order[inverse]


def _bits(seed: int, epoch: int, purpose: int, count: int) -> NDArray[np.uint64]:
    """Return `count` independent 64-bit draws for one purpose."""
    key = 0
    for part in (seed, epoch, purpose):
        key = int(_mix(np.array([(key + (part + 1) * _GOLDEN) % 2**64], np.uint64))[0])
    return _mix(np.uint64(key) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GOLDEN))


def _mix(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scramble 64 bits: the finalizer of splitmix64 (Steele, Lea and Flood 2014)."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def _uniform(bits: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Return numbers in [0, 1) with 53 bits."""
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
