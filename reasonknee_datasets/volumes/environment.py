"""Whole numbers in environment variables."""

from __future__ import annotations

import os

from reasonknee_datasets.errors import VolumeError


def read_whole_number(variable: str, default: int, *, unit: str = "bytes", least: int = 0) -> int:
    """Read a whole number from an environment variable.

    Parameters
    ----------
    variable : str
        Name of the variable.
    default : int
        Returned where it is unset or empty, and suggested where it is wrong.
    unit : str
        Unit of the number, for the message.
    least : int
        Lowest value that is accepted.

    Raises
    ------
    VolumeError
        If it is set to something else.

    Examples
    --------
    >>> read_whole_number("REASONKNEE_CACHE_BYTES", 512_000_000)
    512000000
    """
    text = os.environ.get(variable, "").strip()
    if not text:
        return default
    if not text.isdecimal() or int(text) < least:
        above = f" above {least - 1}" if least else ""
        raise VolumeError(
            f"{variable} must be a whole number of {unit}{above}, but it is {text!r}. Set it to {default}, or unset it."
        )
    return int(text)
