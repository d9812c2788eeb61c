"""Text in, a box out: `parse_box`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from reasonknee_datasets.bench.answers.grade_values import refuses, says_nothing
from reasonknee_datasets.bench.answers.json_nodes import DEEPEST, Cut, Members, Node, Raw, parse_number
from reasonknee_datasets.bench.answers.key_matching import LONGEST_KEY
from reasonknee_datasets.bench.answers.outcome import BOX_KEY, ParsedBox, by_gravity
from reasonknee_datasets.bench.answers.text_parts import (
    FILTERED,
    LENGTH,
    ParsedText,
    final_part,
    find,
    load_or_clean,
    why_nothing,
)
from reasonknee_datasets.boxes import Box, BoxConvention
from reasonknee_datasets.errors import BenchError, BoxError
from reasonknee_datasets.moaks.spellings import normal_form

BOX_KEYS = frozenset(
    ("bounding box", "bbox", "box", "bounding box 3d", "3d bounding box", "box 3d", "bbox 3d", "3d bbox", "boundingbox")
)
_NUMBER = r"[-+]?[0-9]{1,12}(?:\.[0-9]{1,20})?(?:[eE][-+]?[0-9]{1,3})?"
_SIX = rf"[\[(]?\s{{0,8}}{_NUMBER}(?:\s{{0,8}}[,;]\s{{0,8}}{_NUMBER}){{5}}\s{{0,8}}[\])]?"
_LABELLED = re.compile(
    r"(?:bounding[ _]?box|bbox|\bbox)[\"'*_` ]{0,4}(?:\([^()\n]{0,80}\))?[\"'*_` ]{0,4}(?:[:=]|is)\s{0,4}"
    rf"(?P<six>{_SIX})",
    re.IGNORECASE,
)
_NAMED = re.compile(
    r"(?<![\w])(?P<name>(?:start|end|min|max|[a-z]{1,6})[ _]?(?:start|end|min|max|[a-z]{1,6}"
    r"|[12]))[\"'*`]{0,4}[ \t]{0,4}[:=]"
    r"[ \t\"'*`]{0,6}(?P<value>-?[0-9]{1,12}(?:\.[0-9]{1,12})?)(?![\w%]|\.[0-9])",
    re.IGNORECASE,
)
_BARE_SIX = re.compile(_SIX)
_EACH = re.compile(_NUMBER)


@dataclass(frozen=True, slots=True)
class _Claim:
    """Six numbers with the rules that read them, or a reason."""

    numbers: tuple[float, ...] = ()
    rules: frozenset[str] = frozenset()
    reason: str | None = None


def parse_box(
    text: str | None,
    *,
    convention: BoxConvention,
    shape: Sequence[int] | None,
    finish_reason: str | None = None,
    error: str | None = None,
) -> ParsedBox:
    """Read the box from a model's text, with grades or alone.

    Parameters
    ----------
    text : str or None
        What the model said; None where nothing came back.
    convention : BoxConvention
        How the prompt asked for the six numbers.
    shape : three ints, or None
        Voxels of the volume along each axis, to trim the box to it; None, or zeros, where it is not known.
    finish_reason, error : str, optional
        As for `parse_answer`.

    Returns
    -------
    ParsedBox
        A box with its rules, or a reason. No text makes it raise.

    Raises
    ------
    BenchError
        If the convention is in shares of the volume and the volume's shape is not known.

    Examples
    --------
    >>> found = parse_box('{"bounding_box": [1, 4, 2, 5, 3, 99]}', convention=BoxConvention(), shape=(8, 8, 8))
    >>> found.box, found.rules
    (Box(start=(1, 2, 3), stop=(4, 5, 8)), ('box_clipped',))
    >>> parse_box("[9, 3, 1, 2, 1, 2]", convention=BoxConvention(), shape=None).reason
    'out_of_range'
    """
    known = tuple(shape) if shape is not None and all(length > 0 for length in shape) else None
    if convention.normalised and known is None:
        raise BenchError(
            f"A box in shares of its volume cannot be read without the volume's shape (got {shape!r}). Prepare the "
            "volumes, or ask for voxels."
        )
    ended = "" if finish_reason is None else str(finish_reason).casefold()
    nothing = why_nothing(text, ended, error)
    if nothing is not None or text is None:
        return ParsedBox(None, nothing)
    node, said = load_or_clean(text)
    if said is None:
        claims = list(_in_tree(node, frozenset(), convention, 0))
        return _join(claims, convention, known) or ParsedBox(None, "missing")
    if not said.text:
        return ParsedBox(None, "truncated" if said.unfinished else why_nothing(None, ended, None))
    final = final_part(said.text)
    for part, rules in ((final, {"final_part"}), (said.text, set[str]())):
        if part is not None:
            found = find(part, said, ended)
            joined = _join(list(_in_text(found, rules | found.rules, convention)), convention, known)
            if joined is not None:
                return joined
    return ParsedBox(None, _why(said.text, found, ended))


def _why(text: str, found: ParsedText, ended: str) -> str:
    if found.cut or ended in LENGTH:
        return "truncated"
    if refuses(text) or ended in FILTERED:
        return "refusal"
    return "missing" if found.documents else "not_json"


def _in_text(found: ParsedText, rules: set[str], convention: BoxConvention) -> Iterator[_Claim]:
    """Return every box of the objects, or else of the prose."""
    any_in_objects = False
    for piece in found.documents:
        for claim in _in_tree(piece.root, piece.rules | rules, convention, 0):
            any_in_objects = True
            yield claim
    if any_in_objects:
        return
    if _BARE_SIX.fullmatch(found.prose.strip()):
        yield _Claim(_numbers_in(found.prose), frozenset(rules | {"bare"}))
    for labelled in _LABELLED.finditer(found.prose):
        yield _Claim(_numbers_in(labelled["six"]), frozenset(rules | {"key_value"}))
    named: list[tuple[str, Node]] = [
        (match["name"], parse_number(match["value"])) for match in _NAMED.finditer(found.prose)
    ]
    flat = _by_name(Members(tuple(named)), convention)
    if flat is not None:
        yield _claim(flat, frozenset(rules | {"key_value", "box_names"}), convention)


def _numbers_in(text: str) -> tuple[float, ...]:
    found = [digits[0] for digits in _EACH.finditer(text)]
    return tuple(float(digits) if any(mark in digits for mark in ".eE") else int(digits) for digits in found)


def _in_tree(node: Node, rules: frozenset[str], convention: BoxConvention, depth: int) -> Iterator[_Claim]:
    if depth > DEEPEST:
        return
    if isinstance(node, list):
        if depth == 0 and not any(isinstance(item, (Members, str)) for item in node):
            yield _claim(node, rules | {"bare"}, convention)
            return
        for item in node:
            yield from _in_tree(item, rules | {"list"}, convention, depth + 1)
    elif isinstance(node, Members):
        flat = _by_name(node, convention)
        if flat is not None:
            yield _claim(flat, rules | {"box_names"}, convention)
        for key, value in node.pairs:
            if len(key) <= LONGEST_KEY and normal_form(key) in BOX_KEYS:
                spelled = rules if key == BOX_KEY else rules | {"spelling"}
                yield _claim(value, spelled if depth == 0 else spelled | {"wrapper"}, convention)
            elif isinstance(value, (Members, list)):
                yield from _in_tree(value, rules, convention, depth + 1)


def _claim(value: Node, rules: frozenset[str], convention: BoxConvention) -> _Claim:
    """Take six numbers from the value of the box's key."""
    if value is None or (isinstance(value, str) and says_nothing(value)):
        return _Claim(reason="missing")
    if isinstance(value, Members):
        named = _by_name(value, convention)
        return _claim(named, rules | {"box_names"}, convention) if named else _Claim(reason="wrong_key")
    if isinstance(value, (str, Raw)):
        text = value if isinstance(value, str) else value.text
        if _BARE_SIX.fullmatch(text[:400].strip()):
            return _Claim(_numbers_in(text), rules | ({"json_in_string"} if isinstance(value, str) else set()))
        return _Claim(reason="out_of_range")
    if isinstance(value, Cut) or (isinstance(value, list) and any(isinstance(item, Cut) for item in value)):
        return _Claim(reason="truncated")
    if not isinstance(value, list):
        return _Claim(reason="out_of_range")
    if len(value) == 1 and isinstance(value[0], list):
        return _claim(value[0], rules | {"list"}, convention) if len(value[0]) == 6 else _Claim(reason="out_of_range")
    nested = (3, 2) if convention.layout == "pairs" else (2, 3)
    if len(value) == nested[0] and all(isinstance(item, list) and len(item) == nested[1] for item in value):
        value = [number for item in value if isinstance(item, list) for number in item]
        rules |= {"box_nested"}
    return _six(value, rules, convention)


