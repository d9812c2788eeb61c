"""Reader of ``vocabulary.txt``: the words, names and phrases that the parser of answers recognises."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

_HEAD = re.compile(r"(?m)^(words|names|macro|phrases) ([^\n:]+):\n")


@cache
def _sections() -> dict[tuple[str, ...], str]:
    """Read every section's text, without comments, by its heading."""
    text = resources.files(__package__).joinpath("vocabulary.txt").read_text(encoding="utf-8")
    parts = _HEAD.split(re.sub(r"(?m)^#.*\n", "", text))
    return {(kind, *head.split()): body for kind, head, body in zip(parts[1::3], parts[2::3], parts[3::3], strict=True)}


@cache
def word_list(*lists: str) -> frozenset[str]:
    r"""Return the words of one or more lists.

    Examples
    --------
    >>> sorted(word_list("sentence_ends"))
    ['\n', '!', '.', ';', '?']
    """
    found = (word for name in lists for word in _sections()["words", name].split())
    return frozenset("\n" if word == "\\n" else word for word in found)


@cache
def names(*head: str) -> tuple[str, ...]:
    """Return the names under one heading.

    Examples
    --------
    >>> names("site", "tibia")
    ('tibia', 'tibial', 'plateau', 'plateaus', 'tibial plateau')
    """
    return tuple(re.sub(r"\s+", " ", _sections()[("names", *head)]).strip().split(", "))


@cache
def names_of(kind: str) -> tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]:
    """Return every heading of a kind with its names.

    Examples
    --------
    >>> names_of("side")[0]
    (('medial',), ('medial', 'medially'))
    """
    return tuple((key[2:], names(*key[1:])) for key in _sections() if key[:2] == ("names", kind))


@cache
def pattern(name: str) -> re.Pattern[str]:
    """Compile the phrases of a list into one pattern, each bounded by words.

    Examples
    --------
    >>> pattern("takes_back").search("none of this is my answer") is not None
    True
    """
    lines = re.sub(r"\n    ", "", _sections()["phrases", name]).strip("\n").split("\n")
    return re.compile("|".join(_bounded(_expanded(line.strip())) for line in lines if line.strip()))


def _expanded(phrase: str) -> str:
    """Replace the macros of a phrase, and make its groups non-capturing."""
    macros = {key[1]: re.sub(r"\n\s*", "", body).strip() for key, body in _sections().items() if key[0] == "macro"}
    known = re.compile("|".join(sorted(macros, key=len, reverse=True)))
    while True:
        wider = known.sub(lambda found: macros[found[0]], phrase)
        if wider == phrase:
            return re.sub(r"(?<!\\)\((?!\?)", "(?:", phrase)
        phrase = wider


def _bounded(text: str) -> str:
    return ("" if text.startswith(("^", "(?:^")) else r"\b") + text + ("" if text.endswith("$") else r"\b")
