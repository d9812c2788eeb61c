"""Grades that prose and its tables state.

A number is a grade only where a label (the word grade, an attribute, the asked subject) leads to it, nothing makes it
a measurement, a count, a bound or a choice, the running subject is the asked one, and the clause states it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from reasonknee_datasets.bench.answers.candidates import Claims
from reasonknee_datasets.bench.answers.grade_values import NUMBER_WORDS, Reading, read_text, refuses
from reasonknee_datasets.bench.answers.key_matching import Name, name_of
from reasonknee_datasets.bench.answers.retractions import sentences, speaks_against, takes_back
from reasonknee_datasets.bench.answers.rewriting import rewrite, without_markers, without_scales
from reasonknee_datasets.bench.answers.scale_words import scale_of
from reasonknee_datasets.bench.answers.statements import StatementReader
from reasonknee_datasets.bench.answers.subject_names import Facets, asked_facets, opens_with_unknown
from reasonknee_datasets.bench.answers.subjects import Context, mentions, names_another, names_whole_subject
from reasonknee_datasets.bench.answers.words import normalise, tokens, word_list
from reasonknee_datasets.moaks import Question, Slot

_RULE = re.compile(r"[\s|:\-+=]*")
_VALUE_COLUMN = re.compile(r"(?:moaks\s+|final\s+|assigned\s+)*(?:grade|score|value|rating)s?(?:\s*\([^()]*\))?")
# A line of pairs in one row: "size = 1 | number = 1 | percent = 3".
_PAIRS = re.compile(r"(?m)^(?:[^|=:\n]{1,60}[=:][ \t]?[0-9][ \t]{0,4}\|){1,8}[^|=:\n]{1,60}[=:][ \t]?[0-9][ \t]*$")
_WIDEST = 12
_LONGEST_NAME = 60


def read_tables(claims: Claims, text: str, context: Context) -> str:
    """Add what tables claim, and return the text without them.

    Parameters
    ----------
    claims : Claims
        Added to.
    text : str
        Normalised prose.
    context : Context
        The subject that the text before leaves open.
    """
    if text.count("|") < 2:
        return text
    text = _PAIRS.sub(lambda found: found[0].replace("|", "\n"), text)
    kept: list[str] = []
    rows: list[list[str]] = []
    context, above, read = context.joined([]), Context({}), 0
    for line in [*text.split("\n"), ""]:
        if line.count("|") >= 2 or (rows and _RULE.fullmatch(line) and line.strip()):
            if not _RULE.fullmatch(line):
                rows.append([cell.strip() for cell in line.strip().strip("|").split("|")[:_WIDEST]])
            continue
        if rows:
            context = context.joined(list(mentions(claims.question, "\n".join(kept[read:]))))
            above = above.joined(list(mentions(claims.question, _headings(kept[read:]))))
            said = [line for line in kept[read:] if line.strip()]
            read = len(kept)
            # A name in the sentences of another section is not the subject of a table with a heading of its own.
            headed = bool(said and _headings(said[-1:])) and names_whole_subject(above, claims.question)
            _read_table(claims, rows, above if headed and context.contradicts(claims.question) else context)
            rows = []
        kept.append(line)
    return "\n".join(kept)


_HEADING_LINE = re.compile(r"[^.!?:;|]{1,70}:?")


def _headings(lines: list[str]) -> str:
    """Join the short lines that are not sentences."""
    return "\n".join(line for line in lines if line.strip() and _HEADING_LINE.fullmatch(line.strip()))


def _named(question: Question, cell: str) -> Name:
    return name_of(question, cell.strip("*_` "))


def _read_table(claims: Claims, rows: list[list[str]], context: Context) -> None:
    question, header = claims.question, rows[0]
    columns = {place: name.slot for place, cell in enumerate(header) if (name := _named(question, cell)).slot}
    valued = [place for place, cell in enumerate(header) if place and _VALUE_COLUMN.fullmatch(cell)]
    for number, row in enumerate(rows):
        name = _named(question, row[0])
        place = valued[0] if number and valued else 1
        about = context.joined(_subject(question, row, place, columns))
        unknown = name.role == "unknown" and 0 not in columns and opens_with_unknown(tokens(row[0]), 0, len(row[0]))
        if name.role == "foreign" or (number and unknown) or about.contradicts(question):
            claims.foreign = claims.foreign or number > 0 or name.role == "foreign"
            continue
        slot = name.slot
        if (
            slot is None
            and len(question.slots) == 1
            and (name.role == "subject" or (number and about.is_asked(question)))
        ):
            slot = None if number and columns and 0 not in columns else question.slots[0]
        if slot is not None and (number or 0 not in columns or len(row) == 2):
            _add(claims, slot, row, place)
        elif number:
            for place, own in columns.items():
                if own is not None:
                    _add(claims, own, row, place)


def _subject(question: Question, row: list[str], value: int, columns: Mapping[int, Slot | None]) -> list[Facets]:
    """Find what the short cells before a row's values name."""
    first = min([value, *(place for place in columns if place)])
    short = [cell for cell in row[:first] if len(cell) <= _LONGEST_NAME]
    return [facets for cell in short for facets in mentions(question, cell)]


