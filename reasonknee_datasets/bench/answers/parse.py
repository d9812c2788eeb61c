"""Read the grades from a text: `parse_answer`. The package's docstring lists the stages."""

from __future__ import annotations

import re
from dataclasses import dataclass

from reasonknee_datasets.bench.answers.candidates import Claims, collect
from reasonknee_datasets.bench.answers.grade_values import Reading, agree, refuses
from reasonknee_datasets.bench.answers.json_nodes import Members
from reasonknee_datasets.bench.answers.key_matching import name_of
from reasonknee_datasets.bench.answers.outcome import ParsedAnswer, SlotAnswer, by_gravity
from reasonknee_datasets.bench.answers.prose import corrections, corrects, read_prose, without_fragments
from reasonknee_datasets.bench.answers.retractions import sentences, takes_back_any, without_offers
from reasonknee_datasets.bench.answers.subjects import names_another
from reasonknee_datasets.bench.answers.text_parts import (
    FILTERED,
    LENGTH,
    Spoken,
    final_part,
    find,
    load_or_clean,
    why_nothing,
)
from reasonknee_datasets.bench.answers.words import normalise, pattern
from reasonknee_datasets.moaks import Question, get_question

# A subject as a heading, or as a key without its bracket, right before an object.
_HEADING = re.compile(
    r"(?:^|[\n{,\"'*#.:-])[ \t]{0,4}([A-Za-z][\w %()/\-]{2,118})[\"'*`]{0,3}\s{0,4}[:=\n][\s*`]{0,6}$"
)
# A key right before an object, and what is left of one whose start is not there.
_KEY = re.compile(r"[\"'“][^\"'“”:{}\n]{1,120}[\"'”]\s{0,4}[:=]\s{0,4}$")
_KEY_END = re.compile(r"(?:[\"'“”]|^\s*|[}\]]\s*)[:=]\s{0,4}$")
# Words of a correction of one attribute about the others.
_KEEPS_THE_REST = re.compile(
    r"\b(?:rest|others?|size|number|percent\w*|depth|presence|location|tear|repair|everything else)\b[^.;\n]{0,40}"
    r"\b(?:(?:stay|remain|stand)s?|unchanged|unaffected|is (?:right|correct|fine)|are (?:right|correct|fine)|hold)\b"
)


def parse_answer(
    question: int | Question, text: str | None, *, finish_reason: str | None = None, error: str | None = None
) -> ParsedAnswer:
    r"""Read the grades from a model's text.

    Parameters
    ----------
    question : int or Question
        The question that was asked, or its number.
    text : str or None
        What the model said; None where nothing came back.
    finish_reason : str, optional
        Why it ended, in the provider's word: ``stop``, ``length``, ``content_filter`` and their like.
    error : str, optional
        What the provider said instead of an answer.

    Returns
    -------
    ParsedAnswer
        A grade with its rules, or a reason, for every slot. No text makes it raise.

    Raises
    ------
    GradeError
        If there is no such question.

    Examples
    --------
    >>> said = "<think>Perhaps 1.</think>```json\n{'MOAKS_scores': {'Hoffa-Synovitis': {'grade': 2}}}\n```"
    >>> answer = parse_answer(42, said)
    >>> answer.grades, answer.slots[0].rules
    ({'grade': 2}, ('fenced', 'thought_removed', 'single_quotes'))
    >>> [slot.reason for slot in parse_answer(19, "Size of lesion: 5").slots]
    ['out_of_range', 'missing']
    """
    asked = get_question(question)
    ended = "" if finish_reason is None else str(finish_reason).casefold()
    nothing = why_nothing(text, ended, error)
    if nothing is not None or text is None:
        return _all(asked, nothing or "empty")
    node, said = load_or_clean(text)
    if said is None:
        claims = Claims(asked)
        collect(claims, node, frozenset())
        return _resolve(claims, _Context(text, ended, documents=True), strict=True)
    if not said.text:
        return _all(asked, "truncated" if said.unfinished else why_nothing(None, ended, None) or "empty")
    return _read_spoken(asked, said, ended)


@dataclass(slots=True)
class _Context:
    """Facts about a text other than its claims, for the reason why a slot has none."""

    text: str
    ended: str
    rules: frozenset[str] = frozenset()
    cut: bool = False
    documents: bool = False
    broken: bool = False
    disowned: str | None = None


def _all(asked: Question, reason: str) -> ParsedAnswer:
    return ParsedAnswer(asked.id, tuple(SlotAnswer(slot, None, reason) for slot in asked.slots), strict=False)


def _read_spoken(asked: Question, said: Spoken, ended: str) -> ParsedAnswer:
    """Read what follows the announcement of a final answer, if it holds one, and else everything."""
    final = final_part(said.text)
    if final is not None:
        before = said.text[: len(said.text) - len(final)]
        claims, context = _read_part(asked, final, said, ended, {"final_part"}, before)
        if claims.any:
            return _resolve(claims, context)
    return _resolve(*_read_part(asked, said.text, said, ended, set()))


