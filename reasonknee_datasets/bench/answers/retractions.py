"""Sentences around an object or a statement that retract it."""

from __future__ import annotations

import re

from reasonknee_datasets.bench.answers.grade_values import refuses
from reasonknee_datasets.bench.answers.subject_names import every_word
from reasonknee_datasets.bench.answers.words import normalise, pattern, word_list

_TURN = re.compile(
    r"\b(?:but|however|yet|still|nevertheless|nonetheless|based|therefore|thus|hence|so|instead|my (?:best|own|final)"
    r"|correct(?:ed)?(?: \w+){0,2}|here is (?:my|the)|the (?:right|correct) (?:answer|one))\b|, (?:i|we|my) "
)
_SENTENCE = re.compile(r"[.!?;](?=\s|$)|\n\s*\n|[()]")
# A template that was filled in is an answer.
_FILLED = re.compile(
    r"\b(?:filled(?: in| out)?|completed|populated) (?:\w+ )?(?:template|format|schema|form)\b"
    r"|\b(?:template|format|schema|form)\b,? (?:\w+ ){0,2}(?<!to be )(?<!must be )(?<!should be )(?<!not )"
    r"(?:filled|completed|populated)\b"
)
# A clause that takes back what its sentence said before.
_REVERSAL = re.compile(r"\b(?:but|however|yet|nevertheless|nonetheless)\b")
_CONSEQUENCE = re.compile(r"\b(?:then|in (?:that|this|such a) case)\b")
_WORD = re.compile(r"[a-z]{2,}")
_GOES_ON = re.compile(r"(?:is|was|would|does|should|must|can|has|looks|seems) ")
# A question to the reader, which takes nothing back: "Would you like me to look at the menisci, for example?"
_OFFER = re.compile(
    r"(?:^|(?<=[.!?\n] )|(?<=\n))(?:would|do|shall|should|can|may|could) (?:you|i|we)\b[^.!?\n]*\?", re.IGNORECASE
)
# The form that `normalise` gives to "replace the size by 2": it edits one attribute and takes nothing back.
_EDIT = re.compile(r"correction: [a-z ]{2,60} is (?:grade )?[0-8]\b")
_CLAUSE = re.compile(
    r"\b(?:because|since|as there|although|whereas|while|despite|given (?=the|that|how))\b|, (?=but|so|and|as|which)"
)
_AHEAD = re.compile(r"\b(?:the following|following|below|what follows|next|here|this is not|follows|that follows)\b")


def takes_back(sentence: str) -> bool:
    """Check whether a normalised sentence says that the answer before it is none.

    Examples
    --------
    >>> [takes_back(text) for text in ("none of this is my answer", "this is not a tear", "the opposite is true")]
    [True, False, True]
    """
    return pattern("takes_back").search(sentence.strip(" .!,:*-\n")) is not None


def speaks_against(sentence: str, *, errors_only: bool = False) -> bool:
    """Check whether a sentence speaks of the answer before it in another way than one that lets it stand.

    A retraction comes in any words, an explanation in few: so a sentence about the answer, its writer or its reader is
    harmless only where it speaks of the knee, gives a reason, or is a usual remark (advice for the clinic, a hedge).
    With `errors_only`, for what leads to an object and for prose that states a grade itself, only words of error and
    replacement count.

    Examples
    --------
    >>> [speaks_against(text) for text in ("leave that field blank", "the grade may be wrong", "no effusion is seen")]
    [True, False, False]
    """
    return any(_is_against(clause, errors_only=errors_only) for clause in _CLAUSE.split(sentence) if clause)


def _is_against(clause: str, *, errors_only: bool) -> bool:
    clause = clause.strip(" .!,:*-\n")
    itself = pattern("answer_itself").search(clause) is not None
    if pattern("harmless").search(clause) or not (itself or pattern("engages").search(clause)):
        return False
    if pattern("against").search(clause):
        return True
    return not errors_only and clause.count(" ") > 1 and pattern("keeps").search(clause) is None


def without_offers(text: str) -> str:
    """Remove questions to the reader about what to do next.

    Examples
    --------
    >>> without_offers("Grade 2. Would you like me to grade the menisci, for example?")
    'Grade 2. '
    """
    return _OFFER.sub("", text)


def takes_back_any(text: str) -> bool:
    """Check whether any sentence of a text takes back the answer before it, or goes on to say so: "... is wrong"."""
    text = normalise(text).lstrip()
    said = sentences(f"this {text}" if _GOES_ON.match(text) else text)
    return any(takes_back(each) or speaks_against(each) for each in said if not _EDIT.search(each))


def sentences(text: str) -> list[str]:
    """Split normalised text into sentences without outer blanks and marks."""
    return [part.strip(" \n:#-")[:400] for part in _SENTENCE.split(text) if part.strip(" \n:#-")]


def _announces(last: str) -> bool:
    """Check whether the words right before an object can introduce an answer: they mention one, or the knee.

    Examples
    --------
    >>> [_announces(text) for text in ("putting it all together", "the grade is", "my crystal ball says", "filler")]
    [True, True, False, False]
    """
    if '"' in last or "{" in last or any(pattern(name).search(last) for name in ("announces", "keeps", "harmless")):
        return True
    letters = [each for each in last if each.isalpha()]
    if 2 * sum(not each.isascii() for each in letters) > len(letters):
        return True  # in a script that is not read: most likely a description
    return all(word in word_list("links") or word in every_word() for word in _WORD.findall(last))


def _is_groundless(said: list[str]) -> bool:
    """Check whether sentences deny or only suppose the object that follows."""
    if any(pattern("baseless").search(_REVERSAL.split(sentence)[-1]) for sentence in said):
        return True
    ruling = ", ".join(said[-2:]) if _CONSEQUENCE.search(said[-1]) else said[-1]
    return pattern("supposing_lead").search(_REVERSAL.split(ruling)[-1].strip(" ,")) is not None


def disowns(lead: str, *, first: bool = True) -> str | None:
    """Return why what leads to an object introduces no answer, ``placeholder`` or ``retracted``; None where it does.

    What is said anywhere before the first object concerns it; before a later one, only its own sentence does.

    Examples
    --------
    >>> [disowns(lead) for lead in ("The following is wrong: ", "I am not sure about the cyst, but: ", "Template:")]
    ['retracted', None, 'placeholder']
    """
    lead = normalise(lead)
    lead = _FILLED.sub("", lead)
    if pattern("placeholder").search(lead[-80:].rstrip(" \n,:.#-")):
        return "placeholder"
    said_before = ["", "", *(sentence.strip(" .!?,") for sentence in sentences(lead))]
    last = said_before[-1]
    if _is_groundless(said_before if first else said_before[-1:]):
        return "placeholder"
    turned = list(_TURN.finditer(last))
    said = last[turned[-1].end() :] if turned and not last.startswith("this is not") else last
    if not turned and refuses(last):
        return "placeholder"
    ahead = _AHEAD.search(last) is not None
    if lead.rstrip(" \n").endswith((".", "!", "?")):
        return (
            "retracted" if ahead and (pattern("not_mine").search(said) or _is_against(said, errors_only=True)) else None
        )
    if pattern("not_yet").search(last):
        return "placeholder"
    if not lead.rstrip(" :\n").endswith(")") and not _announces(last):
        return "retracted"
    foreign = any(pattern(name).search(said) for name in ("not_mine", "attributed", "elsewhere"))
    return "retracted" if foreign or _is_against(said, errors_only=True) else None
