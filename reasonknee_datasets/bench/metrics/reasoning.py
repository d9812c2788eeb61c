"""Metrics of the reasoning of one text: consistency, coverage, grounding and agreement."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Literal

from reasonknee_datasets.bench.answers import parse_answer
from reasonknee_datasets.bench.metrics.reasoning_text import (
    ASSESSED,
    FINDINGS,
    GRADE,
    HEDGES,
    INTENDS,
    IS_PRESENT,
    LABELS,
    NO,
    ON_BONE,
    PRESENT,
    SYNOVITIS,
    WORD,
    Named,
    Side,
    asked_place,
    fits,
    named_places,
    side_named,
    steps,
    subregion_named,
    whole_words,
)
from reasonknee_datasets.boxes import Box
from reasonknee_datasets.errors import MissingExtraError
from reasonknee_datasets.moaks import Question

Stated = Literal["supported", "contradicted", "not_stated"]
"""Agreement of the reasoning with a grade of the final answer."""

Position = Literal["inside", "outside", "not_stated"]
"""Where stated slices lie, compared with the true box."""

CONFLICTING = -2
"""The grade of a slot for which the reasoning states several, or one that its scale does not have."""


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
    if not WORD.search(reasoning):
        return (None,) * len(question.slots)
    found: list[int | None] = []
    parsed = parse_answer(question, reasoning)
    for answer, listed in zip(parsed.slots, _listed_grades(question, reasoning), strict=True):
        if answer.grade is None and answer.reason in ("conflicting", "out_of_range"):
            found.append(CONFLICTING)
        elif answer.grade is None:
            found.append(None if not listed else listed[0] if len(set(listed)) == 1 else CONFLICTING)
        else:
            # The parser follows corrections, and the last word of a text is what they leave.
            found.append(answer.grade if not listed or listed[-1] == answer.grade else CONFLICTING)
    return tuple(found)


def _listed_grades(question: Question, reasoning: str) -> list[list[int]]:
    """Read what the parser of answers leaves out: ``size 2 and depth 1``, and ``a cyst is absent``.

    Only sentences count of which the running subject is the asked one, and which state without hedging.
    """
    grades: list[list[int]] = [[] for _ in question.slots]
    about_another = False
    for step in steps(reasoning):
        about_another = _names_another(question, step, about_another)
        if about_another or INTENDS.search(step):
            continue
        for place, slot in enumerate(question.slots):
            for match in whole_words(LABELS[slot.attribute] + GRADE).finditer(step):
                grade = int(match["grade"])
                if not HEDGES.search(_clause(step, match.start())):
                    grades[place].append(grade if grade in slot.legal else CONFLICTING)
            grades[place].extend(_presences(question, slot.attribute, step))
    return grades


def _presences(question: Question, attribute: str, step: str) -> Iterator[int]:
    """Read ``no root tear``, ``a cyst is present`` and their like as 0 and 1."""
    noun = PRESENT.get(question.finding if attribute == "presence" else attribute)
    for found in () if noun is None else whole_words(NO + noun + IS_PRESENT).finditer(step):
        stated = found["no"] or found["present"] or found["absent"]
        if not stated or (found["no"] and found["absent"]) or HEDGES.search(_clause(step, found.start())):
            continue
        yield int(not found["no"] and (found["present"] is not None) != (found["negated"] is not None))


def _clause(step: str, end: int) -> str:
    return step[max(0, end - 120) : end]


def _names_another(question: Question, step: str, before: bool) -> bool:
    """Report whether the subject is another than the asked one behind a sentence that may name it."""
    for place in named_places(step):
        fit = fits(question, place)
        if fit is not None:
            before = not fit
        elif place.structures and not place.structures & asked_place(question).structures:
            before = True
    own = FINDINGS.get(question.finding)
    if question.finding in ON_BONE and own and not whole_words(own).search(step):
        others = "|".join(FINDINGS[each] for each in ON_BONE if each != question.finding)
        return before or whole_words(others).search(step) is not None
    return before


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
    if not _is_about(question, reasoning):
        return (False,) * len(question.slots)
    told = [step for step in steps(reasoning) if not INTENDS.search(step)]
    return tuple(
        grade is not None
        or any(whole_words(ASSESSED.get(slot.attribute, slot.attribute)).search(step) for step in told)
        for slot, grade in zip(question.slots, stated, strict=True)
    )


def _is_about(question: Question, reasoning: str) -> bool:
    """Report whether a reasoning is about the asked finding; one that names no finding is."""
    mentioned = {finding: len(whole_words(words).findall(reasoning)) for finding, words in FINDINGS.items()}
    asked = mentioned.get(question.finding)
    if asked is None or not any(mentioned.values()):
        return True
    rivals = next((group for group in (ON_BONE, SYNOVITIS) if question.finding in group), ())
    return asked > 0 and asked >= max((mentioned[each] for each in rivals), default=0)


@dataclass(frozen=True, slots=True)
class Grounding:
    """Place that a reasoning names, compared with the asked one.

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
        or from 1, so that one slice beyond the box is not an error.

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
    if not said or not reference:
        return 0.0
    score = _rouge().score("\n".join(steps("\n".join(reference))), "\n".join(said))["rougeLsum"]
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