def _read_part(
    asked: Question, text: str, said: Spoken, ended: str, rules: set[str], before: str = ""
) -> tuple[Claims, _Context]:
    claims, found = Claims(asked), find(text, said, ended)
    damaged = without_fragments(found.prose) != found.prose or any(_is_damaged(piece.lead) for piece in found.documents)
    for piece in found.documents:
        corrected: frozenset[str] = frozenset()
        if claims.readings and (corrects(piece.lead) or takes_back_any(piece.between)):
            claims.readings.clear()
            corrected = frozenset(("corrected",))
        heading = _HEADING.search(piece.lead)
        title = heading[1] if heading else ""
        under = name_of(asked, title).role in ("subject", "foreign")
        another = not under and names_another(asked, title)
        claims.foreign = claims.foreign or another
        root = Members(((title, piece.root),)) if under else piece.root
        collect(claims, root, piece.rules | corrected, remnant=piece.remnant or another or damaged)
    rules = rules | found.rules
    silent = not (claims.readings or claims.foreign or (claims.inside and not claims.echo))
    if silent and not (damaged and found.documents):
        rules |= read_prose(claims, found.prose, before)
    elif claims.readings and found.after.strip():
        _correct(claims, found.after)
    context = _Context(
        said.text, ended, frozenset(rules), found.cut, bool(found.documents), found.broken, found.disowned
    )
    return claims, context


def _is_damaged(lead: str) -> bool:
    """Check whether a key whose start is not there leads to an object."""
    return _KEY_END.search(lead) is not None and _KEY.search(lead) is None


def _denies(claims: Claims, after: str) -> bool:
    """Check whether the text behind an object says that the grade is not the given one."""
    grade = agree(claims.readings.get(claims.question.slots[0].id, ())).grade
    if len(claims.question.slots) > 1 or grade is None:
        return False
    return (
        re.search(
            rf"\b(?:not|never|neither) (?:an? |moaks |grade |really )*{grade}\b(?![.%-][0-9]| ?mm)", normalise(after)
        )
        is not None
    )


def _is_of_another(asked: Question, after: str) -> bool:
    """Check whether a sentence behind an object says that its grade is another subject's."""
    return any(
        pattern("answer_itself").search(sentence)
        and re.search(
            r"\b(?:belongs?|refers?|appl(?:y|ies)|pertains?|relates?) to\b|\b(?:is|was|are|were) for\b", sentence
        )
        and names_another(asked, sentence)
        for sentence in sentences(normalise(after))
    )


def _correct(claims: Claims, after: str) -> None:
    """Replace what the text behind the objects corrects, and drop what it takes back."""
    after = without_offers(after)
    later, retracted = corrections(claims.question, after)
    retracted = retracted or takes_back_any(after) or _denies(claims, after) or _is_of_another(claims.question, after)
    if retracted and not (later.readings and _KEEPS_THE_REST.search(normalise(after))):
        claims.readings.clear()
        claims.retracted = True
    for slot, readings in later.readings.items():
        joined = agree(readings)
        if agree(claims.readings.get(slot, ())).grade != joined.grade:
            claims.readings[slot] = [Reading(joined.grade, joined.reason, (*joined.rules, "corrected"))]


def _resolve(claims: Claims, context: _Context, *, strict: bool = False) -> ParsedAnswer:
    """Join what was claimed of each slot into its grade or its reason."""
    text_rules = set(context.rules)
    if claims.foreign:
        text_rules.add("among_others")
    if claims.echo:
        text_rules.add("echo_left_out")
    joined = [agree(claims.readings[slot.id]) if slot.id in claims.readings else None for slot in claims.question.slots]
    graded = any(reading is not None and reading.grade is not None for reading in joined)
    refused = not graded and (context.ended in FILTERED or refuses(context.text))
    answers = []
    for slot, reading in zip(claims.question.slots, joined, strict=True):
        if reading is not None and reading.grade is not None:
            answers.append(SlotAnswer(slot, reading.grade, None, by_gravity(text_rules.union(reading.rules))))
            continue
        reason = _why(claims, context) if reading is None else reading.reason
        if refused and reason in ("missing", "not_json", "wrong_key", "placeholder", "retracted"):
            reason = "refusal"
        answers.append(SlotAnswer(slot, None, reason))
    return ParsedAnswer(claims.question.id, tuple(answers), strict)


def _why(claims: Claims, context: _Context) -> str:
    """Return the reason why nothing was claimed of a slot."""
    if context.cut or context.ended in LENGTH:
        return "truncated"
    if context.disowned and not claims.any:
        return context.disowned
    if claims.retracted:
        return "retracted"
    if claims.stray or (claims.foreign and not claims.inside):
        return "wrong_key"
    if context.broken:
        return "not_json"
    if claims.echo:
        return "placeholder"
    return "missing" if claims.any or context.documents else "not_json"
