"""Decoded volumes that the processes of one machine share: each is decoded once.

Batches go to workers in turn, so private caches would decode a volume once per worker. Here voxels live in *slots*:
files of a session's folder that every process maps into memory (see `reasonknee_datasets.loader.slots`). A slot is
given away when the epoch's order has no more use for its volume, as far as there is room for all that are in use.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import threading
from collections.abc import Hashable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.errors import VolumeError, os_remedy
from reasonknee_datasets.loader.shared_folder import SharedInfo, add_counts, is_first, read_counts
from reasonknee_datasets.loader.slots import MOST_SLABS, NOTHING_KNOWN, UNASSIGNED, SharedSlot, SlotRecords, Use, alone
from reasonknee_datasets.volumes import DecodeCache
from reasonknee_datasets.volumes.cache import FillSlabs

_log = logging.getLogger(__name__)


class SharedVolumes(DecodeCache):
    """A decode cache in a folder that several processes use at once.

    Arrays that it returns are valid until `release`: a slot may then be assigned to another volume. `folder` is that of
    a session, and all slots together take `max_bytes` at most.
    """

    def __init__(self, folder: str, max_bytes: int) -> None:
        self.folder = folder
        self._slots: dict[int, SharedSlot] = {}
        self._records: SlotRecords | None = None
        self._by_volume: dict[bytes, SharedSlot] = {}
        self._usual = Use()
        self._uses: Mapping[str, Use] = {}
        super().__init__(max_bytes)

    def __reduce__(self) -> tuple[type[SharedVolumes], tuple[Any, ...]]:
        return SharedVolumes, (self.folder, self.max_bytes)

    def renew_after_fork(self) -> None:
        """Close the descriptors that the fork copied: a lock on them would be the parent's."""
        super().renew_after_fork()
        self._table = threading.RLock()
        for slot in self._slots.values():
            slot.close()
        if self._records is not None:
            self._records.close()
        self._records = None
        self._slots.clear()
        self._by_volume.clear()

    def expect(self, usual: Use, uses: Mapping[str, Use]) -> None:
        """Announce the uses of the volumes that come next, by the names of their files; of others, the usual one."""
        self._usual, self._uses = usual, uses

    def get_slabs(
        self, key: Hashable, wanted: NDArray[np.int64], size: int, slab_bytes: int, fill: FillSlabs
    ) -> NDArray[np.uint8]:
        """Return a volume's bytes in which some slabs are there, decoded by whichever process came first."""
        slabs = -(-size // slab_bytes)
        slot = self._hold(_digest((key, size, slab_bytes)), size, self._use(key)) if slabs <= MOST_SLABS else None
        if slot is None:
            own = np.empty(size, np.uint8)
            fill(wanted, own)
            self._count(1, _length(wanted, size, slab_bytes))
            return own
        if len(slot.known) != slabs or not slot.known[wanted].all():
            with slot.filling, alone(slot.fill):
                self._fill(slot, wanted, size, slab_bytes, fill)
        return slot.bytes(size)

    def release(self) -> None:
        """Release the slots that were read since the last call."""
        with self._table:
            for slot in self._slots.values():
                slot.unpin()
            held = sorted((slot for slot in self._slots.values() if slot.is_open), key=lambda slot: slot.used)
            for slot in held[: max(0, len(held) - _most_open())]:
                slot.rest()

    def close(self) -> None:
        """Release everything."""
        self.release()
        self.renew_after_fork()

    def totals(self) -> SharedInfo:
        """Return counts and sizes over all processes of the session."""
        with self._table, alone(Path(self.folder) / "assign"):
            slots = self._all()
            entries = sum(slot.head()[0] != UNASSIGNED for slot in slots)
            held = sum(slot.capacity for slot in slots)
        return SharedInfo(*read_counts(self.folder), entries, held, self.max_bytes)

    def _use(self, key: Hashable) -> Use:
        return self._uses.get(getattr(key, "name", ""), self._usual)

    def _fill(self, slot: SharedSlot, wanted: NDArray[np.int64], size: int, slab_bytes: int, fill: FillSlabs) -> None:
        """Inflate the slabs that are still missing; the caller has locked the record."""
        flags = slot.flags(-(-size // slab_bytes))
        there = np.frombuffer(flags, np.uint8)  # shares its memory
        missing = wanted[there[wanted] == 0]
        if len(missing):
            is_first = not there.any()
            fill(missing, slot.bytes(size, writing=True))
            there[missing] = 1
            slot.set_flags(flags)
            self._count(is_first, _length(missing, size, slab_bytes))
        slot.known = there != 0

    def _hold(self, volume: bytes, size: int, use: Use) -> SharedSlot | None:
        """Find a volume's slot, or assign one, and keep it from being replaced.

        None where no slot can be had: the volume is larger than the bound, or every slot is being read.
        """
        try:
            return self._find_or_assign(volume, size, use)
        except VolumeError:
            raise
        except OSError as error:
            self.close()
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                remedy = "Pass make_dataloader a share_volumes= folder with room, or a smaller volumes_in_flight="
            else:
                remedy = os_remedy(error, "Check that folder")
            raise VolumeError(
                f"Cannot keep {size:,} bytes of a decoded volume in {self.folder}, where workers share volumes: "
                f"{error.strerror}. {remedy}, or share_volumes=False, which shares none."
            ) from error

    def _find_or_assign(self, volume: bytes, size: int, use: Use) -> SharedSlot | None:
        with self._table:
            slot = self._by_volume.get(volume)
            if slot is not None:
                if slot.pinned and slot.assigned[0] == volume:
                    return slot
                if self._still(slot, volume, use):
                    return slot
            with alone(Path(self.folder) / "assign"):
                slots = self._all()
                for slot in slots:
                    if slot.head()[0] == volume and self._still(slot, volume, use):
                        return slot
                return self._assign(slots, volume, size, use)

    def _still(self, slot: SharedSlot, volume: bytes, use: Use) -> bool:
        """Pin a slot if it contains a volume."""
        was_pinned = slot.pinned
        slot.pin()
        holds, token = slot.head()
        if holds != volume:
            if not was_pinned:
                slot.unpin()
            self._by_volume.pop(volume, None)
            return False
        if slot.assigned != (volume, token):  # it may have had other volumes in between, and this one's slabs again
            self._by_volume.pop(slot.assigned[0], None)
            slot.assigned, slot.known = (volume, token), NOTHING_KNOWN
        self._by_volume[volume] = slot
        slot.note(use)
        return True

    def _assign(self, slots: list[SharedSlot], volume: bytes, size: int, use: Use) -> SharedSlot | None:
        """Assign a slot to a volume; the caller has the assign lock."""
        slot = self._choose(slots, size, use) if size <= self.max_bytes else None
        if slot is None:
            if use.until >= use.stop > 0:
                self._say_too_small(len(slots))
            return None
        self._by_volume.pop(slot.assigned[0], None)
        slot.empty(size)
        slot.give(volume, use)
        self._by_volume[volume] = slot
        return slot

    def _choose(self, slots: list[SharedSlot], size: int, use: Use) -> SharedSlot | None:
        """Take a new slot within the bound, else the one that is free first; None where all are being read."""
        used = sum(slot.capacity for slot in slots)
        if used + size <= self.max_bytes:
            slot = next((slot for slot in slots if not slot.capacity), None) or self._open(len(slots))
            return slot if slot.take() else None
        stamps = {slot: slot.stamp() for slot in slots}
        for slot in sorted(slots, key=lambda slot: stamps[slot].turn(use.began)):
            if not slot.take():
                continue
            if stamps[slot].wanted_after(use):
                self._say_too_small(len(slots))
            if slot.capacity >= size or used - slot.capacity + size <= self.max_bytes:
                return slot
            # Too small, and no room to grow: it makes room for the next.
            used -= slot.capacity
            slot.empty(0)
            slot.let_go()
        return None

    def _all(self) -> list[SharedSlot]:
        """Open every existing slot; the caller has the assign lock."""
        if self._records is None:
            self._records = SlotRecords(Path(self.folder))
        return [self._open(number) for number in range(self._records.count())]

    def _open(self, number: int) -> SharedSlot:
        if number not in self._slots:
            assert self._records is not None
            self._slots[number] = SharedSlot(Path(self.folder), number, self._records)
        return self._slots[number]

    def _count(self, decodes: int, inflated: int) -> None:
        add_counts(self.folder, decodes, inflated)

    def _say_too_small(self, held: int) -> None:
        """Log once in a session that volumes will be decoded again."""
        if is_first(self.folder, "said-too-small"):
            _log.warning(
                "The shared folder fits %d volumes (%.3g GB), but more are in use at a time: some are decoded more "
                "than once an epoch. Pass make_dataloader a larger shared_memory_bytes=, or a smaller "
                "volumes_in_flight=, batch_size= or prefetch_factor=",
                held,
                self.max_bytes / 1e9,
            )


def _most_open() -> int:
    """Choose how many slots, of two descriptors each, a process keeps open between batches: an eighth of its limit."""
    resource = import_module("resource")  # Windows has none, and shares no volumes
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 1 << 20 if limit == resource.RLIM_INFINITY else max(4, limit // 16)


def _length(slabs: NDArray[np.int64], size: int, slab_bytes: int) -> int:
    return int(np.minimum(slab_bytes, size - slabs * slab_bytes).sum())


def _digest(key: Hashable) -> bytes:
    return hashlib.sha256(repr(key).encode()).digest()
