"""Grades that stand in prose: after a slot's name, or stated outright where there is only one slot to mean."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from reasonknee_datasets.bench.codec.claims import Claims
from reasonknee_datasets.bench.codec.grade import NUM, Reading, read_text
from reasonknee_datasets.bench.codec.names import slot_forms, subject_forms
from reasonknee_datasets.bench.codec.subjects import is_about_another, phrase, sentence_before, without_others
from reasonknee_datasets.bench.codec.tables import read_tables
from reasonknee_datasets.bench.codec.words import NUMBER_WORDS
from reasonknee_datasets.moaks import Slot, get_question

# Prose values are short; a longer one is a sentence.
_LONGEST = 200
# As long as "between grade 1 and grade 2, perhaps": what is longer has room for reasons.
_LONGEST_CHOICE = 40
# Names that are too common in prose to name a slot there.
_TOO_COMMON = frozenset(("count", "type", "location"))
_GENERAL = ("moaks grade", "moaks score", "grade", "score", "final grade", "final score")
# Names that count only right before a colon or its like.
_NEED_COLON = frozenset((*_GENERAL, "present", "cyst", "signal", "synovitis", "repair"))
_BOXED = re.compile(r"\\boxed\s{0,4}\{\s{0,4}(?:\\text\s{0,4}\{)?([^{}]{0,80})\}")
_PURE = re.compile(r"(?:(?:moaks\s+)?(?:grade|score)\s*[:=]?\s*)?-?[0-9]{1,6}(?:\.[0-9]{1,6})?[.!]?", re.IGNORECASE)
_LIST_ITEM = re.compile(r"\s*[0-9]{1,2}[.)]\s")
_CUT = re.compile(
    r",\s*(?=[A-Za-z])|\s(?=[a-z][a-z /\-]{1,40}[:=])|\.\s|;"
    r"|\s(?:and|with|because|since|as|for|based|given|which)\s(?=[A-Za-z])"
)
_DEFINES = re.compile(rf"{NUM}\s+(?:for|when|if|where|unless|in case|to mean)\b")
_MENTION = re.compile(
    rf"(?<![\w<>≤≥])(?:moaks\s+)?(?:grade|score)(?:\s+of|\s+is|\s*[:=])?\s*(?P<n>{NUM})"
    r"(?![0-9]|\.[0-9]|\s*(?:%|mm\b|cm\b))"
    rf"(?P<range>\s*(?:-|–|—|/|\bto\b|\bor\b|\band\b|\bvs\.?)\s*(?:(?:moaks\s+)?(?:grade|score)\s*)?{NUM}\b"
    r"(?!\s*(?:%|mm\b|cm\b|[-–]\s*[0-9]|\.[0-9])))?",
)
_OUT_OF = re.compile(r"\s*(?:out\s+)?of\s+[0-9]")
_NOT_OURS = re.compile(
    r"(?:\b(?:kellgren|kl|k-l|lawrence|outerbridge|icrs|worms|noyes|stoller|boks|not|than|least|most|no|below|above|under"
    r"|over|exceeds?|between|from|to|or|versus|vs\.?|prior|previous|nor)|[<>≤≥])[\s\-]*(?:(?:a|an|the|moaks|grading)\s+)*$"
)
_SUPPOSED = re.compile(
    r"\b(?:if|whether|unless|requires?|required|defined|would need|rule[sd]? out"
    r"|excludes?|rather than|instead of|could|might|may be|initially|at first|previously"
    r"|for example|e\.g)\b"
)
_THEN_SUPPOSED = re.compile(
    r"\s*(?:signal|chondromalacia|sprain|strain|injur)"
    r"|\s*\(?[^.\n:]{0,12}\b(?:would|requires?|is defined|means|is not|isn't|is unlikely|is excluded|is reserved|if"
    r"|needs?|corresponds|represents|denotes|can be excluded|is ruled out|was considered|criteria|threshold)\b"
)
_SCALE_ENTRY = re.compile(
    r"(?<![\w.])(?:grade\s+(?P<g>[0-8])\s*(?:[:=–—]|-\s|\()|(?P<v>[0-8])\s*=)\s*(?=[a-z<>≥0-9\"'])"
)
_ENTRY_END = re.compile(r"[,;\n]|\)(?=[\s.,;]|$)|\.(?=\s|$)|$")


def read_prose(claims: Claims, text: str) -> set[str]:
    """Add what prose claims about a question.

    Parameters
    ----------
    claims : Claims
        Added to.
    text : str
        The text without JSON objects.

    Returns
    -------
    set of str
        Rules about the text as a whole.
    """
    question = claims.question
    text = re.sub(r"[*`]+", "", text).casefold()
    text, rules = _without_scales(text)
    if len(question.slots) == 1 and _read_whole(claims, text.strip()):
        return rules
    text, others = without_others(question, text)
    claims.foreign = claims.foreign or others
    rest = read_tables(claims, text)
    for slot in question.slots:
        _read_labelled(claims, slot, rest)
    if not claims.readings and len(question.slots) == 1:
        for reading in _mentions(claims, rest):
            claims.add(question.slots[0], _legal(question.slots[0], reading), ("stated",))
    return rules


def _read_whole(claims: Claims, text: str) -> bool:
    """Read a text that is nothing but one value, or that boxes one."""
    slot = claims.question.slots[0]
    for boxed in _BOXED.findall(text):
        claims.add(slot, read_text(slot, boxed), ("boxed",))
    if claims.readings:
        return True
    if not re.search(r"\w", text) or len(text) > _LONGEST or "\n" in text or _LIST_ITEM.match(text):
        return False
    reading = read_text(slot, text)
    told = reading.grade is not None or reading.reason in ("conflicting", "missing")
    if not told and not _PURE.fullmatch(text):
        return False
    if is_about_another(claims.question, text, len(text), len(text)):
        claims.foreign = True
        return False
    if reading.reason == "conflicting" and len(text) > _LONGEST_CHOICE:
        return False  # a sentence that weighs grades: what it states is looked at one by one
    claims.add(slot, reading, ("bare",))
    return not reading.echo


def _without_scales(text: str) -> tuple[str, set[str]]:
    """Take out runs of grades that say what each stands for: that is the scale."""
    entries = [(int(found["g"] or found["v"]), found.start(), found.end()) for found in _SCALE_ENTRY.finditer(text)]
    kept: list[str] = []
    at = place = 0
    while place < len(entries):
        last = place
        while last + 1 < len(entries) and _follows(text, entries[last], entries[last + 1]):
            last += 1
        if last > place:
            kept.append(text[at : entries[place][1]])
            end = _ENTRY_END.search(text, entries[last][2], entries[last][2] + 120)
            at = end.start() if end else entries[last][2]
        place = last + 1
    kept.append(text[at:])
    return "".join(kept), {"scale_left_out"} if at else set()


def _follows(text: str, one: tuple[int, int, int], other: tuple[int, int, int]) -> bool:
    between = text[one[2] : other[1]] if other[1] - one[2] <= 150 else ""
    return other[0] == one[0] + 1 and bool(re.search(r"(?:[,;.|]\s*(?:and\s+|or\s+)?|\n[\s\-•>|]*)$", between))


@cache
def _label(slot_id: int, question_id: int) -> re.Pattern[str]:
    """Find a slot's name with what joins it to a value."""
    question = get_question(question_id)
    slot = next(slot for slot in question.slots if slot.id == slot_id)
    forms = [form for form in slot_forms(slot) if form not in _TOO_COMMON]
    if len(question.slots) == 1:
        forms += [*_GENERAL, "answer", *subject_forms(question)]
    names = "|".join(phrase(form) for form in sorted(set(forms), key=len, reverse=True))
    return re.compile(
        rf"(?<![a-z])(?P<name>{names})(?![a-z])[\"'_)]{{0,3}}[ \t]{{0,3}}(?:\([^()\n]{{0,60}}\)[ \t]{{0,3}})?"
        r"(?P<said>(?:moaks )?(?:grade|score)d?(?![a-z]))?[\"'_ \t]{0,3}"
        r"(?P<join>[:=→|]|->|=>|[–—-](?=[ \t])|(?:is|was)(?: (?:graded|scored|rated))?(?: as| at)?(?![a-z])"
        r"|(?(said)(?:(?:of|as)(?![a-z]))?|(?!)))"
        rf"[ \t]{{0,4}}(?P<value>[^\n]{{0,{_LONGEST}}})"
    )


