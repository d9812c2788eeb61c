"""One value to one grade of one slot: by a rule and the scale's own words, or not at all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from reasonknee_datasets.bench.answers.json_nodes import Cut, Members, Node, Raw
from reasonknee_datasets.bench.answers.key_matching import holds_a_value, name_of
from reasonknee_datasets.bench.answers.scale_words import is_zero, plain, scale_of
from reasonknee_datasets.bench.answers.words import EXTREMES, ROMAN, heading_names, narrow, pattern
from reasonknee_datasets.moaks import QUESTIONS, Slot
from reasonknee_datasets.moaks.spellings import normal_form

NUMBER_WORDS: dict[str, int] = {
    word: number for number, word in enumerate(("zero", "one", "two", "three", "four", "five", "six", "seven", "eight"))
}


def says_nothing(text: str) -> bool:
    """Check whether a value says that there is none.

    Examples
    --------
    >>> says_nothing("N/A"), says_nothing("2")
    (True, False)
    """
    return text.casefold().strip(" .*_`'\"()[]") in ("", *heading_names("value", "nothing"))


def is_placeholder(text: str, slot: Slot) -> bool:
    """Check whether a value only repeats the prompt's schema: the whole legal range, or a word for any value.

    Examples
    --------
    >>> from reasonknee_datasets.moaks import QUESTIONS
    >>> size = QUESTIONS[19].slots[0]
    >>> [is_placeholder(text, size) for text in ("(grade from 0-3)", "0 | 1 | 2 | 3", "<int>", "1-2", "2")]
    [True, True, True, False, False]
    """
    text = text.casefold().strip()
    if re.fullmatch(r"<[^<>]{1,60}>", text):
        return True
    text = text.strip(" .*_`'\"()[]<>").replace("–", "-")
    if text in heading_names("value", "placeholder"):
        return True
    text = re.sub(
        r"^(?:(?:an?|the|moaks|grade|score|value|integer|int|number|from|between|in|range|of|either)\b[ :]*)+", "", text
    )
    numbers = re.findall(r"[0-9]+", text)
    if len(numbers) < 2 or re.sub(r"[0-9]+|\b(?:to|or|and)\b|[-|/, ]", "", text):
        return False
    found = [int(digits[:3]) for digits in numbers]
    return found in ([slot.low, slot.high], list(slot.legal))


_REFUSAL = re.compile(
    r"\b(?:i(?:'m| am)? (?:sorry|afraid|apologi[sz]e)\b|i (?:can(?:no|')t|can not|won't|will not)\b"
    r"|i am (?:unable|not able) to\b"
    r"|i'm (?:unable|not able) to\b|as an ai\b|do(?:n't| not) have the ability|not (?:qualified|licensed) to"
    r"|(?:unable to|not able to|cannot) (?:provide|assist|help|diagnose|interpret|analy[sz]e|view|see|grade|comply)\b)"
)


def refuses(text: str) -> bool:
    """Check whether a text says that its writer cannot or will not answer.

    Examples
    --------
    >>> refuses("I’m sorry, but I can’t interpret medical images."), refuses("No lesion can be seen.")
    (True, False)
    """
    return bool(_REFUSAL.search(text.casefold().replace("’", "'")))


# Longer values are descriptions in which a number could mean anything.
LONGEST_VALUE = 400

NUM = rf"(?:[0-9]{{1,2}}|(?:{'|'.join(NUMBER_WORDS)})(?![a-z]))"
_LEAD = re.compile(
    rf"(?:(?:moaks|final|overall|assigned)\s+)*(?P<label>(?:grade|score|level|type|category|code)\s*(?:of\b|is\b|[:=#])?\s*)?(?P<n>{NUM})"
    r"(?:\.0(?![.0-9]))?"
)
_TAIL = re.compile(
    r"(?P<said>[^0-9]{1,80}?)[(\[,:;–—\-=→]+\s*"
    rf"(?:(?:moaks\s+)?(?:grade|score)\s*[:=]?\s*(?P<n>{NUM})|\(?(?P<m>[0-8]))[)\]. ]*"
)
# "<33% (1)", "between 3 and 4.9 mm = 2"
_AGREEING = re.compile(r"(?P<band>.{2,40}?) ?(?:[(\[:=→]|->|=>) ?(?:moaks )?(?:grade |score )?(?P<n>[0-8])[)\]]?")
_MEASURE = r"(?!\s*(?:%|percent|mm|cm|lesions?|bmls?|foci|focus|[-–]\s*[0-9]|\.[0-9]|[0-9]))"
_ANOTHER = re.compile(
    rf"\s*(?:-|–|—|\bto\b|\bor\b|\band\b|\bvs\b\.?|\bversus\b|,|&|±|\+/-)\s*(?:(?:grade|score)\s*)?(?P<n>{NUM}){_MEASURE}"
)
_OUT_OF = re.compile(r"\s*(?:/|\|\s*[0-9]|\bof\b|\bout of\b)")
_SECOND = re.compile(r"\s*[:=]\s*\"?[0-9]")
_PLUS = re.compile(r"\s*[+±]|\s+(?:or|and) (?:higher|more|greater|worse|above|less|lower|below)\b")
_DESCRIPTION = re.compile(r"\s*[(\[:;,–—=→|]|\s+-\s|\.\s")
_MENTION = re.compile(
    rf"\b(?:grade|score|or|possibly|perhaps|maybe|borderline|versus|vs\.?)\s+(?:grade\s+|a\s+)?(?P<n>{NUM}){_MEASURE}"
)
_SIGNED = re.compile(r"(?:[-−+~±≈≤≥]|[<>]=?)\s{0,4}[0-9]")
_BOUND = re.compile(
    r"(?:(?:moaks|grade|score|is|be|of|a)\s+){0,4}(?:at (?:least|most)|up to|(?:more|less|greater"
    r"|higher|lower|worse|better|fewer)"
    r" than|above|below|under|over|beyond|exceeds?|short of|nearly|almost|approach(?:es|ing)?"
    r"|minimum|maximum|minus|not|never"
    r"|no more than|other than)\s+(?:(?:a|an|the|moaks|grade|score|of)\s+){0,4}[0-9]"
)
_ROMAN = re.compile(
    r"(?P<label>(?:moaks )?(?:grade|score|level)\s*[:=]?\s*|(?=[ivx]{2}))"
    rf"(?P<n>{'|'.join(sorted(ROMAN, reverse=True))})(?![a-z])"
)
_YES_NO_LEAD = re.compile(r"(yes|no|present|absent|true|false)\s*(?:[,.;:(–—]|-\s)")


@dataclass(frozen=True, slots=True)
class Reading:
    """Reading of a value: a grade with the rules that read it, or a reason, or an echo of the prompt's schema."""

    grade: int | None = None
    reason: str | None = None
    rules: tuple[str, ...] = ()
    echo: bool = False


