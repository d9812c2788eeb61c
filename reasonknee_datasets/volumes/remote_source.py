"""Volume files behind fsspec URLs: few requests, retried where that may help, and never a short answer unnoticed."""

from __future__ import annotations

import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import fsspec.utils
from fsspec.asyn import sync

from reasonknee_datasets.errors import VolumeError
from reasonknee_datasets.volumes.byte_source import (
    DamagedFileError,
    Fetch,
    FileIdentity,
    Range,
    check_lengths,
    check_same,
    count_read,
    unreadable,
)
from reasonknee_datasets.volumes.cache import Once
from reasonknee_datasets.volumes.credentials import find_credentials, redact, shows_secret
from reasonknee_datasets.volumes.filesystems import ServerLimitError, limit_body, open_filesystem, timeout_seconds
from reasonknee_datasets.volumes.limits import file_limit
from reasonknee_datasets.volumes.slab_reader import GZIP_MAGIC

WHOLE = "whole:"
"""Begins the tag of a file that its server encodes again, or whose size it does not state: no range can be read."""
FIRST_BYTES = 1024


def raw_options(url: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return storage options with which HTTP transfers a file as it is stored: not encoded, and never decoded.

    aiohttp decodes ``Content-Encoding: gzip`` by default, which many servers send for files that end in ``.gz``; a
    range of such a file cannot be decoded, and its length is not the one that the server states.
    """
    if not url.startswith(("http://", "https://")):
        return dict(options)
    headers = {"Accept-Encoding": "identity", **options.get("headers", {})}
    client = {"auto_decompress": False, **options.get("client_kwargs", {})}
    return {**options, "headers": headers, "client_kwargs": client}


def read_size_and_encoding(filesystem: Any, path: str) -> tuple[int | None, str]:
    """Return the size in bytes that an HTTP server states for a file, which fsspec leaves out, and its encoding."""
    if "http" not in _protocols(filesystem):
        return None, "identity"
    headers = sync(filesystem.loop, _read_headers, filesystem, path)
    size = headers.get("Content-Length")
    return None if size is None else int(size), headers.get("Content-Encoding", "identity").strip().lower()


def is_encoded(start: bytes) -> bool:
    """Check whether the first bytes of a file are gzip data of gzip data: the server encoded a ``.nii.gz`` again.

    Examples
    --------
    >>> import gzip
    >>> once = gzip.compress(bytes(2000))
    >>> is_encoded(once), is_encoded(gzip.compress(once))
    (False, True)
    """
    if start[:2] != GZIP_MAGIC:
        return False
    try:
        return zlib.decompressobj(wbits=31).decompress(start, 2) == GZIP_MAGIC
    except zlib.error:
        return False


def decode(body: bytes) -> bytes:
    """Undo the encoding of a whole ``.nii.gz``; one that inflates to far more than compressed data can is an error."""
    inflater = zlib.decompressobj(wbits=31)
    data = inflater.decompress(body, 4 * len(body) + 1_000_000)
    if not inflater.eof:
        raise zlib.error(f"{len(body)} bytes inflate to more than {len(data)}, or are cut off")
    return data


async def _read_headers(filesystem: Any, path: str) -> Mapping[str, str]:
    session = await filesystem.set_session()
    url = filesystem.encode_url(path)
    async with session.head(url, allow_redirects=True, **filesystem.kwargs) as response:
        if response.status not in (405, 501):
            response.raise_for_status()
            return response.headers  # type: ignore[no-any-return]  # aiohttp's, in any case
    async with session.get(url, allow_redirects=True, **filesystem.kwargs) as response:  # the body is not read
        response.raise_for_status()
        return response.headers  # type: ignore[no-any-return]


def _protocols(filesystem: Any) -> tuple[str, ...]:
    protocol = getattr(filesystem, "protocol", ())
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


T = TypeVar("T")

_ATTEMPTS = 4
_FIRST_WAIT = 0.1
# Neighbouring slabs are one request; a long run is cut so that several requests share the bandwidth.
_MAX_REQUEST = 4 * 1024 * 1024
# Requests in flight at a time: more of them overflow the queue of a small server, which then drops connections.
_PARALLEL = 16
# Two ranges are one request if the gap between them is transferred sooner than another request is answered, which
# costs its latency divided by the requests in flight: gap < latency * bandwidth / parallel. At 30 ms and 100 Mbit/s
# that is 23 kB. The latency is measured for each server; the bandwidth is assumed.
_BANDWIDTH = 12_500_000
_USUAL_LATENCY = 0.03
_GAPS = (16 * 1024, 1024 * 1024)
_SMALL_ANSWER = 64 * 1024
# Names that file systems give to the state of a file, the most definite first.
_TAGS = ("ETag", "etag", "mtime", "LastModified", "Last-Modified", "md5")

# A remote file's size and etag are read once a process: asking again before every read would double the requests.
_identities: Once[tuple[str, str], FileIdentity] = Once(limit=20_000)
# Shortest time in seconds in which a server has answered one small request.
_latencies: dict[str, float] = {}
# The whole file that a server without ranges sent for the first bytes is kept for the voxels that are requested next.
_wholes: Once[FileIdentity, bytes] = Once(limit=2)


@dataclass(frozen=True, slots=True)
class RemoteSource:
    """A file behind any fsspec URL."""

    path: str
    storage_options: dict[str, Any] | None = field(default=None, repr=False, compare=False)

    @property
    def label(self) -> str:
        """The URL without user names, passwords and query."""
        return redact(self.path)

    @property
    def is_local(self) -> bool:
        """No."""
        return False

    def identify(self, *, again: bool = False) -> FileIdentity:
        """Find size and etag, once a process."""
        options = self._options()
        key = (self.path, fsspec.utils.tokenize(options))
        if again:
            _identities.discard(key)
        return _identities.get(key, lambda: self._identify(key[1], options))

    def _identify(self, token: str, options: dict[str, Any]) -> FileIdentity:
        info = self._persist(lambda filesystem, path: filesystem.info(path), options)
        tag = next((str(info[name]) for name in _TAGS if info.get(name)), "")
        if info.get("size") is None:  # fsspec leaves it out where the server sends a Content-Encoding
            info["size"], encoding = self._persist(read_size_and_encoding, options)
            if encoding not in ("identity", "gzip", "x-gzip"):
                raise VolumeError(
                    f"The server sends {self.label} with Content-Encoding: {encoding}, although it was asked for the "
                    "file as it is stored. Let the server send volumes without Content-Encoding, or download them."
                )
            if info["size"] is None or self._starts_encoded(options):
                identity = FileIdentity(f"{self.path}@{token}", 0, WHOLE + tag)
                return identity._replace(size=len(self._download(identity, options)))
        size, limit = int(info["size"]), file_limit()
        if size > limit:
            raise VolumeError(
                f"The server of {self.label} states a file of {size} bytes, more than the {limit} that are read "
                "of one remote file. Check the server, or set REASONKNEE_MAX_FILE_BYTES to a higher number."
            )
        # The token represents the options: one URL behind two endpoints is two files.
        return FileIdentity(f"{self.path}@{token}", size, tag)

    def read_head(self, count: int) -> tuple[FileIdentity, bytes]:
        """Read the first bytes with one ranged request."""
        identity = self.identify()
        with self.open(identity) as fetch:
            return identity, fetch([(0, min(count, identity.size))])[0]

    @contextmanager
    def open(self, identity: FileIdentity) -> Iterator[Fetch]:
        """Read ranges in few requests, all at the same time (see `_BANDWIDTH`)."""
        yield lambda ranges: self._fetch(ranges, identity)

    def _fetch(self, ranges: Sequence[Range], identity: FileIdentity) -> list[bytes]:
        requests = coalesce(ranges, self._gap())
        chunks = self._request(requests, identity)
        return check_lengths(self.label, ranges, [_assemble(span, requests, chunks) for span in ranges])

    def _gap(self) -> int:
        """Choose how long a gap between two ranges may be for one request to read both (see `_BANDWIDTH`)."""
        filesystem, _ = open_filesystem(self.path, raw_options(self.path, self._options()))
        latency = _latencies.get(_server(self.path), _USUAL_LATENCY)
        gap = int(latency * _BANDWIDTH / (_PARALLEL if filesystem.async_impl else 1))
        return min(max(gap, _GAPS[0]), _GAPS[1])

    def _request(self, requests: Sequence[Range], identity: FileIdentity) -> list[bytes]:
        """Request ranges until all are read or the retries are used up; short answers count as failures."""
        if identity in _wholes:
            return _cut(_wholes.get(identity, bytes), requests)
        options, answers = self._options(), dict.fromkeys(requests, b"")
        if identity.tag.startswith(WHOLE):
            whole = self._download(identity, options)
            check_same(self.label, identity, identity._replace(size=len(whole)))
            return _cut(whole, requests)
        missing, began = list(requests), time.monotonic()
        for attempt in range(_ATTEMPTS):
            time.sleep(_wait(attempt))
            found = self._ask(missing, options, identity.size)
            count_read([answer for answer in found if isinstance(answer, bytes)])
            for span, answer in zip(missing, found, strict=True):
                if isinstance(answer, bytes) and len(answer) == identity.size != span[1] - span[0]:
                    return _cut(self._keep_whole(answer, identity), requests)
                if isinstance(answer, BaseException):
                    self._give_up(answer, attempt, began)
                else:
                    answers[span] = answer
            missing = [span for span in missing if len(answers[span]) != span[1] - span[0]]
            if not missing:
                break
        return check_lengths(self.label, requests, [answers[span] for span in requests])

    def _ask(self, requests: Sequence[Range], options: dict[str, Any], size: int) -> list[bytes | BaseException]:
        """Send all requests at once, and return answers and errors; no answer may be longer than `size` bytes."""
        try:
            filesystem, path = open_filesystem(self.path, raw_options(self.path, options))
            starts, stops = [start for start, _ in requests], [stop for _, stop in requests]
            extra = limit_body(filesystem, size)
            if filesystem.async_impl:
                extra["batch_size"] = _PARALLEL
            began = time.monotonic()
            answers = list(filesystem.cat_ranges([path] * len(requests), starts, stops, on_error="return", **extra))
            if len(answers) == 1 and isinstance(answers[0], bytes) and 0 < len(answers[0]) <= _SMALL_ANSWER:
                server, took = _server(self.path), time.monotonic() - began
                _latencies[server] = min(took, _latencies.get(server, took))
        except Exception as error:  # noqa: BLE001 (every store has its own errors; each is judged by the caller)
            return [error] * len(requests)
        return answers

    def _keep_whole(self, data: bytes, identity: FileIdentity) -> bytes:
        warnings.warn(
            f"the server of {self.label} does not send ranges: the whole file was downloaded to read a part of it. "
            "Serve the volumes from a store with range requests, or download them",
            RuntimeWarning,
            stacklevel=2,
        )
        _wholes.put(identity, data)
        return data

    def _starts_encoded(self, options: dict[str, Any]) -> bool:
        first = self._persist(lambda filesystem, path: filesystem.cat_file(path, 0, FIRST_BYTES), options)
        return is_encoded(first[:FIRST_BYTES])

    def _download(self, identity: FileIdentity, options: dict[str, Any]) -> bytes:
        """Download a whole file, whose server encodes it once more or does not state its size, and decode it."""
        whole = self._persist(lambda filesystem, path: filesystem.cat_file(path), options)
        count_read([whole])
        if is_encoded(whole[:FIRST_BYTES]):
            try:
                whole = decode(whole)
            except zlib.error as error:
                raise VolumeError(
                    f"{self.label} cannot be decoded: {error}. Let the server send it without Content-Encoding, or "
                    "download the file."
                ) from error
        return self._keep_whole(whole, identity._replace(size=len(whole)))

    def _persist(self, ask: Callable[[Any, str], T], options: dict[str, Any]) -> T:
        """Call a method of the file system again while that may help."""
        began = time.monotonic()
        for attempt in range(_ATTEMPTS):
            time.sleep(_wait(attempt))
            try:
                return ask(*open_filesystem(self.path, raw_options(self.path, options)))
            except Exception as error:  # noqa: BLE001 (every store has its own errors)
                self._give_up(error, attempt, began)
        raise AssertionError("the last attempt returns or gives up")

    def _give_up(self, error: BaseException, attempt: int, began: float) -> None:
        """Raise the error, unless another attempt may help and the server has not been silent for two timeouts."""
        if attempt + 1 < _ATTEMPTS and is_passing(error) and time.monotonic() - began < 1.5 * timeout_seconds():
            return
        # A cause whose text repeats a secret, of this URL or of one that a server named, is not shown.
        hidden = self.label != self.path or shows_secret(error)
        found = unreadable(self.path, error)
        # The server has a longer file than it stated, or one that ends before this range.
        if isinstance(error, ServerLimitError) or getattr(error, "status", None) == 416:
            found = DamagedFileError(*found.args)
        raise found from (None if hidden else error)

    def _options(self) -> dict[str, Any]:
        return self.storage_options if self.storage_options is not None else find_credentials(self.path)


def coalesce(ranges: Sequence[Range], gap: int) -> list[Range]:
    """Join ranges at most `gap` bytes apart, and cut long ones, into the requests to send.

    Examples
    --------
    >>> coalesce([(0, 10), (10, 20), (1_000_000, 1_000_010)], gap=16_384)
    [(0, 20), (1000000, 1000010)]
    >>> coalesce([(0, 9_000_000)], gap=16_384)
    [(0, 4194304), (4194304, 8388608), (8388608, 9000000)]
    """
    runs: list[Range] = []
    for start, stop in sorted(span for span in ranges if span[0] < span[1]):
        if runs and start - runs[-1][1] <= gap:
            runs[-1] = (runs[-1][0], max(stop, runs[-1][1]))
        else:
            runs.append((start, stop))
    return [
        (start, min(start + _MAX_REQUEST, stop)) for first, stop in runs for start in range(first, stop, _MAX_REQUEST)
    ]


def is_passing(error: BaseException) -> bool:
    """Check whether an error may go away by itself: a busy server, a lost connection, but not a refusal."""
    while isinstance(error, FileNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # fsspec's HTTP raises it for any fault
    status = getattr(error, "status", None)
    if isinstance(status, int) and status >= 300:
        return status in (408, 425, 429) or status >= 500
    definite = (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError)
    wrong_use = (ValueError, TypeError, ImportError, NotImplementedError)
    return not isinstance(error, definite + wrong_use)


def _server(url: str) -> str:
    return url[: url.find("/", url.find("://") + 3)]


def _wait(attempt: int) -> float:
    return _FIRST_WAIT * 4 ** (attempt - 1) if attempt else 0.0


def _cut(whole: bytes, requests: Sequence[Range]) -> list[bytes]:
    return [whole[start:stop] for start, stop in requests]


def _assemble(span: Range, requests: Sequence[Range], chunks: Sequence[bytes]) -> bytes:
    """Put a range together from the answers that it was cut into."""
    start, stop = span
    parts = [
        chunk[max(start - first, 0) : stop - first]
        for (first, last), chunk in zip(requests, chunks, strict=True)
        if first < stop and start < last
    ]
    return parts[0] if len(parts) == 1 else b"".join(parts)
