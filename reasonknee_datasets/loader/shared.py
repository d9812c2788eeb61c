"""Decoded volumes that the processes of one machine share: each is decoded once, whoever needs it first.

Batches go to workers in turn, so private caches would decode a volume once per worker. Here voxels live in *slots*:
files of a session's folder that every process maps into memory (see `reasonknee_datasets.loader.slots`).
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.errors import VolumeError, explain
from reasonknee_datasets.loader.slots import MOST_SLABS, NOBODY, Slot, alone, locked
from reasonknee_datasets.volumes import DecodeCache
from reasonknee_datasets.volumes.cache import FillSlabs

_COUNTS = struct.Struct("<QQ")
_STRIPES = 256


@dataclass(frozen=True, slots=True)
class SharedInfo:
    """What the processes of a session have done together, and hold.

    Attributes
    ----------
    decodes : int
        Volumes that were decoded, or begun to be.
    inflated : int
        Bytes of voxels that were decoded.
    entries, bytes : int
        Volumes that are held, and the size of all slots.
    max_bytes : int
        What slots may take.
    """

    decodes: int
    inflated: int
    entries: int
    bytes: int
    max_bytes: int


class SharedVolumes(DecodeCache):
    """A decode cache in a folder that several processes use at once.

    Arrays that it gives are valid until `release`: a slot may then be given to another volume.

    Parameters
    ----------
    folder : str
        Of a session; it must exist.
    max_bytes : int
        Bound on what all slots take together.
    """

    def __init__(self, folder: str, max_bytes: int) -> None:
        self.folder = folder
        self._slots: dict[int, Slot] = {}
        self._by_volume: dict[bytes, Slot] = {}
        super().__init__(max_bytes)

    def __reduce__(self) -> tuple[type[SharedVolumes], tuple[Any, ...]]:
        return SharedVolumes, (self.folder, self.max_bytes)

    def renew_after_fork(self) -> None:
        """Close the descriptors that the fork copied: a lock on them would be the parent's."""
        super().renew_after_fork()
        self._table = threading.RLock()
        for slot in self._slots.values():
            slot.close()
        self._slots.clear()
        self._by_volume.clear()

    def get_slabs(
        self, key: Hashable, wanted: Sequence[int], size: int, slab_bytes: int, fill: FillSlabs
    ) -> NDArray[np.uint8]:
        """Give a seekable volume's bytes in which some slabs are there, inflated by whichever process came first."""
        slabs = -(-size // slab_bytes)
        slot = self._hold(_digest(("slabs", key)), size) if slabs <= MOST_SLABS else None
        if slot is None:
            own = np.empty(size, np.uint8)
            fill(list(wanted), own)
            self._count(1, _length(wanted, size, slab_bytes))
            return own
        if not slot.known.issuperset(wanted):
            with slot.filling, locked(slot.record):
                self._fill(slot, wanted, size, slab_bytes, fill)
        return slot.bytes(size)

    def get(self, key: Hashable, decode: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """Give a volume's array, read-only, decoded by whichever process came first."""
        volume = _digest(key)
        if (found := self._whole(volume)) is not None:
            return found
        stripe = Path(self.folder) / f"decode-{int.from_bytes(volume[:4], 'little') % _STRIPES:03d}"
        with alone(stripe):
            if (found := self._whole(volume)) is not None:
                return found
            array = decode()
            self._count(1, array.nbytes)
            slot = self._hold(volume, array.nbytes) if array.dtype.fields is None else None
            if slot is not None:
                layout = json.dumps({"dtype": array.dtype.str, "shape": array.shape}).encode()
                slot.bytes(array.nbytes, writing=True)[:] = array.reshape(-1, order="F").view(np.uint8)
                with slot.filling, locked(slot.record):
                    slot.set_flags(b"\1", layout)
                return _array(slot, layout)
        array.flags.writeable = False
        return array

    def release(self) -> None:
        """Let go of the slots that were read since the last time."""
        with self._table:
            for slot in self._slots.values():
                slot.unpin()

    def close(self) -> None:
        """Let go of everything."""
        self.release()
        self.renew_after_fork()

    def totals(self) -> SharedInfo:
        """Tell what all processes of the session have done and hold."""
        with self._table, alone(Path(self.folder) / "assign"):
            slots = self._all()
            entries = sum(slot.head()[0] != NOBODY for slot in slots)
            held = sum(slot.capacity for slot in slots)
        try:
            decodes, inflated = _COUNTS.unpack((Path(self.folder) / "counts").read_bytes())
        except FileNotFoundError:
            decodes = inflated = 0
        return SharedInfo(decodes, inflated, entries, held, self.max_bytes)

    def _fill(self, slot: Slot, wanted: Sequence[int], size: int, slab_bytes: int, fill: FillSlabs) -> None:
        """Inflate what is still missing; the caller holds the record."""
        flags = slot.flags(-(-size // slab_bytes))
        missing = [slab for slab in wanted if not flags[slab]]
        if missing:
            before = any(flags)
            fill(missing, slot.bytes(size, writing=True))
            for slab in missing:
                flags[slab] = 1
            slot.set_flags(flags)
            self._count(not before, _length(missing, size, slab_bytes))
        slot.known = {slab for slab, there in enumerate(flags) if there}

    def _whole(self, volume: bytes) -> NDArray[Any] | None:
        """Find a volume that was decoded whole."""
        slot = self._hold(volume, 0)
        if slot is None:
            return None
        with slot.filling, locked(slot.record):
            there, layout = any(slot.flags(1)), slot.layout()
        return _array(slot, layout) if there else None

    def _hold(self, volume: bytes, size: int) -> Slot | None:
        """Find a volume's slot, or assign one where a size is given, and keep it from being replaced.

        None where no slot can be had: the volume is larger than the bound, or every slot is being read.
        """
        with self._table:
            slot = self._by_volume.get(volume)
            if slot is not None:
                if slot.pinned and slot.assigned[0] == volume:
                    return slot
                if self._still(slot, volume):
                    return slot
            with alone(Path(self.folder) / "assign"):
                slots = self._all()
                for slot in slots:
                    if slot.head()[0] == volume and self._still(slot, volume):
                        return slot
                return self._assign(slots, volume, size) if size else None

    def _still(self, slot: Slot, volume: bytes) -> bool:
        """Pin a slot if it holds a volume."""
        was_pinned = slot.pinned
        slot.pin()
        holds, token, _ = slot.head()
        if holds != volume:
            if not was_pinned:
                slot.unpin()
            self._by_volume.pop(volume, None)
            return False
        if slot.assigned != (volume, token):  # it may have held others in between, and this one's slabs anew
            self._by_volume.pop(slot.assigned[0], None)
            slot.assigned, slot.known = (volume, token), set()
        self._by_volume[volume] = slot
        slot.stamp()
        return True

    def _assign(self, slots: list[Slot], volume: bytes, size: int) -> Slot | None:
        """Give a volume a slot; the caller holds the assign lock."""
        try:
            slot = self._choose(slots, size) if size <= self.max_bytes else None
            if slot is None:
                return None
            self._by_volume.pop(slot.assigned[0], None)
            slot.empty(size)
        except OSError as error:
            self.close()
            remedy = "Give make_dataloader a shared= folder with room, a smaller group_size=, or shared=None"
            rule, where = f"have room for {size:,} more bytes", f"in {self.folder}"
            raise VolumeError(explain("the shared folder", rule, str(error.strerror), remedy, where=where)) from error
        slot.give(volume)
        self._by_volume[volume] = slot
        return slot

    def _choose(self, slots: list[Slot], size: int) -> Slot | None:
        """Take a new slot within the bound, else the one that was used longest ago; None where all are being read."""
        used = sum(slot.capacity for slot in slots)
        if used + size <= self.max_bytes:
            slot = next((slot for slot in slots if not slot.capacity), None) or self._open(len(slots))
            return slot if slot.take() else None
        for slot in sorted(slots, key=lambda slot: slot.head()[2]):
            if not slot.take():
                continue
            if slot.capacity >= size or used - slot.capacity + size <= self.max_bytes:
                return slot
            # Too small, and no room to grow: it makes room for the next.
            used -= slot.capacity
            slot.empty(0)
            slot.let_go()
        return None

    def _all(self) -> list[Slot]:
        """Open every slot there is; the caller holds the assign lock."""
        number = 0
        while (Path(self.folder) / f"{number:04d}.record").exists():
            self._open(number)
            number += 1
        return [self._slots[key] for key in range(number)]

    def _open(self, number: int) -> Slot:
        if number not in self._slots:
            self._slots[number] = Slot(Path(self.folder), number)
        return self._slots[number]

    def _count(self, decodes: int, inflated: int) -> None:
        """Add to what the session has done."""
        with alone(Path(self.folder) / "counts") as descriptor:
            data = os.pread(descriptor, _COUNTS.size, 0)
            before = _COUNTS.unpack(data) if data else (0, 0)
            os.pwrite(descriptor, _COUNTS.pack(before[0] + decodes, before[1] + inflated), 0)


def _length(slabs: Sequence[int], size: int, slab_bytes: int) -> int:
    return sum(min(slab_bytes, size - slab * slab_bytes) for slab in slabs)


def _digest(key: Hashable) -> bytes:
    return hashlib.sha256(repr(key).encode()).digest()


def _array(slot: Slot, layout: bytes) -> NDArray[Any]:
    known = json.loads(layout)
    dtype, shape = np.dtype(known["dtype"]), tuple(known["shape"])
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    array: NDArray[Any] = np.ndarray(shape, dtype, buffer=slot.bytes(size).data, order="F")
    array.flags.writeable = False
    return array