MISSING = Reading(reason="missing")
CONFLICTING = Reading(reason="conflicting")
OUT_OF_RANGE = Reading(reason="out_of_range")
ECHO = Reading(reason="missing", echo=True)


def read_slot_value(slot: Slot, node: Node) -> Reading:
    """Read the grade of a slot from any value.

    Examples
    --------
    >>> size = QUESTIONS[19].slots[0]
    >>> read_slot_value(size, "Grade 2 (10-75%)")
    Reading(grade=2, reason=None, rules=('labelled',), echo=False)
    >>> [read_slot_value(size, value).reason for value in (7, "1-2", "2 of 3", None, [1, 2])]
    ['out_of_range', 'conflicting', 'out_of_range', 'missing', 'conflicting']
    """
    if node is None:
        return MISSING
    if isinstance(node, bool):
        return Reading(int(node), rules=("boolean",)) if slot.scale == "binary" else OUT_OF_RANGE
    if isinstance(node, (int, float)):
        return _of_number(slot, node)
    if isinstance(node, str):
        return read_text(slot, node)
    if isinstance(node, Raw):
        found = read_text(slot, node.text)
        kept = tuple(rule for rule in found.rules if rule != "digits_in_string")
        return Reading(found.grade, found.reason, kept, found.echo)
    if isinstance(node, Cut):
        return Reading(reason="truncated")
    if isinstance(node, list):
        # No deeper: json.loads nests lists as deep as Python's stack.
        flat = [
            OUT_OF_RANGE if isinstance(item, list) else read_slot_value(slot, item) for item in node[:LONGEST_VALUE]
        ]
        return agree(flat, "list")
    if isinstance(node, Members):
        return _of_object(slot, node)
    return OUT_OF_RANGE


def agree(readings: Sequence[Reading], rule: str | None = None) -> Reading:
    """Join several readings of one slot: one grade however often it is said, or the reason why not."""
    grades = {reading.grade for reading in readings if reading.grade is not None}
    reasons = {reading.reason for reading in readings} - {None, "missing"}
    if not grades and not reasons:
        return ECHO if any(reading.echo for reading in readings) else MISSING
    if len(grades) > 1 or "conflicting" in reasons or (grades and reasons):
        return CONFLICTING
    if not grades:
        return Reading(reason=sorted(filter(None, reasons))[0])
    repeated = ("repeated",) if sum(reading.grade is not None for reading in readings) > 1 else ()
    told = (rule for reading in readings if reading.grade is not None for rule in reading.rules)
    return Reading(grades.pop(), rules=(*dict.fromkeys(told), *(() if rule is None else (rule,)), *repeated))


def _of_number(slot: Slot, value: int | float) -> Reading:
    if value != value:
        return MISSING
    if value not in slot.legal:
        return OUT_OF_RANGE
    return Reading(int(value), rules=("whole_float",) if isinstance(value, float) else ())