def _add(claims: Claims, slot: Slot, row: list[str], place: int) -> None:
    if place >= len(row):
        return
    reading: Reading = read_text(slot, row[place])
    if reading.grade is not None or reading.reason == "conflicting" or re.fullmatch(r"[0-9]{1,6}", row[place]):
        claims.add(slot, reading, ("table",))


# A value behind a label is short; a longer one is a sentence.
_LONGEST = 200
_BOXED = re.compile(r"\\boxed\s{0,4}\{\s{0,4}(?:\\text\s{0,4}\{)?([^{}]{0,80})\}")
_PURE = re.compile(r"(?:(?:moaks )?(?:grade|score)\s*[:=]?\s*)?[0-9]{1,6}(?:\.[0-9]{1,6})?[.!]?")
_LAST = re.compile(r"(?:\n|[.!][ \t]+)[ \t]{0,8}(?P<n>[0-9](?:\.0)?|\(0\))[ \t]?[.!]?$")
_LEADS = re.compile(
    rf"[\s#(\"']*(?:(?:moaks|final|overall|assigned|the|grade|score|is|answer)\s*[:=]?\s*)*(?:[0-9]"
    rf"|{'|'.join(NUMBER_WORDS)})"
)
# "All three grades are 0."
_ALL_ALIKE = re.compile(
    r"(?:^|[.;\n]\s{0,4}|\b(?:hence|therefore|thus|so),? )(?:all|both|each) (?:of )?"
    r"(?:the |these |two |three(?= \w+ (?:are|is|get|have|=|:)) |its |my )*(?:grades|scores|values|attributes"
    r"|components|slots|answers|items|of them|three)(?: (?:are|is|=|equal|get|receive|have|score)|:)?"
    r"(?: scored| graded| rated)?(?: an?| the| as| at)? (?:grade )?"
    r"(?P<n>[0-8]|scalehigh|scalelow|zero|one|two|three)(?P<because>[.\s]*$|\s?[:;,(–—-][^0-9]*$)"
)
# "I score all three items 0."
_SCORES_ALL = re.compile(
    r"\bi (?:(?:would|will|therefore|thus|hence|also|now) )?(?:score|grade|rate|put|set|mark) (?:all|both) (?:of )?"
    r"(?:the |these |two |three |them )*(?:grades |scores |values |attributes |components |slots |answers |items )?"
    r"(?:as |at |to |with )?(?:an? |grade )*(?P<n>[0-8]|zero|one|two|three)(?P<because>[.\s]*$|\s?[:;,(–—-][^0-9]*$)"
)


def read_prose(claims: Claims, text: str, before: str = "") -> set[str]:
    """Add what prose claims about a question.

    Parameters
    ----------
    claims : Claims
        Added to.
    text : str
        The text without JSON objects.
    before : str
        What the text follows; only the subjects that it names count.

    Returns
    -------
    set of str
        Rules about the text as a whole.
    """
    question = claims.question
    text, rules = rewrite(question, without_fragments(text))
    context = _context_after(question, before)
    if len(question.slots) == 1 and _read_whole(claims, text.strip(), context):
        return rules
    text = read_tables(claims, text, context)
    if _read_opening(claims, text, context):
        return rules
    shared = (_ALL_ALIKE.search(text) or _SCORES_ALL.search(text)) if len(question.slots) > 1 else None
    if shared and _is_about_asked(question, f"{text[: shared.start()]} {shared['because']}", context):
        for slot in question.slots:
            claims.add(slot, read_text(slot, shared["n"]), ("stated",))
        return rules
    reader = StatementReader(claims, text, context)
    reader.run()
    claims.retracted = reader.retracted
    if not (claims.readings or reader.retracted):
        _read_last_line(claims, text, context, reader.context)
    return rules


_YES_NO = re.compile(r"\W{0,8}(?P<said>yes|no)(?=[ \t]*(?:[,.;:!(–—\n]|-\s|$))")
_SENTENCE_END = re.compile(r"[.!?;](?=\s|$)|\n")
# Words that explain a "no": a denial, or a word for what is healthy, but not both ("it is not normal").
_HEALTHY = re.compile(r"\b(?:normal\w*|unremarkable|intact|healthy|clear|empty|continuous|thin)\b")
_MEASURES = re.compile(r"[0-9]+(?:\.[0-9]+)?(?:\s?(?:x|×|mm|cm|ml|%|percent|to|-|by)\b|%)|\bslices? [0-9]+")
_PLAIN_ANSWER = re.compile(
    r"(?:(?:it|this|that|they|there|is|are|was|not|none|present|absent|seen|visible|detected|identified|definitely|clearly"
    r"|certainly|evident|found|any|indeed|i|see|do|does|one|grade|presence)\s?)*"
)
_DENIED = re.compile(r"\b(?:no|not|without|never|neither|none|nothing|absent|absence|lacks?)\b")


