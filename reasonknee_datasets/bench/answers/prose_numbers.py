"""Numbers of prose: which tokens are numbers, where a choice of numbers ends, and what makes one no grade."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from reasonknee_datasets.bench.answers.candidates import Claims
from reasonknee_datasets.bench.answers.grade_values import NUMBER_WORDS
from reasonknee_datasets.bench.answers.subjects import Context, PhraseMatch
from reasonknee_datasets.bench.answers.words import EXTREMES, ROMAN, Token, word_list


@dataclass(slots=True)
class NumberReader:
    """Find the numbers among the words of prose, and those that are measurements, counts or scales.

    Attributes
    ----------
    claims : Claims
        Where what is found goes.
    text : str
        The stretch of text that is read.
    context : Context
        The subject that was named last.
    said : list of Token
        Its words.
    marks : dict of int to PhraseMatch
        Its phrases, by the place of their first word.
    last, sentence : int
        Place of the last phrase, and of the sentence's first word.
    unknown : bool
        The sentence is about a subject that is not known.
    """

    claims: Claims
    text: str
    context: Context
    said: list[Token] = field(default_factory=list)
    marks: dict[int, PhraseMatch] = field(default_factory=dict)
    sentence: int = 0
    last: int = -1
    unknown: bool = False

    def _is_spaced(self, at: int) -> bool:
        token = self.said[at]
        return self.text[token.end : token.end + 1] in (" ", "\t")

    def _number(self, at: int) -> int | float | None:
        """Take a token as a number; a Roman one only behind a word for grades."""
        word = self.said[at].text
        if word.isdigit() and word.isascii():
            return int(word) if len(word) < 7 else 1_000_000
        if word == "one" and at and self.said[at - 1].text in word_list("pronoun_ones"):
            return None  # "this one"
        if word in NUMBER_WORDS:
            return NUMBER_WORDS[word]
        if word in EXTREMES:
            return EXTREMES[word]
        if word[0].isdigit() and "." in word:
            return float(word) if len(word) < 12 else 1e9
        if word in ROMAN and at and self._leads_to_roman(at):
            return ROMAN[word]
        return None

    def _leads_to_roman(self, at: int) -> bool:
        following = self.said[at + 1].text if at + 1 < len(self.said) else ""
        before = self.said[at - 1].text
        if before in word_list("joiners") | {"is", "are"} and self._ends_clause(at):
            said = range(max(self.sentence, at - 16), at - 1)
            if any(
                self.said[place].text in ("grade", "score")
                or (place in self.marks and self.marks[place].slot)
                or (place == at - 2 and self.last >= 0 and self.marks[self.last].end == at - 1)
                for place in said
            ):
                if self.said[at].text == "i" and following == "\n":
                    following = self.said[at + 2].text if at + 2 < len(self.said) else ""
                return self.said[at].text != "i" or following in word_list("sentence_ends") | {"", "(", ","}
        if before in word_list("joiners") and at > 1:
            before = self.said[at - 2].text
        leads = before in ("grade", "score", "graded", "scored") or any(
            mark.slot is not None and mark.end in (at, at - 1) for place, mark in self._recent(at)
        )
        return leads and following not in word_list("not_roman")

    def _recent(self, at: int) -> Iterator[tuple[int, PhraseMatch]]:
        if self.last >= 0 and self.last in self.marks and self.last < at:
            yield self.last, self.marks[self.last]

    def _place_after(self, at: int, end: int) -> int:
        while at < len(self.said) and self.said[at].start < end and self.said[at].text != "\n":
            at += 1
        return at

    def _is_hyphen(self, place: int) -> bool:
        return (
            place > 0 and self.said[place - 1].end == self.said[place].start and self.said[place - 1].text[-1].isalpha()
        )

    def _closes(self, at: int) -> bool:
        return at + 1 < len(self.said) and self.said[at + 1].text in (")", "]")

    def _cartilage_code(self, at: int) -> tuple[int, tuple[int, int]] | None:
        """Read size and full-thickness loss as MOAKS writes them, "2.1" or "2/1", with the place behind the code."""
        attributes = [slot.attribute for slot in self.claims.question.slots]
        word = self.said[at].text
        end = at + 3 if self._is_digit(at + 2) and self.said[at + 1].text == "/" else at + 1
        code = f"{word}/{self.said[at + 2].text}" if end == at + 3 else word
        # "2/3" is also "2 of 3"; no subregion has more full-thickness loss than lesion.
        legal = re.fullmatch(r"[0-3]\.[0-3]|[0-3]/[0-2]", code) and code[2] <= code[0]
        if attributes != ["size", "depth"] or not legal or not self._ends_clause(end - 1):
            return None
        return end, (int(code[0]), int(code[2]))

    def _ends_clause(self, at: int) -> bool:
        place = at + 1
        while place < len(self.said) and self.said[place].text in ('"', "'", ")", "]", "}", "$"):
            place += 1
        if place >= len(self.said):
            return True
        following = self.said[place].text
        return (
            following in word_list("sentence_ends")
            or following in word_list("forward_ends")
            or following in ("(", "/", "[", "-", "for", "in", "on", "here", "overall", "today", "too")
        )

    def _is_measure(self, at: int) -> bool:
        """Check whether what follows a number makes it a measurement, a count or an entry of a scale."""
        next_label = self.marks.get(at + 1)
        if next_label is not None and next_label.slot is not None and self._is_digit(next_label.end):
            return False  # "number 0 percent 0"
        following = self.said[at + 1].text if at + 1 < len(self.said) else ""
        if following in ("/", "of", "out") or following in word_list("units"):
            return not (following == "/" and not self._is_digit(at + 2))
        behind = [token.text for token in self.said[at + 2 : at + 4]]
        if following in ("-", "–", "to") and behind[1:] and behind[0][0].isdigit() and behind[1] in ("mm", "cm", "%"):
            return True  # "protrudes 3-5 mm"
        if following == "for" and at + 2 < len(self.said) and self.said[at + 2].text in ("a", "an"):
            return True
        if following in ("when", "where", "if", "unless") or (
            following in word_list("means") and self._is_told_apart(at) and not self._is_for_slot(at)
        ):
            return True
        return following == "=" or (following == ":" and self._is_digit(at) and self._is_digit(at + 2))

    def _is_for_slot(self, at: int) -> bool:
        """Check whether a number is said to be for an attribute that was asked: "2 for size"."""
        place = at + 1
        while place < min(len(self.said), at + 4) and self.said[place].text in ("for", "in", "to", "the", "("):
            place += 1
        mark = self.marks.get(place) if place > at + 1 else None
        return mark is not None and mark.slot is not None

    def _listed(self, at: int) -> int:
        """Find the end of a list of grades: "0, 1, 2 or 3"."""
        end = at
        while end + 2 < len(self.said) and self.said[end + 1].text == "," and self.said[end + 2].text.isdigit():
            following = self.said[end + 3].text if end + 3 < len(self.said) else ""
            if (
                following in word_list("units")
                or following == "."
                or (following.isalpha() and following not in ("or", "and"))
            ):
                break
            end += 2
        return end

    def _is_told_apart(self, at: int) -> bool:
        """Check for a second number of one definition: "0 for no and 1 for yes"."""
        means = self.said[at + 1].text
        for place in range(max(self.sentence, at - 12), at - 2):
            if self._number(place) is not None and self.said[place + 1].text == means:
                return True
        for place in range(at + 2, min(len(self.said) - 2, at + 12)):
            word = self.said[place].text
            if word in word_list("sentence_ends"):
                return False
            if word in ("and", "or", ","):
                other = place + 2 if self.said[place + 1].text in word_list("grade_words") else place + 1
                following = self.said[other + 1].text if other + 1 < len(self.said) else ""
                if other < len(self.said) and self._number(other) is not None and following in word_list("means"):
                    return True
        return False

    def _is_digit(self, at: int) -> bool:
        return at < len(self.said) and self.said[at].text[0].isdigit()

    def _range(self, at: int) -> tuple[int, bool]:
        """Find the end of a number, or of the choice that it begins: "1-2", "1 or grade 2"."""
        listed = self._listed(at)
        if listed > at:
            return listed, True
        place = at + 1
        if (
            place + 1 < len(self.said)
            and self.said[place].text == ","
            and self.said[place + 1].text in word_list("perhaps")
        ):
            place += 1
        if place + 1 >= len(self.said) or self.said[place].text not in word_list("range") | word_list("perhaps"):
            return at, False
        place += 1
        while place < len(self.said) and self.said[place].text in (
            "grade",
            "score",
            "moaks",
            "a",
            "even",
            "possibly",
            "perhaps",
            "maybe",
        ):
            place += 1
        if place >= len(self.said) or self._number(place) is None:
            return at, False
        following = self.said[place + 1].text if place + 1 < len(self.said) else ""
        if following in word_list("units") or (
            self.said[at + 1].text in ("-", "–", "—") and following in ("-", "–", "to")
        ):
            return at, False
        return place, self._number(place) != self._number(at)