def _of_object(slot: Slot, node: Members) -> Reading:
    question = QUESTIONS[slot.question_id]
    if is_measurement(node):
        return OUT_OF_RANGE
    held = [value for key, value in node.pairs if holds_a_value(key) or name_of(question, key).slot is slot]
    if not held:
        return Reading(reason="wrong_key")
    if any(isinstance(value, (Members, list)) for value in held):
        return OUT_OF_RANGE
    return agree([read_slot_value(slot, value) for value in held], "value_object")


def is_measurement(node: Members) -> bool:
    """Check whether an object states a unit: its value is not a grade."""
    return any(
        normal_form(key[:8]) in ("unit", "units") and value not in ("", None, "grade", "score")
        for key, value in node.pairs
    )


def _number(text: str) -> int:
    return NUMBER_WORDS[text] if text in NUMBER_WORDS else ROMAN[text] if text in ROMAN else int(text)


def read_text(slot: Slot, value: str) -> Reading:
    """Read the grade of a slot from a string; a number counts only where nothing makes it a measure or a choice."""
    if len(value) > LONGEST_VALUE:
        return OUT_OF_RANGE
    said = plain(value)
    grade = scale_of(slot.id).get(said)
    if grade is not None:
        return Reading(grade, rules=("meaning",))
    if said in EXTREMES and slot.attribute != "tear_location":
        return Reading(slot.high if EXTREMES[said] > 0 else slot.low, rules=("number_word",))
    if says_nothing(value):
        return MISSING
    if is_placeholder(value, slot):
        return ECHO
    if refuses(value):
        return Reading(reason="refusal")
    agreeing = _AGREEING.fullmatch(said)
    if agreeing and scale_of(slot.id).get(plain(agreeing["band"])) == int(agreeing["n"]):
        return Reading(int(agreeing["n"]), rules=("labelled",))
    text = re.sub(r"[*_`\"]+", "", narrow(value).casefold())
    if _SIGNED.match(text.lstrip(" (['")) or _BOUND.match(text):
        return OUT_OF_RANGE
    text = re.sub(r"^\s*(?:[-=]*>|[-:=]+)?\s*", "", text).strip()
    text = text[1:-1].strip() if text[:1] + text[-1:] in ("()", "[]") else text
    lead = _LEAD.match(text) or _ROMAN.match(text)
    return _of_lead(slot, text, lead) if lead else _of_words(slot, text, said)


def _of_lead(slot: Slot, text: str, lead: re.Match[str]) -> Reading:
    """Read a value that begins with a number, looking at what follows it."""
    grade, rest = _number(lead["n"]), text[lead.end() :]
    rules: tuple[str, ...] = () if lead["n"].isdigit() else ("number_word",)
    if slot.category == "cartilage_lesion" and lead[0].endswith(".0"):
        return OUT_OF_RANGE  # size and depth in one code
    if _PLUS.match(rest) or re.match(r"\.[0-9]|\s*(?:mm|cm|%)", rest):
        return OUT_OF_RANGE
    if pattern("doubted_value").search(rest):
        return MISSING
    if not rest.strip(" .!)"):
        rules += ("labelled",) if lead["label"] else () if rules else ("digits_in_string",)
        return Reading(grade, rules=rules) if grade in slot.legal else OUT_OF_RANGE
    another = _ANOTHER.match(rest)
    if another and not (another["n"] in NUMBER_WORDS and re.match(r" [a-z]", rest[another.end() :])):
        return CONFLICTING  # but "grade 2 – two separate lesions" describes
    if _SECOND.match(rest) or _OUT_OF.match(rest) or not _DESCRIPTION.match(rest):
        return OUT_OF_RANGE
    if any(_number(found["n"]) != grade for found in _MENTION.finditer(rest)):
        return CONFLICTING
    described = scale_of(slot.id).get(plain(rest.strip(" :;,=→|-–—")))
    if described is not None and described != grade:
        return CONFLICTING
    return Reading(grade, rules=(*rules, "labelled")) if grade in slot.legal else OUT_OF_RANGE


def _of_words(slot: Slot, text: str, said: str) -> Reading:
    """Read a value that begins with words."""
    scale = scale_of(slot.id)
    tail = _TAIL.fullmatch(text)
    if tail:
        grade, described = _number(tail["n"] or tail["m"]), scale.get(plain(tail["said"]))
        if described not in (None, grade):
            return CONFLICTING
        if tail["m"] and plain(tail["said"]) == "none" and is_zero(slot, grade):
            described = grade
        if described is not None or tail["n"]:
            return Reading(grade, rules=("labelled",)) if grade in slot.legal else OUT_OF_RANGE
    parts = [scale.get(part.strip()) for part in re.split(r"\bto\b|\bor\b|/|-|\band\b", said)]
    if len(parts) > 1 and None not in parts and len(set(parts)) > 1:
        return CONFLICTING
    lead = _YES_NO_LEAD.match(text) if slot.scale == "binary" else None
    if lead and not _MENTION.search(text):
        return Reading(scale[lead[1]], rules=("meaning", "labelled"))
    return OUT_OF_RANGE