def _read_opening(claims: Claims, text: str, context: Context) -> bool:
    """Read a yes or a no that opens the answer to a single question, and which the sentence that it opens is about.

    What the sentences behind it name does not matter ("There is a lobulated lesion behind the posterior cruciate
    ligament."), unless they doubt, suppose, take back or deny, or state a grade.
    """
    question, opening = claims.question, _YES_NO.match(text)
    slot = question.slots[0]
    if opening is None or len(question.slots) > 1 or slot.scale != "binary" or context.contradicts(question):
        return False
    first, *others = [
        part for part in _SENTENCE_END.split(text[opening.end() :].lstrip(" ,.:;!–—-\n")) if part.strip()
    ] or [""]
    words = {token.text for token in tokens(text)}
    if "?" in words or words & word_list("doubts", "supposes") or re.search(r"\b[0-8]\b", _MEASURES.sub("", text)):
        return False
    if not _opens_with_asked(question, first) or refuses(text):
        return False
    said = sentences(text[opening.end() :])
    if any(takes_back(each) or speaks_against(each, errors_only=True) for each in said):
        return False
    clause = re.split(r",\s(?:and|but|while|whereas)\s", first)[0]
    denied, healthy = _DENIED.search(clause) is not None, _HEALTHY.search(clause) is not None
    if opening["said"] == "yes":
        later = [
            each for each in others if names_whole_subject(Context({}).joined(list(mentions(question, each))), question)
        ]
        if denied or healthy or any(_DENIED.search(each) for each in later):
            return False
    elif first and not _PLAIN_ANSWER.fullmatch(first.strip(" .,!")) and denied == healthy:
        return False
    grade = read_text(slot, opening["said"]).grade
    rule = "stated" if "\n" in text or len(text) > _LONGEST else "bare"
    claims.add(slot, Reading(grade, rules=("meaning", "labelled")), (rule,))
    return True


def _is_about_asked(question: Question, text: str, context: Context) -> bool:
    """Check whether a text names no other subject, or the whole asked one among others."""
    about = context.joined([])
    for mention in mentions(question, text):
        about.name(mention)
        if names_whole_subject(about, question):
            return True
    return not about.contradicts(question)


def _opens_with_asked(question: Question, sentence: str) -> bool:
    """Check whether a sentence names the whole asked subject before any other one, or none at all."""
    named, contradicted = Context({}), False
    for mention in mentions(question, sentence):
        named.name(mention)
        if _names_finding(named, question) and not contradicted:
            return True
        contradicted = contradicted or named.contradicts(question)
    if not named.facets:
        return _PLAIN_ANSWER.fullmatch(sentence.strip(" .,!")) is not None
    return _names_finding(named, question)


def _names_finding(named: Context, question: Question) -> bool:
    """Check for the whole subject; a tear of a meniscus is one of its root only where that is said."""
    root = (
        question.category != "meniscal_root_tear" or named.facets.get("finding") == asked_facets(question.id)["finding"]
    )
    return root and names_whole_subject(named, question)


def _read_last_line(claims: Claims, text: str, context: Context, after: Context) -> None:
    """Read a number that is the last line or sentence of a text in which no other subject was named."""
    question, last = claims.question, _LAST.search(text.strip())
    if len(question.slots) > 1 or last is None:
        return
    rest = text.strip()[: last.start()].rstrip(" *\n")
    if claims.foreign or after.contradicts(question) or names_another(question, rest, context) or refuses(rest):
        return
    words_before = tokens(rest[-40:])
    denied = last["n"] != "(0)" or _DENIED.search(rest)
    if denied and not rest.endswith(("?", ",")) and words_before and words_before[-1].text not in word_list("refers"):
        claims.add(question.slots[0], read_text(question.slots[0], last["n"]), ("stated",))


def corrections(question: Question, text: str) -> tuple[Claims, bool]:
    """Read what prose behind an answer corrects in it, and whether it takes the answer back.

    Examples
    --------
    >>> from reasonknee_datasets.moaks import get_question
    >>> claims, back = corrections(get_question(42), "On reflection, this should be grade 1.")
    >>> [reading.grade for readings in claims.readings.values() for reading in readings], back
    ([1], False)
    """
    claims = Claims(question)
    text = without_markers(normalise(text))
    about = Context(dict(asked_facets(question.id)))
    reader = StatementReader(claims, without_scales(text)[0], about, lowest=2)
    reader.run()
    if reader.retracted and not claims.readings:
        StatementReader(claims, without_scales(text)[0], Context({})).run()
    return claims, reader.retracted


