"""Subjects that no list of names holds: a noun phrase in the place of a subject, none of whose words is known."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from reasonknee_datasets.bench.answers.clause_words import (
    ADVERBS,
    ANSWER_WORDS,
    ARTICLES,
    AUXILIARIES,
    BOUNDS,
    COMMITTING,
    DENIALS,
    DESCRIBES,
    DOUBTS,
    FILLERS,
    FORMERLY,
    FORWARD_ENDS,
    GOVERNORS,
    GRADE_WORDS,
    OPENS,
    REFERS,
    SUPPOSES,
    TURNS,
    UNITS,
    VERBS,
    VERDICTS,
    words,
)
from reasonknee_datasets.bench.answers.prose_tokens import Token
from reasonknee_datasets.bench.answers.scale_words import NUMBER_WORDS, scale_of
from reasonknee_datasets.bench.answers.subject_names import every_word
from reasonknee_datasets.moaks import SLOTS

_NEUTRAL = words(
    "knee knees joint finding findings abnormality abnormalities appearance appearances extent degree amount area "
    "areas region zone portion pattern picture mri scan scans exam examination case condition feature features "
    "intensity hyperintensity hypointensity brightness enhancement inflammation swelling process volume quantity "
    "distension distention synovium synovial tissue fluid capsule signals signal tear tears defect damage wear "
    "loss status grade question questions side right left structure structures total remaining rest whole entire "
    "much most some any each everything nothing something these those they them he she you here above below "
    "following structured summary step analysis reasoning conclusion report evaluation output comment explanation "
    "details notes image images section overview context information data json table format response prompt task "
    "system model criteria scale classification clinical radiological radiology imaging sagittal coronal axial "
    "sequence sequences t1 t2 pd stir weighted increased decreased diffuse focal marked mild moderate severe "
    "minimal slight subtle extensive bright dark high low new old meniscus meniscal bone bones bony outgrowth "
    "margin margins surface subchondral articular marrow lesions cystic component insertion origin site location "
    "reconstruction graft surgery repair anatomy fibers fibres discontinuity bursa collection free body bodies "
    "fragment knee's comparison correspondence likewise additionally moreover furthermore finally first second "
    "third next last again also only even please thanks ok okay sure yes no reasons reason basis contrary "
    "distance measurement width height length thickness diameter position observation observations other others "
    "same type kind sort part parts aspect aspects interpretation opinion attribute attributes number size depth "
    "percent percentage presence morphology user assistant everywhere throughout accordingly patient patients "
    "taken together back forth initial revised wait hmm well looking actually edit update correction rim edge "
    "spot notch compartment line band strip trace bit lot majority share half quarter level severity "
    "characteristics evidence physiologic physiological large small medium tiny big massive thin thick thickened "
    "preserved continuous discontinuous homogeneous heterogeneous irregular regular unremarkable truncated flap "
    "visible visualised visualized good poor adequate hello certainly course confidence final"
)
_STOPS = words(
    ". , ; : ( ) - – — | = is are was were be has have had shows show demonstrates looks look seems appears "
    "remains measures receives corresponds represents exhibits displays contains can could should would will may "
    "might must does do did meets merits warrants deserves equals gets as at with in on by from and or but which "
    "that grade graded score scored rated therefore thus hence so present seen noted visible ? !"
)
_LEADING = words(
    "a an the this that there is are also # > * • - – — \" ' | finding findings structure : i we see note and"
)
_PREPOSITIONS = words(
    "taking looking reviewing weighing judging comparing assessing summing examining after given based from with "
    "in on at for by upon during despite having considering as since because when while although though to of "
    "within among through per using following under over across without before between"
)
_SEEN_ON = words(", mri imaging images scans t1 t2 pd")
_ASIDE = words("quality confidence certainty probability")
_KINDS = words("lesion lesions tear tears disease syndrome defect cyst edema oedema bursa body sign arthritis injury")
_ADJECTIVES = ("al", "ic", "ous", "ive", "ed", "ense", "ent", "ant", "ary", "ar", "able", "ible", "ate", "ing", "oid")
_OF = words("of for to grade score rate classify")
_CONDITION = re.compile(
    r"(?!.*(?:synovitis|bursitis|diagnosis|prognosis|osteophytes?|hypertrophy|basis|emphasis|analysis|hypothesis)$)"
    r"[a-z]{3,}(?:itis|osis|omas?|pathy|plasty|phytes?|malacia|trophy|ectomy|algia|desis|genesis)"
)


@cache
def _known() -> frozenset[str]:
    scales = {word for slot in SLOTS for phrase in scale_of(slot.id) for word in phrase.split()}
    lists = (ADVERBS, ANSWER_WORDS, ARTICLES, AUXILIARIES, BOUNDS, COMMITTING, DENIALS, DESCRIBES, DOUBTS, FILLERS)
    more = (FORMERLY, FORWARD_ENDS, GOVERNORS, GRADE_WORDS, OPENS, REFERS, SUPPOSES, TURNS, UNITS, VERBS, VERDICTS)
    return frozenset(scales).union(every_word(), NUMBER_WORDS, _NEUTRAL, *lists, *more)


def _is_known(word: str) -> bool:
    return not word.isalpha() or len(word) < 3 or word in _known() or word.endswith(("ly", "ing"))


def names_condition(word: str) -> bool:
    """Check whether a word is formed as the name of a disease or an operation that no question asks about.

    Examples
    --------
    >>> [names_condition(word) for word in ("chondrocalcinosis", "enchondroma", "synovitis", "diagnosis")]
    [True, True, False, False]
    """
    return _CONDITION.fullmatch(word) is not None and word not in every_word()


def _phrase(said: Sequence[Token], at: int, end: int) -> list[str]:
    """Take the words of a phrase from a place up to the verb or mark that ends it."""
    found: list[str] = []
    while at < end and said[at].text not in _STOPS and len(found) < 5:
        found.append(said[at].text)
        at += 1
    return [] if len(found) > 4 or (at < end and said[at].text in ("?", "!")) else found


def is_unknown_phrase(said: Sequence[Token], at: int, end: int) -> bool:
    """Check whether the noun that a phrase ends in is not known, or what tells its kind apart: "cyclops lesion"."""
    phrase = _phrase(said, at, end)
    if not phrase or phrase[0] in _PREPOSITIONS:
        return False
    if not _is_known(phrase[-1]):
        return phrase[-1] not in _ASIDE
    kind = phrase[-2] if len(phrase) > 1 and phrase[-1] in _KINDS else ""
    return bool(kind) and not _is_known(kind) and not kind.endswith(_ADJECTIVES)


def opens_with_unknown(said: Sequence[Token], start: int, end: int) -> bool:
    """Check whether a sentence begins with a subject that is not known: "The fabella is seen."."""
    at, end = start, min(end, len(said))
    if at < end and said[at].text in _PREPOSITIONS:
        turn = next((place for place in range(at + 1, min(end, at + 12)) if said[place].text == ","), at + 1)
        if turn + 2 >= end or said[turn].text not in _SEEN_ON or said[turn + 1].text != "the":
            return False
        at = turn + 1
    while at < end and said[at].text in _LEADING and at - start < 6:
        at += 1
    return is_unknown_phrase(said, at, end)


def opens_with_aside(said: Sequence[Token], start: int, end: int) -> bool:
    """Check whether a sentence is about the images or the writer: "The image quality is rated 2"."""
    at = start
    while at < end and said[at].text in _LEADING and at - start < 6:
        at += 1
    return not _ASIDE.isdisjoint(_phrase(said, at, end)[-1:])


def grades_unknown(said: Sequence[Token], start: int, end: int) -> bool:
    """Check whether a sentence grades an object that is not known: "I would grade the fabella as 2"."""
    return any(
        said[at].text in _OF
        and at + 2 < end
        and said[at + 1].text in ("the", "this", "an", "a")
        and is_unknown_phrase(said, at + 2, end)
        for at in range(start, end)
    )
