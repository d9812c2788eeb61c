"""Metrics of one reasoning text: consistency, coverage, grounding, and agreement with the reference."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Literal

from reasonknee_datasets.bench.answers import parse_answer
from reasonknee_datasets.bench.metrics.knee_places import Named, Side, fits, named_places, side_named, subregion_named
from reasonknee_datasets.boxes import Box
from reasonknee_datasets.errors import MissingExtraError
from reasonknee_datasets.moaks import Question

Stated = Literal["supported", "contradicted", "not_stated"]
"""What the reasoning says of a grade in the final answer."""

Position = Literal["inside", "outside", "not_stated"]
"""Where stated slices lie, compared with the true box."""

CONFLICTING = -2
"""The grade of a slot for which the reasoning states several, or one that its scale does not have."""

_TAG = re.compile(r"</?(?:think|thinking|reasoning|scratchpad|analysis)>|<\|[^|<>\n]{1,40}\|>", re.IGNORECASE)
_ANSWER_TAG = re.compile(r"<(?:answer|final_answer|final)>|<\|begin_of_(?:box|solution|answer)\|>", re.IGNORECASE)
_HEADING = re.compile(
    r"(?:^|(?<=[.!?:]\s)|(?<=\n))[#*_> \t]{0,8}(?:(?:my |the )?final (?:answer|diagnosis|assessment|grades?|grading|scores?"
    r"|result|output|conclusion)|answer)\b[*_ \t]{0,4}(?:(?:is|are)\b[^:\n{]{0,20})?:?[*_ \t]{0,4}(?=[:\n{]|\S)",
    re.IGNORECASE,
)
_FENCE = re.compile(r"```(?:[A-Za-z]\w{0,9})?\s*$")
_REASONING_KEYS = ("reasoning", "rationale", "explanation", "steps", "chain_of_thought", "analysis", "thoughts")
_MARKER = re.compile(r"^\s*(?:[-*•#>]+\s+)*(?:\**step\s+\d{1,2}\**\s*[:.)-]*|\(?\d{1,2}[.)](?=\s))?\s*", re.IGNORECASE)
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[\"'(*]{0,3}[A-Z])")
_WORD = re.compile(r"[A-Za-z]{2,}")


def split_answer(text: str) -> tuple[str, str]:
    r"""Cut a model's text into its reasoning and the final answer.

    The final answer begins at an answer tag, else at the last heading such as ``Final diagnosis:``, else at the last
    JSON object. What follows it is no reasoning: it explains an answer that is already given. A text with none of the
    three is all reasoning, unless it is a single sentence.

    Parameters
    ----------
    text : str
        Everything that the model wrote, drafts in think tags included.

    Returns
    -------
    (str, str)
        The answer is empty where it cannot be told from the reasoning.

    Examples
    --------
    >>> split_answer("The pad is bright, so grade 2.\nFinal diagnosis: {'grade': 2}")
    ('The pad is bright, so grade 2.', "Final diagnosis: {'grade': 2}")
    >>> split_answer('{"grade": 2}')
    ('', '{"grade": 2}')
    """
    plain = text.strip()
    tag = _ANSWER_TAG.search(plain)
    headings = list(_HEADING.finditer(plain))
    start = _last_object(plain)
    if tag:
        cut = tag.start()
    elif headings and _has_answer(plain[headings[-1].end() :]):
        cut = headings[-1].start()
    elif start is not None:
        inner = _reasoning_in(plain[start:])
        if inner is not None:
            return f"{_untagged(plain[:start])}\n{inner}".strip(), plain[start:]
        cut = start - len(fence[0]) if (fence := _FENCE.search(plain[:start])) else start
    else:
        cut = len(plain)
        if len(steps(_untagged(plain))) < 2:
            return "", plain
    return _untagged(plain[:cut]), plain[cut:]


def _has_answer(rest: str) -> bool:
    return bool(_WORD.search(rest) or re.search(r"\d", rest))


def _untagged(text: str) -> str:
    return _TAG.sub(" ", text).strip()


def _last_object(text: str) -> int | None:
    """Return where the last JSON object begins; an unclosed one counts."""
    depth, last = 0, None
    for found in re.finditer(r"[{}]", text):
        if found[0] == "{":
            if depth == 0:
                last = found.start()
            depth += 1
        else:
            depth = max(0, depth - 1)
    return last


def _reasoning_in(text: str) -> str | None:
    """Return the reasoning that stands inside a JSON answer, before the grades or behind them."""
    try:
        item: Any = json.loads(text[: text.rindex("}") + 1])
    except (ValueError, RecursionError):
        return None
    if not isinstance(item, Mapping):
        return None
    for key, value in item.items():
        if key.casefold() in _REASONING_KEYS:
            if isinstance(value, str):
                return value
            if isinstance(value, list):
                return "\n".join(map(str, value))
    return None


def steps(reasoning: str) -> tuple[str, ...]:
    """Cut a reasoning into its sentences, without the marks of a list.

    Examples
    --------
    >>> steps("Step 1: The pad is dark. It has no haze.")
    ('The pad is dark.', 'It has no haze.')
    """
    lines = (_MARKER.sub("", line).strip() for line in reasoning.splitlines())
    return tuple(step for line in lines if line for step in _SENTENCE.split(line) if _WORD.search(step))


# What leads to a number in a statement that the parser of answers leaves out since it has no verb.
_LABELS = {
    "size": "size",
    "number": "number",
    "percent": "percent(?:age)?",
    "depth": "depth",
    "grade": "grade",
    "morphology": "morphology",
    "presence": "presence",
    "tear_location": "tear location",
    "complete_tear": "complete tear",
    "insertion_lesion": "(?:insertion lesion|lesion at the insertion)",
    "repair": "repair",
    "signal": "signal(?: abnormality)?",
}
_LINK = r"(?:\s*[:=]\s*|\s+(?:(?:is|was|as|of|a|grade|graded|code|coded|score)\s+){0,4})"


@lru_cache(maxsize=4096)
def stated_grades(question: Question, reasoning: str) -> tuple[int | None, ...]:
    """Read the grades that a reasoning states.

    Returns
    -------
    tuple of int or None
        One for each slot: a grade, None where none is stated, `CONFLICTING` where several are, or an illegal one.

    Examples
    --------
    >>> from reasonknee_datasets.moaks import get_question
    >>> stated_grades(get_question(19), "The cartilage defect has size 2 and depth 1.")
    (2, 1)
    """
    if not _WORD.search(reasoning):
        return (None,) * len(question.slots)
    parsed = parse_answer(question, reasoning)
    found: list[int | None] = []
    for answer in parsed.slots:
        if answer.grade is None and answer.reason in ("conflicting", "out_of_range"):
            found.append(CONFLICTING)
        else:
            found.append(answer.grade)
    if None in found:
        listed = _listed_grades(question, reasoning)
        found = [listed[place] if grade is None else grade for place, grade in enumerate(found)]
    return tuple(found)


def _listed_grades(question: Question, reasoning: str) -> list[int | None]:
    """Read grades behind their attributes, as in ``size 2 and depth 1``, where the running place is the asked one."""
    grades: list[set[int]] = [set() for _ in question.slots]
    elsewhere = False
    for step in steps(reasoning):
        places = [fit for place in named_places(step) if (fit := fits(question, place)) is not None]
        elsewhere = not places[-1] if places else elsewhere
        if elsewhere or _INTENDS.search(step):
            continue
        for place, slot in enumerate(question.slots):
            pattern = rf"\b{_LABELS.get(slot.attribute, slot.attribute)}{_LINK}([0-9])(?![0-9%.]*[0-9%]|\s*(?:mm|to|or|-)\b)"
            for match in re.finditer(pattern, step, re.IGNORECASE):
                grade = int(match[1])
                grades[place].add(grade if grade in slot.legal else CONFLICTING)
    return [None if not each else each.pop() if len(each) == 1 else CONFLICTING for each in grades]


def consistency(question: Question, reasoning: str, final: Sequence[int | None]) -> tuple[Stated | None, ...]:
    """Compare the grades stated in a reasoning with those of the final answer.

    Parameters
    ----------
    question : Question
    reasoning : str
    final : sequence of int or None
        The answered grade of each slot.

    Returns
    -------
    tuple of Stated or None
        None where the final answer has no grade. A reasoning that states two grades contradicts the answer, whichever
        of them it is.

    Examples
    --------
    >>> from reasonknee_datasets.moaks import get_question
    >>> consistency(get_question(19), "The cartilage defect has size 2.", (1, 0))
    ('contradicted', 'not_stated')
    """
    compared: list[Stated | None] = []
    for grade, answered in zip(stated_grades(question, reasoning), final, strict=True):
        if answered is None:
            compared.append(None)
        elif grade is None:
            compared.append("not_stated")
        else:
            compared.append("supported" if grade == answered else "contradicted")
    return tuple(compared)


# Words of an assessment of each attribute. They count in a sentence that states something, not in one that intends to.
_ASSESSED = {
    "size": r"size|extent|area|(?:a|one|two|the) thirds?|fills?|occup(?:y|ies)|large|small|(?:per ?cent|%) of the|spans?",
    "number": r"number|single|one (?:lesion|patch|focus)|second|several|multiple|solitary|two|three|count|foci",
    "percent": r"per ?cent(?:age)?|%|share|cyst(?:s|ic)?|oedema|edema",
    "depth": r"depth|full[- ]thickness|partial[- ]thickness|down to (?:the )?bone|deep|bare bone|superficial|denuded",
    "grade": r"grade|absent|none|no|normal|mild|moderate|severe|small|medium|large|mm|millimet\w+",
    "morphology": r"morphology|tears?|torn|macerat\w+|normal|intact|form|signal",
    "presence": r"present|absent|presence|absence|no|without|there is|shows?|seen|normal|intact",
    "tear_location": r"tears?|torn",
    "complete_tear": r"(?:completely )?torn|(?:complete )?(?:tear|rupture)d?|continuous|intact|in continuity|disrupted",
    "insertion_lesion": r"insert(?:s|ion)|origin|attachments?|footprint",
    "repair": r"repair(?:ed)?|reconstruct(?:ed|ion)|grafts?|tunnels?|screws?",
    "signal": r"signal|hyperintens\w+|haze|hazy|bright|dark",
}
_INTENDS = re.compile(
    r"\b(?:(?:i|we) (?:will|need to|have to|must|should|am going to|would)|let me|let us|i'll|we'll|"
    r"(?:the )?(?:task|question|prompt) (?:is|asks|wants)|(?:is|are) (?:graded|scored|defined) (?:as|from|by|on)|"
    r"cannot|can't|unable|not possible|impossible|not assessed|to (?:assess|grade|determine|evaluate))\b",
    re.IGNORECASE,
)
_FINDINGS = {
    "bone_marrow_lesion": r"marrow|bmls?|oedema|edema|bone bruise",
    "cartilage_lesion": r"cartilage|chondral|cartilaginous",
    "osteophyte": r"osteophyt\w+|spurs?|spurring",
    "hoffa_synovitis": r"hoffa\w*|fat pad|infrapatellar fat",
    "effusion_synovitis": r"effusion|fluid|distension|distended",
    "meniscal_extrusion": r"extru\w+|measure|protru\w+|sublux\w+|millimet\w+|mm",
    "meniscal_morphology": r"morpholog\w+|tears?|torn|macerat\w+|wedge|menisc\w+",
    "meniscal_cyst": r"cysts?|tears?|torn",
    "meniscal_hypertrophy": r"hypertroph\w+",
    "meniscal_root_tear": r"roots?",
    "anterior_cruciate_ligament": r"acl|anterior cruciate",
    "posterior_cruciate_ligament": r"pcl|posterior cruciate",
    "patellar_tendon": r"patellar? tendon|tendon|patellar ligament",
}


@cache
def _words(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w)(?:{pattern})(?!\w)", re.IGNORECASE)


def coverage(question: Question, reasoning: str) -> tuple[bool, ...]:
    """Report which attributes of a question a reasoning assesses.

    An attribute is assessed where its grade is stated, or where a sentence describes it. A sentence that announces what
    is to be done, or says that it cannot be done, assesses nothing, and neither does a reasoning about other findings.

    Examples
    --------
    >>> from reasonknee_datasets.moaks import get_question
    >>> coverage(get_question(19), "The cartilage is lost over a small area. I will grade the depth.")
    (True, False)
    """
    stated = stated_grades(question, reasoning)
    asked = _FINDINGS.get(question.finding)
    if asked is not None and not _words(asked).search(reasoning):
        others = "|".join(words for finding, words in _FINDINGS.items() if finding != question.finding)
        if _words(others).search(reasoning):
            return (False,) * len(question.slots)
    told = [step for step in steps(reasoning) if not _INTENDS.search(step)]
    return tuple(
        grade is not None or any(_words(_ASSESSED.get(slot.attribute, slot.attribute)).search(step) for step in told)
        for slot, grade in zip(question.slots, stated, strict=True)
    )


@dataclass(frozen=True, slots=True)
class Grounding:
    """Where a reasoning says that it looks, compared with where it should.

    Attributes
    ----------
    subregion, side : Named
        Against the question's subregion and the knee's side.
    position : Position
        Against the true box.
    """

    subregion: Named
    side: Named
    position: Position

    @property
    def grounded(self) -> bool:
        """The subregion is named, and nothing that is named or stated is wrong."""
        return self.subregion == "right" and self.side != "wrong" and self.position != "outside"


# "slice 3 of 8" counts pictures and not slices; "8 slices" is a count.
_SLICES = re.compile(
    r"\bslices?(?: numbers?| no\.?| ind(?:ex|ices)| #)?[ :=#(\[]{1,3}(?P<low>\d{1,4})"
    r"(?:\s{0,2}(?:-|–|to|and|through|until|,)\s{0,2}(?P<high>\d{1,4}))?(?!\d|\s?(?:of|/)\s?\d|\.\d|\s?mm)",
    re.IGNORECASE,
)


def grounding(
    question: Question, reasoning: str, *, side: Side, box: Box | None = None, slice_axis: int | None = None
) -> Grounding:
    """Check the place that a reasoning names.

    Parameters
    ----------
    question : Question
    reasoning : str
    side : {"left", "right"}
        Of the knee.
    box : Box, optional
        The true box, in voxels of the stored volume.
    slice_axis : int, optional
        The array axis that the slice numbers of the text count. Without it they are not checked. They may count from 0
        or from 1, so that one slice beyond the box is no error.

    Examples
    --------
    >>> from reasonknee_datasets.moaks import get_question
    >>> grounding(get_question(45), "The body of the medial meniscus of the right knee.", side="left")
    Grounding(subregion='right', side='wrong', position='not_stated')
    """
    position: Position = "not_stated"
    if box is not None and slice_axis is not None:
        start, stop = box.start[slice_axis], box.stop[slice_axis]
        numbers = [int(end) for found in _SLICES.finditer(reasoning) for end in found.groups() if end is not None]
        if numbers:
            position = "inside" if all(start - 1 <= number <= stop for number in numbers) else "outside"
    return Grounding(subregion_named(question, reasoning), side_named(side, reasoning), position)


@lru_cache(maxsize=4096)
def agreement(reasoning: str, reference: tuple[str, ...]) -> float:
    """Compute the summary-level ROUGE-L of a reasoning against the reference's steps.

    Each step of the reference is compared with all sentences of the reasoning, by the union of their longest common
    subsequences; the F-measure over all words is returned.

    Parameters
    ----------
    reasoning : str
    reference : tuple of str
        Steps of the true reasoning.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    MissingExtraError
        If rouge-score is not installed.
    """
    said = steps(reasoning)
    if not said:
        return 0.0
    score = _rouge().score("\n".join(reference), "\n".join(said))["rougeLsum"]
    return float(score.fmeasure)


@cache
def _rouge() -> Any:
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise MissingExtraError(
            "rouge-score is not installed, and the agreement of reasoning with the reference is computed with it. "
            'Run: pip install "reasonknee_datasets[bench]".'
        ) from error
    return RougeScorer(["rougeLsum"])
