"""One record after another out of a JSON list of any size."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ijson

from reasonknee_datasets.errors import ReleaseError
from reasonknee_datasets.private_files import open_regular

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
