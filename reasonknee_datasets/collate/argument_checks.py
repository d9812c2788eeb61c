"""Checks of arguments when a loader or a collator is made, before its first row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Integral, Real

from reasonknee_datasets.errors import LoaderError, shown


def check_count(name: str, value: object, least: int, *, optional: bool = False) -> None:
    """Raise a `LoaderError` unless an argument is a whole number of at least `least`.

    Examples
    --------
    >>> check_count("batch_size", "8", least=1)
    Traceback (most recent call last):
    ...
    reasonknee_datasets.errors.LoaderError: batch_size must be a whole number of at least 1, not '8' (str).
    """
    if optional and value is None:
        return
    if not isinstance(value, Integral) or isinstance(value, bool) or not least <= int(value) < 2**63:
        ending = " or None" if optional else ""
        raise LoaderError(f"{name} must be a whole number of at least {least}{ending}, not {shown(value)}.")


def check_number(name: str, value: object, least: float | None = None, most: float | None = None) -> None:
    """Raise a `LoaderError` unless an argument is a number, within these bounds where they are given."""
    too_low = least is not None and isinstance(value, Real) and not float(value) >= least
    too_high = most is not None and isinstance(value, Real) and not float(value) <= most
    if not isinstance(value, Real) or isinstance(value, bool) or too_low or too_high:
        bound = ("" if least is None else f" of at least {least:g}") + (
            "" if most is None else f" and at most {most:g}"
        )
        raise LoaderError(f"{name} must be a number{bound}, not {shown(value)}.")


def check_flag(name: str, value: object, *, optional: bool = False) -> None:
    """Raise a `LoaderError` unless an argument is True or False: ``"no"`` would count as True."""
    if not (isinstance(value, bool) or (optional and value is None)):
        raise LoaderError(f"{name} must be True{', False or None' if optional else ' or False'}, not {shown(value)}.")


def check_callable(name: str, value: object) -> None:
    """Raise a `LoaderError` unless an argument is a function, an instance that can be called, or None."""
    if isinstance(value, type):
        if any("__call__" in base.__dict__ for base in value.__mro__):
            raise LoaderError(
                f"{name} must be an instance, not the class {value.__name__}. Write {value.__name__}(...)."
            )
    elif value is not None and not callable(value):
        raise LoaderError(f"{name} must be a function or another callable, not {shown(value)}.")


def check_names(name: str, value: object) -> tuple[str, ...]:
    """Return a name or several as a tuple; None is none.

    Raises
    ------
    LoaderError
        If it is neither.
    """
    if value is None or isinstance(value, str):
        return () if value is None else (value,)
    names = tuple(value) if isinstance(value, Iterable) and not isinstance(value, Mapping | bytes) else (None,)
    if not all(isinstance(word, str) for word in names):
        raise LoaderError(f"{name} must be a name or a list of names, not {shown(value)}.")
    return names
