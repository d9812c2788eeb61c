"""Labels that lead to a number in prose: a word for grades, an attribute, a subject."""

from __future__ import annotations

from dataclasses import dataclass

from reasonknee_datasets.bench.answers.prose_numbers import NumberReader
from reasonknee_datasets.bench.answers.scale_words import scale_of
from reasonknee_datasets.bench.answers.subject_names import Facets, asked_facets
from reasonknee_datasets.bench.answers.subjects import PhraseMatch
from reasonknee_datasets.bench.answers.words import word_list
from reasonknee_datasets.moaks import Slot


@dataclass(slots=True)
class Label:
    """Words that lead to a number: their place, whether one is a word for grades, and the attribute that they name."""

    start: int
    end: int
    graded: bool = False
    slot: Slot | None = None
    subject: bool = False
    described: bool = False


@dataclass(slots=True)
class LabelReader(NumberReader):
    """Find the labels that lead to the numbers of prose."""

    def _label_before(self, at: int) -> Label | None:
        """Find the label whose last word precedes a place; parentheses and quotes may come between."""
        place = at - 1
        while place >= 0 and self.said[place].text in ('"', "'", "]", "}"):
            place -= 1
        if self.last >= 0 and self.marks[self.last].end == place + 1:
            return self._label_at(place)
        if place >= 0 and self.said[place].text == ")":
            floor = max(0, place - 30)
            opening = next((p for p in range(place, floor, -1) if self.said[p].text == "("), None)
            place = place - 1 if opening is None else opening - 1
        return self._label_at(place)

    def _label_at(self, place: int) -> Label | None:
        if place < 0:
            return None
        word = self.said[place].text
        label = Label(place, place + 1)
        if self._is_of_foreign_attribute(place):
            return None
        if word in word_list("grade_words"):
            label.graded = True
        elif word in word_list("verdicts") or word == "assigned":
            label.graded = word != "assigned" or self.said[place - 1].text in word_list("grade_words")
            if not label.graded:
                return None
        elif self.last >= 0 and self.marks[self.last].end == place + 1:
            mark = self.marks[self.last]
            label.start, label.end, label.slot, label.subject = self.last, mark.end, mark.slot, mark.facets is not None
            if mark.foreign_slot or not self._may_lead(mark):
                return None
        else:
            return self._label_in_clause(place)
        return label

    def _may_lead(self, mark: PhraseMatch) -> bool:
        """Check whether a phrase names a facet that the asked subject has: "lateral" alone leads to no effusion."""
        if mark.slot is not None or mark.facets is None:
            return True
        return (
            not asked_facets(self.claims.question.id)
            .keys()
            .isdisjoint(mark.facets.keys() - {"direction"} or mark.facets)
        )

    def _label_in_clause(self, place: int) -> Label | None:
        """Find the subject or attribute that a few words back leads a line: "Size for this lesion: 2"."""
        lowest = max(self.sentence, place - 8)
        for at in range(place, lowest - 1, -1):
            if self.said[at].text in (",", ":", "—") or self._number(at) is not None:
                return None
            if self.said[at].text in word_list("quantities"):
                return None
            if self.said[at].text in ("grade", "score"):
                return Label(at, at + 1, graded=True)
            mark = self.marks.get(at)
            if mark is not None and mark.slot is not None:
                return Label(at, mark.end, slot=mark.slot)
            if mark is not None and mark.facets is not None and mark.end + 3 > place and self._may_lead(mark):
                return Label(at, mark.end, subject=True)
        return None

    def _lead(self, at: int) -> Label | None:
        """Find the label that leads to a number."""
        place, joined, opened, concluded = at - 1, False, False, -1
        lowest = max(self.sentence - 1, at - 9, -1)
        if (
            place >= 0
            and self.said[place].text in word_list("before_number")
            and not (self.said[place].text == "-" and (self._is_spaced(place) or self._is_hyphen(place)))
        ):
            return None
        while (
            place > lowest
            and self.said[place].text in word_list("fillers")
            and self.said[place].text not in ("grade", "score", "moaks", "graded", "scored", "rated")
        ):
            joined = (
                joined or self.said[place].text in word_list("copulas") or self.said[place].text in word_list("joiners")
            )
            opened = opened or self.said[place].text in ("(", "[")
            concluded = place if self.said[place].text in word_list("concludes") and concluded < 0 else concluded
            place -= 1
        if self._is_pronoun(place, at) and self._ends_clause(at):
            return Label(place + 1, place + 2, subject=True, described=True)
        if concluded >= 0 and self._ends_clause(at) and not self.context.contradicts(self.claims.question):
            return Label(concluded, concluded + 1, subject=True, described=True)
        if place < 0:
            return None
        word = self.said[place].text
        if place == at - 1 and word in (",", ":") and (agreeing := self._scale_word_before(at)) is not None:
            return agreeing
        earned = word in word_list("earns") and place > 0
        label = self._plain_label(place) or (self._plain_label(place - 1) if earned else None)
        label, joined = label or self._scale_word_before(at), joined or earned
        if label is not None and (label.graded or label.slot is not None):
            return label
        if opened and not joined and self.said[at - 1].text == "[":
            return None  # "[1]" is a reference
        if opened and not joined and self._closes(at):
            named = word.isalpha() and not word.endswith("s") and word not in word_list("refers")
            described = (
                label is not None
                or word in word_list("describes")
                or (named and self.context.is_asked(self.claims.question))
            )
            return Label(place, place + 1, subject=True, described=True) if described else None
        if not (self._ends_clause(at) or self._is_for_slot(at) or (opened and self._closes(at))):
            return None
        if label is not None and (joined or place == at - 1 or self._is_given(place, at)):
            return label
        if word in word_list("answer_words"):
            return Label(place, place + 1, graded=True)
        return self._label_in_clause_before(place) if joined else None

    def _scale_word_before(self, at: int) -> Label | None:
        """Find a word of the scale that agrees with the number behind it: "normal, 0", "severe: 3"."""
        if at < 2 or self.said[at - 1].text not in (",", ":", "-", "–", "—", "="):
            return None
        slots, number = self.claims.question.slots, self._number(at)
        words = [token.text for token in self.said[max(self.sentence, at - 4) : at - 1]]
        scale = scale_of(slots[0].id)
        grade = next((scale[said] for first in range(len(words)) if (said := " ".join(words[first:])) in scale), None)
        if words and words[-1] in word_list("zero_words") and slots[0].scale != "nominal":
            grade = 0
        if number == 0 and grade is None and self._is_denied_subject(at):
            grade = 0
        if len(slots) > 1 or number is None or grade != number:
            return None
        return Label(at - 2, at - 1, subject=True, described=True) if self._ends_clause(at) else None

    def _is_denied_subject(self, at: int) -> bool:
        """Check for "no extrusion, 0": the grade 0 behind the denial of the asked subject."""
        place = at - 2
        while (
            place > self.sentence and self.said[place].text.isalpha() and self.said[place].text not in word_list("none")
        ):
            place -= 1
        return (
            self.said[place].text in word_list("none")
            and self.last > place
            and self.marks[self.last].facets is not None
        )

    def _is_pronoun(self, place: int, at: int) -> bool:
        """Check for a clause such as "that is a 2" or "it is 2" about the asked subject."""
        if place >= 0 and self.said[place].text == "that":
            place -= 1
        first = [token.text for token in self.said[place + 1 : at]]
        opens = place < 0 or any(
            token.text in word_list("sentence_ends") or token.text in word_list("turns") or token.text == ","
            for token in self.said[max(0, place - 3) : place + 1]
        )
        if first[:1] == [":"]:  # "correction: it should be 1"
            first, opens = first[1:], True
        pronoun = first[:1] in (["it"], ["this"], ["that"]) and not {":", "(", "|", "\n"}.intersection(first)
        single = len(self.claims.question.slots) == 1
        unnamed = not self.context.facets and not self.unknown
        return (
            single
            and pronoun
            and not {"is", "be"}.isdisjoint(first)
            and self.said[at].text != "one"  # "It is one."
            and opens
            and (unnamed or self.context.is_asked(self.claims.question))
        )

    def _is_given(self, place: int, at: int) -> bool:
        """Check for a grade that a clause gives to its object: "I would give the effusion a 1"."""
        if self.said[at - 1].text != "a" or place != at - 2:
            return False
        return any(token.text in word_list("gives") for token in self.said[max(self.sentence, place - 10) : place])

    def _is_of_foreign_attribute(self, place: int) -> bool:
        """Check whether a word for grades is another attribute's: "confidence grade"."""
        marks = (self.marks.get(at) for at in range(max(0, place - 3), place))
        return any(mark is not None and mark.end == place and mark.foreign_slot for mark in marks)

    def _plain_label(self, place: int) -> Label | None:
        word = self.said[place].text
        if self._is_of_foreign_attribute(place):
            return None
        if word in word_list("grade_words"):
            slot = None
            start = place
            if self.last >= 0 and self.marks[self.last].end == place:
                slot = self.marks[self.last].slot
                start = self.last
            return Label(start, place + 1, graded=True, slot=slot)
        if self.last >= 0 and self.marks[self.last].end == place + 1 and not self.marks[self.last].foreign_slot:
            mark = self.marks[self.last]
            if not self._may_lead(mark):
                return None
            return Label(self.last, mark.end, slot=mark.slot, subject=mark.facets is not None)
        return None

    def _label_in_clause_before(self, place: int) -> Label | None:
        """Find a word for grades, or a subject, further back in the clause that ends in "is 2"."""
        for at in range(place, max(self.sentence, place - 24) - 1, -1):
            word = self.said[at].text
            measured = at + 1 < len(self.said) and self.said[at + 1].text in word_list("units")
            led = self.said[place].text in word_list("relatives") and self.last >= 0 and self.marks[self.last].end == at
            if word == ":" and led and self.marks[self.last].slot:
                return Label(place, place + 1, slot=self.marks[self.last].slot)  # "the size: a third, which is a 2"
            if (
                word in word_list("quantities")
                or word in (":", ";", "but", "so", "while")
                or (self._number(at) is not None and not measured)
            ):
                return None
            of_writer = word in ("call", "choice", "pick", "verdict", "reading") and self.said[at - 1].text in (
                "my",
                "our",
            )
            if word in ("grade", "score", "answer", "rating", "grading") or of_writer:
                mark = self.marks.get(self.last) if self.last >= 0 else None
                slot = mark.slot if mark is not None and self.last < at and mark.end == at else None
                return Label(at, at + 1, graded=True, slot=slot)
            mark = self.marks.get(at)
            if mark is not None and mark.slot is not None:
                return Label(at, mark.end, slot=mark.slot)
        return None

    def _ahead(self, at: int) -> tuple[list[Facets], Slot | None]:
        """Find what the clause names behind its number: "grade 2 effusion", "grade 1 for size"."""
        mentions: list[Facets] = []
        slot: Slot | None = None
        place, highest, spoken = at + 1, min(len(self.said), at + 16), 0
        if place < highest and self.said[place].text in (")", "]"):
            place += 1
        while place < highest:
            word = self.said[place].text
            mark = self.marks.get(place)
            if mark is not None:
                if (
                    mark.slot is not None
                    and slot is None
                    and spoken
                    and self.said[place - 1].text in ("for", "in", "to", "(", "the")
                ):
                    slot = mark.slot
                if mark.facets is not None:
                    mentions.append(mark.facets)
                place, spoken = mark.end, spoken + 1
                continue
            if (
                word in word_list("sentence_ends")
                or word in word_list("forward_ends")
                or self._number(place) is not None
            ):
                break
            place, spoken = place + 1, spoken + 1
        return mentions, slot