def _six(items: list[Node], rules: frozenset[str], convention: BoxConvention) -> _Claim:
    if len(items) != 6:
        return _Claim(reason="out_of_range")
    if all(isinstance(item, (str, Raw)) and not _EACH.fullmatch(_text(item)) for item in items):
        return _Claim(reason="missing")  # the prompt's own names for the six
    numbers: list[float] = []
    for item in items:
        if isinstance(item, (str, Raw)) and _EACH.fullmatch(_text(item).strip()):
            rules |= {"digits_in_string"}
            numbers.extend(_numbers_in(_text(item)))
        elif isinstance(item, (int, float)) and not isinstance(item, bool):
            numbers.append(item)
        else:
            return _Claim(reason="out_of_range")
    if not convention.normalised and any(isinstance(number, float) for number in numbers):
        rules |= {"whole_float"}
    return _Claim(tuple(numbers), rules)


def _text(item: Node) -> str:
    return item.text if isinstance(item, Raw) else item if isinstance(item, str) else ""


def _by_name(value: Members, convention: BoxConvention) -> list[Node] | None:
    """Put named numbers into the order of the convention; None unless each is there exactly once."""
    names: dict[str, str] = {}
    for direction in convention.order:
        for end, words in (("start", ("start", "min", "1")), ("end", ("end", "max", "2"))):
            for word in words:
                names[f"{direction} {word}"] = names[f"{word} {direction}"] = f"{direction}_{end}"
                names[f"{direction}{word}"] = f"{direction}_{end}"
    held: dict[str, Node] = {}
    for key, node in value.pairs:
        form = normal_form(key) if len(key) <= LONGEST_KEY else ""
        ends = node if isinstance(node, list) and len(node) == 2 else None
        if form in convention.order and ends is not None:
            given = {f"{form}_start": ends[0], f"{form}_end": ends[1]}
        elif form in names:
            given = {names[form]: node}
        else:
            continue
        if any(position in held for position in given):
            return None
        held.update(given)
    return [held[position] for position in convention.positions] if len(held) == 6 else None