_CORRECTION = re.compile(
    r"\b(?:correction|corrected|correct (?:answer|grade|json|version|response)|revised|amended"
    r"|updated|i (?:\w+ )?mis(?:read"
    r"|took|judged|stated|counted|labelled|labeled)|(?:made|was) an? (?:mistake|error)|on (?:reflection|second thought"
    r"|closer (?:inspection|look))|scratch that|should (?:be|have been|read)|replac\w+|i (?:was|am) (?:wrong|mistaken)"
    r"|i (?:\w+ ){0,2}(?:revise|amend|change|update|adjust|modify|correct)|make (?:that|it)|supersed\w+|overrid\w+"
    r"|let me (?:\w+ )?(?:revise|amend|change|update|adjust|modify|correct|fix|redo))\b"
)


def corrects(lead: str) -> bool:
    """Check whether what leads to an object says that it takes the place of the one before.

    Examples
    --------
    >>> corrects("Wait, I misread the fat pad. The correct answer is:"), corrects("In JSON:")
    (True, False)
    """
    return _CORRECTION.search(normalise(lead)) is not None


def _context_after(question: Question, before: str) -> Context:
    """Find which subject a text leaves open: none if it named the asked one anywhere."""
    context = Context({})
    for mention in mentions(question, before):
        context.name(mention)
        if context.is_asked(question):
            return Context({})
    return context


def _read_whole(claims: Claims, text: str, context: Context) -> bool:
    """Read a text that is nothing but one value, or that boxes one."""
    slot = claims.question.slots[0]
    if context.contradicts(claims.question):
        return False
    for boxed in _BOXED.finditer(text):
        above = text[: boxed.start()]
        if not _is_about_asked(
            claims.question, re.split(r"[.;!?]\s|\n", above)[-1], Context({})
        ) or not _is_about_asked(claims.question, above, context):
            claims.foreign = True
        elif word_list("refers").isdisjoint(
            token.text for token in tokens(text[max(0, boxed.start() - 30) : boxed.start()])
        ):
            claims.add(slot, read_text(slot, boxed[1]), ("boxed",))
    if claims.readings:
        return True
    if len(text) > _LONGEST or "\n" in text or not re.search(r"\w", text):
        return False
    opening = _YES_NO.match(text)
    if opening and re.search("[a-z]{2}", text[opening.end() :]):
        return _read_opening(claims, text, context)
    reading = read_text(slot, text.rstrip())
    told = reading.grade is not None or reading.reason in ("conflicting", "missing")
    if (not told and not _PURE.fullmatch(text)) or (reading.reason == "conflicting" and len(text) > 40):
        return False
    if "labelled" in reading.rules and not _LEADS.match(text) and "meaning" not in reading.rules:
        described = re.split(r"[(\[,:;–—\-=]", text)[0].strip()
        if scale_of(slot.id).get(described) != reading.grade:
            return False  # a sentence: what it states is looked at clause by clause
    # Words that leave open what a short answer states: it is read clause by clause instead.
    unsure = word_list("denials", "doubts", "supposes") - word_list("plain_answers") | {"?", "instead", "rather"}
    if not unsure.isdisjoint(token.text for token in tokens(text)):
        return False
    if any(map(takes_back, sentences(text)[1:])):
        return False
    if names_another(claims.question, text):
        claims.foreign = True
        return False
    claims.add(slot, reading, ("bare",))
    return not reading.echo


# One pair of a JSON object within prose: a whole key, and one value.
_PAIR = re.compile(
    r"[\"“”][^\"“”:{}\n]{1,120}[\"“”]\s{0,4}[:=]\s{0,4}(?:[\"“”][^\"“”\n]{0,200}[\"“”]|[^\"“”:=,{}\[\]\n]{0,200})"
    r"(?=\s{0,4}(?:[,;}\])(]|$))"
)
_KEY_END = re.compile(r"[\"“”]\s{0,4}[:=]")


def without_fragments(text: str) -> str:
    """Remove the lines that hold damaged JSON: a key whose start is not there, or a key with two values.

    Examples
    --------
    >>> without_fragments('"grade": 2'), without_fragments('-synovitis": 0": 1')
    ('"grade": 2', '')
    """
    return "\n".join("" if _is_damaged(line) else line for line in text.split("\n"))


def _is_damaged(line: str) -> bool:
    if line.lstrip(" }")[:1] == ":" or (("{" in line or "}" in line) and line.count('"') % 2):
        return True
    if line.count("}") > line.count("{") and _PAIR.search(line) is None:
        return True
    return _KEY_END.search(line) is not None and _KEY_END.search(_PAIR.sub(" ", line)) is not None
