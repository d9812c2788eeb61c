"""Output of the command: everything is written through `printable`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO, cast

from reasonknee_datasets.printable import printable

# How tqdm moves the cursor: to the start of the line before each update, and up to the bars above.
_MOVES = re.compile(r"\r|(\x1b\[A)+")
# Characters of our own texts beyond ASCII, for streams of another encoding (LC_ALL=C, a pipe on Windows).
_IN_ASCII = {"·": ".", "×": "x", "–": "-", "−": "-"}


class _PrintableStream:
    """A text stream that escapes control characters, except the moves of progress bars, and what it cannot encode."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text."""
        if _MOVES.fullmatch(text):
            return self._stream.write(text)
        update = text.startswith("\r")
        escaped = "\r" * update + printable(text[update:])
        try:
            return self._stream.write(escaped)
        except UnicodeEncodeError as error:
            return self._stream.write("".join(_encodable(character, error.encoding) for character in escaped))

    def writelines(self, lines: Iterable[str]) -> None:
        """Write lines."""
        for line in lines:
            self.write(line)


def _encodable(character: str, encoding: str) -> str:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return _IN_ASCII.get(character) or character.encode("ascii", "backslashreplace").decode("ascii")
    return character


@contextmanager
def printable_streams() -> Iterator[None]:
    """Escape control characters of all that is written to stdout and stderr inside."""
    out, err = (cast("TextIO", _PrintableStream(stream)) for stream in (sys.stdout, sys.stderr))
    with redirect_stdout(out), redirect_stderr(err):
        yield
