"""Words of prose in order, and whether a clause states what it names, or denies, doubts, supposes or only bounds it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from reasonknee_datasets.bench.answers.subject_names import every_word
from reasonknee_datasets.bench.answers.words import Token, pattern, word_list


def is_stated(
    said: Sequence[Token],
    label: slice,
    value: slice,
    *,
    zero: bool,
    choice: bool = False,
    named: bool = False,
    described: bool = False,
) -> bool:
    """Check whether a clause states the grade that it names.

    Parameters
    ----------
    said : sequence of Token
        The whole prose.
    label, value : slice
        Places of the label (as ``grade``) and of its value, with a joiner.
    zero : bool
        The grade says that nothing is there, as "no tear (0)" does: a denied finding supports it.
    choice : bool, optional
        Several grades are named: bounds of a range or not.
    named : bool, optional
        The value follows its name and a colon, which needs no verb.
    described : bool, optional
        The value names itself a grade behind a description: "1 mm beyond the plateau: grade 0" has no bound.

    Examples
    --------
    >>> from reasonknee_datasets.bench.answers.words import normalise, tokens
    >>> def stated(text):
    ...     said = tokens(normalise(text))
    ...     end = len(said) - 2
    ...     return is_stated(said, slice(end - 1, end), slice(end, end + 1), zero=False)
    >>> stated("It is not certain, so I assign grade 2."), stated("It isn't grade 2."), stated("At least grade 2.")
    (True, False, False)
    """
    before = _before(said, label.start)
    last = value.stop - 1
    return not (
        (not choice and not described and _is_bounded(before, said, last))
        or _is_denied(before, said[label.start : value.start + 1], zero=zero)
        or _is_supposed(said, label.start, last)
        or _is_denied_after(said, last)
        or (not named and not choice and _is_uncommitted(before, said, label, value, zero=zero))
        or _is_denied_between(said[label.stop : value.start], choice=choice, zero=zero)
    )


def _sentence_start(said: Sequence[Token], at: int) -> int:
    start, lowest = at, max(0, at - 80)
    while start > lowest and said[start - 1].text not in word_list("sentence_ends"):
        start -= 1
    return start


def _sentence_end(said: Sequence[Token], at: int) -> int:
    end, highest = at, min(len(said), at + 80)
    while end < highest and said[end].text not in word_list("sentence_ends"):
        end += 1
    return end


def _before(said: Sequence[Token], label: int) -> list[str]:
    """Take the words of the clause that stand before the label."""
    start = _sentence_start(said, label)
    first = start
    own_words = [token.text for token in said[label : label + 1]]
    for at in range(label - 1, start - 1, -1):
        word = said[at].text
        follows = said[at + 1].text if at + 1 < len(said) else ""
        if word in word_list("turns") or (word == "rather" and follows != "than"):
            first = at + 1
            break
        if word == "," and at and said[at - 1].text in ("yes", "no"):
            first = at + 1  # "tear no, repair yes"
            break
        if (
            word in (",", "—", "–", "and", ":")
            and at + 1 < label
            and _is_clause([token.text for token in said[at + 1 : label]], own_words)
        ):
            first = at + 1
            break
    return [token.text for token in said[first:label]]


def _is_clause(words: list[str], label: list[str]) -> bool:
    """Check whether the words between a comma and a label open a clause of their own."""
    opening = words[0] if words else label[0]
    return opening in word_list("opens") or any(word in word_list("verbs") for word in words)


def _is_denied(before: list[str], label: Sequence[Token], *, zero: bool) -> bool:
    ends = {",", "(", "-", "–", "—", ":"}
    apart = any(token.text in ends for token in label)
    for at in range(len(before) - 1, -1, -1):
        word = before[at]
        apart = apart or word in ends
        if word == ":" and before[at + 1 :] != [":"]:
            return False
        if word in ("without", "lacking") and apart:
            continue  # "signal abnormality without a tear, morphology 1"
        if word in word_list("denials") or word in word_list("doubts") or word in word_list("formerly"):
            return not (zero and apart and word in word_list("denials"))
    return False


def _is_bounded(before: list[str], said: Sequence[Token], number: int) -> bool:
    at = len(before) - 1
    while at >= 0 and before[at] in word_list("articles"):
        at -= 1
    if at >= 0 and before[at] in word_list("bounds"):
        return True
    start = _sentence_start(said, number)
    if pattern("at_least").search(
        " ".join(token.text for token in (*said[start:number], *said[number + 1 : number + 6]))
    ):
        return True
    after = [token.text for token in said[number + 1 : number + 4]]
    if after and after[0] in ("+", "±"):
        return True
    return (
        len(after) > 1
        and after[0] in ("or", "and")
        and (after[1] in word_list("after_bound") or after[2:3] == ["more"])
    )


def _is_supposed(said: Sequence[Token], label: int, number: int) -> bool:
    """Check for a condition anywhere in the sentence, a question, and a definition of the grade."""
    start, end = _sentence_start(said, label), _sentence_end(said, number)
    words = [token.text for token in said[start:label]]
    for turn in ("but", "however"):
        if turn in words:
            words = words[len(words) - words[::-1].index(turn) :]
    after = [token.text for token in said[number + 1 : end]]
    if any(word in word_list("supposes") for word in words) or any(
        word in ("if", "unless", "provided", "assuming") for word in after
    ):
        return True
    if words[:1] and words[0] in ("were", "had", "should") and len(words) > 1:
        return True
    if any(pair in _SUPPOSING_PAIRS for pair in itertools.pairwise(words)):
        return True
    if (
        _compares(words)
        or _opens_condition(words)
        or _is_general(words)
        or pattern("attributed").search(" ".join([*words, *(token.text for token in said[label:number])]))
    ):
        return True
    if (
        words[:1]
        and words[0] in word_list("gerunds")
        and word_list("verdict_verbs").intersection(after)
        and not word_list("affirmed").intersection(after)
    ):
        return True  # "calling this grade 2 is a reach"
    if words[:1] == ["to"] and len(words) < 6 and "," not in words and after[:1] == [","]:
        return True  # "to reach grade 2, the signal would have to be stronger"
    if ("criteria" in words or "criterion" in words or "definition" in words) and not word_list("meets").intersection(
        words
    ):
        return True
    if "qualify" in words or "must" in words or "must" in after:
        return True
    return end < len(said) and said[end].text == "?"


_SUPPOSING_PAIRS = frozenset(
    (("such", "as"), ("for", "example"), ("in", "case"), ("in", "cases"), ("let", "say"), ("let", "us"))
)


def _opens_condition(words: list[str]) -> bool:
    """Check for "when the whole pad is bright, ...", but not "when graded by MOAKS, ..."."""
    if words[:1] not in (["when"], ["where"], ["once"]) or len(words) < 2:
        return False
    return not words[1].endswith(("ing", "ed")) and words[1] not in ("seen", "read")


def _compares(words: list[str]) -> bool:
    """Check for what is said of another place: "compared with the body, where the extrusion is ..."."""
    if words[:1] not in (["compared"], ["unlike"], ["relative"]) and words[:2] not in (
        ["in", "contrast"],
        ["as", "opposed"],
    ):
        return False
    related = [at for at, word in enumerate(words) if word in word_list("relatives")]
    return bool(related) and "," not in words[related[-1] :]


def _is_general(words: list[str]) -> bool:
    """Check for what holds of any knee: "only diffuse signal deserves grade 3", "it takes more to earn grade 3"."""
    if words[:1] == ["only"] and len(words) > 1 and not {",", "(", ":", "-"}.intersection(words):
        return True
    return "takes" in words and "to" in words[words.index("takes") :]


def _is_denied_after(said: Sequence[Token], number: int) -> bool:
    """Check what the clause says of the grade behind it."""
    at, highest = number + 1, min(len(said), number + 30)
    if at < highest and said[at].text == ")":
        at += 1
    if at < highest and said[at].text == "(":
        closing = next((place for place in range(at, highest) if said[place].text == ")"), None)
        if closing is not None and pattern("disowned").search(" ".join(token.text for token in said[at:closing])):
            return True
        at = at if closing is None else closing + 1
    place = 0
    while (
        at < highest and said[at].text not in word_list("sentence_ends") and said[at].text not in word_list("post_ends")
    ):
        word = said[at].text
        if (
            word in word_list("denials") - word_list("forward_denials")
            or word in word_list("doubts")
            or word in word_list("general")
            or word in ("worse", "higher", "lower")
            or (word == "too" and at + 1 < highest and said[at + 1].text.isalpha())
        ):
            return True
        if word in word_list("needs") and place < 4:
            return True
        if word == "=" and place == 0:
            return True
        at, place = at + 1, place + 1
    rest = _rest(said, number)
    if pattern("taken_back").search(" ".join(token.text for token in said[number + 1 : _sentence_end(said, number)])):
        return True
    if word_list("earlier").intersection(rest) and not word_list("compares").intersection(rest):
        return True
    if at < highest and said[at].text == "in":  # "grade 2 in this region cannot be confirmed"
        return any(
            token.text in ("not", "unlikely", "wrong", "excluded") for token in said[at : _sentence_end(said, at)]
        )
    return False


def _rest(said: Sequence[Token], number: int) -> list[str]:
    """Take the words behind a number up to the next comma or the end of its sentence."""
    words = [token.text for token in said[number + 1 : _sentence_end(said, number)]]
    return words[: words.index(",")] if "," in words else words


def _is_denied_between(between: Sequence[Token], *, choice: bool, zero: bool) -> bool:
    """Check the words between a label and its value."""
    bounds = frozenset[str]() if choice else word_list("bounds") - {"from", "up"}
    denials = word_list("denials") - {"absent", "none"} if zero else word_list("denials")
    return any(token.text in denials or token.text in word_list("doubts") or token.text in bounds for token in between)


def _is_uncommitted(before: list[str], said: Sequence[Token], label: slice, value: slice, *, zero: bool) -> bool:
    """Check whether what governs a label commits the writer to it."""
    if pattern("partial").search(" ".join(before)):
        return True
    at = len(before) - 1
    while at >= 0 and before[at] in word_list("articles") and before[at] not in word_list("evidence"):
        at -= 1
    if (
        at > 0
        and before[at] in word_list("evidence")
        and before[at - 1].isalpha()
        and before[at - 1] not in word_list("satisfied")
    ):
        return True
    if "would" in before and not word_list("writers").intersection(before) and any(word.isdigit() for word in before):
        return True  # "grade 0 would be normal and grade 3 severe"
    if "would" in before and not word_list("writers").intersection(before):
        following = [word for word in before[before.index("would") + 1 :] if not word.endswith("ly")]
        if following and following[0].isalpha() and following[0] not in word_list("equates"):
            return True  # "most readers would give it grade 2"
    leads = _without_articles(before)
    opens = not leads or leads[-1] in (",", "and", "while", "or")
    denied = zero and leads and leads[-1] in word_list("none")  # "without a complete tear (0)"
    if leads and leads[-1].isalpha() and not denied and not _may_govern(leads):
        return True
    return _has_reluctant_verb(before, zero=zero) or (opens and _is_disowned(said, label, value))


def _without_articles(words: list[str]) -> list[str]:
    return [word for word in words if word not in word_list("articles") and word not in ('"', "'", "\n", "#")]


def _may_govern(leads: list[str]) -> bool:
    """Check whether a word before a label is one that states a grade; adverbs are skipped."""
    if leads[-1] == "like":
        leads = [word for word in leads[:-1] if not word.endswith("ly")]
        return leads[-1:] in (["looks"], ["look"], ["looked"])
    for word in reversed(leads):
        if not (word.endswith("ly") or word in word_list("adverbs")):
            return word in word_list("governors") or not word.isalpha() or word in every_word()
    return True


def _has_reluctant_verb(before: list[str], *, zero: bool) -> bool:
    """Check for a writer who does something else than to grade: "I hesitate to call it"."""
    for at, word in enumerate(before):
        following = before[at + 1 :]
        if word in word_list("writers"):
            plain = [each for each in following if each not in word_list("auxiliaries") and not each.endswith("ly")]
            unseen = zero and plain[:1] == ["not"] and plain[1:2] and plain[1] in word_list("sees")
            verb = plain[1] if unseen else next(iter(plain), None)  # "I do not see a cyst (presence 0)"
            if (
                verb is not None
                and verb.isalpha()
                and verb not in word_list("committing")
                and verb not in word_list("enabling")
                and verb not in word_list("claiming")
            ):
                return True
        elif word == "to" and at and following[:1] and following[0] in word_list("assigns"):
            if before[at - 1].isalpha() and before[at - 1] not in word_list("enabling"):
                return True
        elif (
            word == "that"
            and at > 1
            and before[at - 2] in word_list("persons")
            and before[at - 1] not in word_list("claiming")
        ):
            return True
    return False


def _is_disowned(said: Sequence[Token], label: slice, value: slice) -> bool:
    """Check what a clause that begins with its grade goes on to say of it."""
    at, highest = value.stop, min(len(said), value.stop + 8)
    opened = any(token.text == "(" for token in said[max(0, label.start - 1) : value.start])
    if opened and at < highest and said[at].text == ")":
        return False  # "a cyst (presence 1) is attached to the horn"
    for place in range(at, highest):
        word = said[place].text
        if (
            word in word_list("sentence_ends")
            or word in word_list("turns")
            or word in (",", "(", ":", "—", "–", "-", "and", "which", "that")
        ):
            return False
        following = said[place + 1].text if place + 1 < len(said) else ""
        if (word, following) == ("it", "is") or (word == "remains" and following in ("", *word_list("sentence_ends"))):
            return False
        if word in word_list("plain_verbs"):
            return following not in word_list("affirmed") and not (following == "in" or following.isdigit())
        known = (
            word in word_list("governors")
            or word in word_list("affirmed")
            or word in word_list("affirms")
            or word in every_word()
        )
        if word in word_list("other_verbs") or (
            place == at and word.isalpha() and not known and word not in word_list("prepositions")
        ):
            return True
    return False


def weight_of(said: Sequence[Token], label: int) -> int:
    """Weigh a statement: 2 if its sentence corrects an earlier one, 1 if it concludes, -1 if it "would be" so."""
    told = [token.text for token in said[_sentence_start(said, label) : label + 6]]
    words = set(told[: label + 1 - _sentence_start(said, label)])
    corrected = any(
        pair
        in (("should", "be"), ("should", "read"), ("should", "say"), ("should", "have"), ("has", "to"), ("must", "be"))
        or (pair[0] in ("right", "correct", "true", "actual") and pair[1] in word_list("grade_words", "answer_words"))
        for pair in itertools.pairwise(told)
    )
    if words & word_list("corrects") or corrected:
        return 2
    if words & word_list("finally"):
        return 1
    clause = set(_before(said, label))
    return -1 if "would" in clause and not clause & word_list("writers") else 0
