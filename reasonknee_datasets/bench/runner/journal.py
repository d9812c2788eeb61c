"""The journal of a run: what was answered, kept so that no answer is lost and none is asked for twice.

One JSON object a line. The first is ``{"run": {...}}``, the run's `Identity`; each of the others is one answer, and the
whole file is what ``reasonknee evaluate --predictions`` takes. Lines are appended, each in one write that reaches the
disk before the next question is asked for. A process that is killed leaves at most its last line torn, without its end
of line: that one is cut off when the journal is opened again, and its question is asked again. Anything else that is
wrong with a journal is damage, and an error.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from filelock import FileLock, Timeout

from reasonknee_datasets.bench.identity import Identity, differences
from reasonknee_datasets.errors import BenchError, explain


class Journal:
    """An open journal, which this process alone may append to.

    Parameters
    ----------
    path : path
        The file; it is made where it is absent.
    identity : Identity
        Of the run that is asked for.

    Attributes
    ----------
    answers : dict
        The lines that are there, by id, in their order.
    cut : int
        Bytes of a torn line that were cut off when it was opened.

    Raises
    ------
    BenchError
        If the journal is of another run, is damaged, or is open elsewhere.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "run.jsonl"
    >>> with Journal(path, Identity(split="test")) as journal:
    ...     journal.append({"id": "9016403/00M/right/q19", "text": "{}"})
    >>> with path.open("a") as file:  # a kill in the middle of a line
    ...     _ = file.write('{"id": "9016403/00M/ri')
    >>> with Journal(path, Identity(split="test")) as journal:
    ...     list(journal.answers), journal.cut
    (['9016403/00M/right/q19'], 22)
    """

    def __init__(self, path: str | os.PathLike[str], identity: Identity) -> None:
        self.path, self.identity = Path(path), identity
        self.answers: dict[str, dict[str, Any]] = {}
        self.cut = 0
        self._writing = threading.Lock()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(f"{self.path}.lock", timeout=0)
        try:
            self._lock.acquire()
        except Timeout:
            remedy = "Wait for the other run to end, or name another journal"
            message = explain("journal", "be open in one run at a time", "another that writes it", remedy)
            raise BenchError(f"{message} ({self.path})") from None
        try:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
            try:
                self._resume()
            except BaseException:
                os.close(self._descriptor)
                raise
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let others open it."""
        with self._writing:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1
        self._lock.release()

    def append(self, line: Mapping[str, Any]) -> None:
        """Write one answer, so that it is on the disk when this returns.

        Raises
        ------
        BenchError
            If its id is answered already.
        """
        with self._writing:
            name = line["id"]
            if name in self.answers:
                remedy = "This is a fault of the runner: please report it"
                raise BenchError(explain("an answer", "be journaled once", name, remedy))
            self._write(line)
            self.answers[name] = dict(line)

    def _resume(self) -> None:
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole:
            first, *rest = data[:whole].removesuffix(b"\n").split(b"\n")
            self._check_run(_read(first, 1, self.path))
            self._take(rest)
        elif not (data.startswith(_START) or _START.startswith(data)):
            _refuse_first("something else", self.path)
        # Only now is it known to be a journal of this run: nothing else is ever cut.
        self.cut = len(data) - whole
        if self.cut:
            os.ftruncate(self._descriptor, whole)
            os.fsync(self._descriptor)
        if not whole:
            self._write({"run": self.identity.to_json()})
            _keep_name(self.path)

    def _take(self, lines: list[bytes]) -> None:
        for number, text in enumerate(lines, start=2):
            line = _read(text, number, self.path)
            name = line.get("id")
            if not isinstance(name, str) or name in self.answers:
                got = "one twice" if isinstance(name, str) else f"{name!r}"
                where = f"in line {number} of {self.path}"
                raise BenchError(explain("journal", "hold each id once", got, _REMEDY, where=where))
            self.answers[name] = line

    def _check_run(self, line: Mapping[str, Any]) -> None:
        if "run" not in line:
            _refuse_first(f"a line with {', '.join(map(str, line)) or 'nothing'}", self.path)
        found = differences(Identity.from_json(line["run"]), self.identity)
        if found:
            shown = "; ".join(map(str, found[:10])) + (f"; and {len(found) - 10} more" if len(found) > 10 else "")
            remedy = "Ask in the same way as before to go on with it, or name a new journal"
            rule = "be of the run that is asked for"
            raise BenchError(explain("journal", rule, shown, remedy, where=f"in {self.path}"))

    def _write(self, line: Mapping[str, Any]) -> None:
        # ASCII, since a model's text may hold half a surrogate pair, which UTF-8 cannot.
        data = json.dumps(line, allow_nan=False).encode() + b"\n"
        end = os.lseek(self._descriptor, 0, os.SEEK_END)
        try:
            while data:  # a full disk takes a part of it, and then raises
                data = data[os.write(self._descriptor, data) :]
            os.fsync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, end)
            raise


def read_done(path: str | os.PathLike[str]) -> frozenset[str]:
    """Give the ids that a journal answers, without opening it for writing; none where there is no file."""
    file = Path(path)
    if not file.is_file():
        return frozenset()
    lines = file.read_bytes().split(b"\n")[:-1]
    read = [_read(text, number, file) for number, text in enumerate(lines, start=1)]
    return frozenset(line["id"] for line in read if isinstance(line.get("id"), str))


_START = b'{"run": {'
_REMEDY = "Nothing in a journal may be edited: restore it, or start a new one"


def _refuse_first(got: str, path: Path) -> NoReturn:
    remedy = "Name a new file, or the journal of this run"
    raise BenchError(explain("journal", 'begin with {"run": ...}', got, remedy, where=f"in {path}"))


def _read(text: bytes, number: int, path: Path) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except ValueError as error:
        where = f"in line {number} of {path}"
        raise BenchError(explain("journal", "hold JSON", str(error), _REMEDY, where=where)) from error
    if not isinstance(line, dict):
        where = f"in line {number} of {path}"
        raise BenchError(explain("journal", "hold JSON objects", repr(line)[:80], _REMEDY, where=where))
    return line


def _keep_name(path: Path) -> None:
    """Have a new file's name on the disk too, where the system can."""
    if os.name != "posix":
        return
    folder = os.open(path.absolute().parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