def _join(claims: list[_Claim], convention: BoxConvention, shape: tuple[int, ...] | None) -> ParsedBox | None:
    """Make one box of every claim, or the reason why not; None where nothing was claimed."""
    if not claims:
        return None
    boxes: dict[Box, frozenset[str]] = {}
    reasons: list[str] = []
    for claim in claims:
        read = _decode(claim, convention, shape)
        if isinstance(read, str):
            reasons.append(read)
        else:
            boxes[read[0]] = boxes.get(read[0], frozenset()) | read[1]
    real = [reason for reason in reasons if reason != "missing"]
    if len(boxes) > 1 or (boxes and real):
        return ParsedBox(None, "conflicting")
    if not boxes:
        return ParsedBox(None, min(real) if real else "missing")
    box, rules = boxes.popitem()
    repeated = {"repeated"} if len(claims) - len(reasons) > 1 else set()
    return ParsedBox(box, None, by_gravity(rules | repeated))


def _decode(
    claim: _Claim, convention: BoxConvention, shape: tuple[int, ...] | None
) -> tuple[Box, frozenset[str]] | str:
    if claim.reason is not None:
        return claim.reason
    try:
        box = convention.decode(claim.numbers, shape or ())
        inside = box if shape is None else box.clip(shape)
    except (BoxError, OverflowError):
        return "out_of_range"
    return inside, claim.rules if inside == box else claim.rules | {"box_clipped"}