_JOINS = frozenset((":", "=", "→", "->", "=>", "|", "–", "—", "-"))
_LINE_START = re.compile(r"(?:^|\n)[\s\-•>#0-9.)(]{0,12}$")


def _read_labelled(claims: Claims, slot: Slot, text: str) -> None:
    for found in _labels(_label(slot.id, slot.question_id), text):
        value, before = found["value"], text[max(0, found.start() - 60) : found.start()]
        if found["name"] in _NEED_COLON and (found["join"] not in _JOINS or _NOT_OURS.search(before)):
            continue  # left to what the prose states, where it is looked at more closely
        if is_about_another(claims.question, text, found.end("name"), found.end("name")):
            claims.foreign = True
            continue
        reading = _prose_value(slot, value, strict=found["join"] not in _JOINS)
        if reading is not None:
            claims.add(slot, reading, ("key_value",))
        elif found["join"] in _JOINS and _LINE_START.search(before):
            for mention in _mentions(claims, value):
                claims.add(slot, _legal(slot, mention), ("line_grade",))


def _labels(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    """Find labels one after another; a value may hold the next label."""
    at = 0
    while found := pattern.search(text, at):
        yield found
        at = found.start("value")
        if at >= len(text):
            return


def _prose_value(slot: Slot, value: str, *, strict: bool) -> Reading | None:
    """Read the value behind a name, as far as it is one; behind a mere 'is', only numbers count."""
    if strict and _DEFINES.match(value):
        return None
    cut = _CUT.search(value)
    said = value[: cut.start()] if cut else value
    reading = read_text(slot, said.strip(" \t\"',|"))
    if strict and "meaning" in reading.rules:
        return None
    if reading.grade is not None or reading.echo or reading.reason == "conflicting":
        return reading
    return reading if _PURE.fullmatch(said.strip(" \t\"',|")) else None


def _mentions(claims: Claims, text: str) -> Iterator[Reading]:
    """Give every grade that the prose states of the knee at hand, not of a scale, a comparison or a supposition."""
    for found in _MENTION.finditer(text):
        start, end = found.span()
        sentence = sentence_before(text, start)
        if is_about_another(claims.question, text, start, end):
            claims.foreign = True
        elif found["range"]:
            yield Reading(reason="conflicting")
        elif not (
            _NOT_OURS.search(sentence[-60:])
            or _SUPPOSED.search(sentence)
            or _OUT_OF.match(text, end)
            or _THEN_SUPPOSED.match(text, end)
        ):
            digits = found["n"]
            rules = ("number_word",) if digits in NUMBER_WORDS else ()
            yield Reading(NUMBER_WORDS[digits] if rules else int(digits), rules=rules)


def _legal(slot: Slot, reading: Reading) -> Reading:
    outside = reading.grade is not None and reading.grade not in slot.legal
    return Reading(reason="out_of_range") if outside else reading
