"""Text made printable: control characters of files and servers do not reach a terminal."""

from __future__ import annotations

import unicodedata

# Control, format (among them those that turn the direction of writing), surrogates, private use, unassigned, and two
# separators that some terminals break lines at.
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def printable(text: str) -> str:
    r"""Write the control characters of a text as escapes; line feeds and tabs stay.

    Examples
    --------
    >>> print(printable("grade\x1b[2J 2\r"))
    grade\x1b[2J 2\x0d
    """
    if text.isprintable():
        return text
    return "".join(_escape(character) for character in text)


def _escape(character: str) -> str:
    if character in "\n\t" or unicodedata.category(character) not in _UNPRINTABLE:
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
