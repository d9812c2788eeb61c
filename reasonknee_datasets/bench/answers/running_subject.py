"""Subject and attribute that prose named last, followed from word to word and over the ends of sentences."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from reasonknee_datasets.bench.answers.number_labels import LabelReader
from reasonknee_datasets.bench.answers.subject_names import (
    OTHER,
    UNNAMED,
    grades_unknown,
    opens_with_aside,
    opens_with_unknown,
)
from reasonknee_datasets.bench.answers.subjects import Context, PhraseMatch, names_whole_subject
from reasonknee_datasets.bench.answers.words import word_list
from reasonknee_datasets.moaks import QUESTIONS, Slot

# Attributes that few findings have: their names alone say which is meant.
_DISTINCT = frozenset(("complete_tear", "insertion_lesion", "repair", "tear_location"))


@dataclass(slots=True)
class SubjectReader(LabelReader):
    """Follow the subject of prose.

    Attributes
    ----------
    slot : Slot, optional
        The slot whose attribute was named last.
    foreign_slot : bool
        The attribute that was named last is one of other questions.
    used : bool
        A value was read for that attribute: in the next sentence it has to be named again.
    adjunct : bool
        Within a phrase of place ("adjacent to ..."), whose noun is not the subject.
    adjunct_foreign : bool
        That phrase names another subject than the asked one.
    locating : bool
        That phrase says where the finding is ("arising from the tibia").
    related : bool
        Within a clause about the noun of that phrase ("..., which is grade 1").
    placed : bool
        The sentence has named a facet of a subject.
    denied_other : Context, optional
        The subject before sentences that only deny other findings ("No fracture is seen.").
    before : Context, optional
        The subject at the end of the last sentence.
    group : list of Slot
        Attributes that were named in a row ("size, number and percent").
    group_end : int
        Place of the word after them.
    seen : bool
        An earlier sentence has named the asked subject as a whole.
    named : bool
        This sentence has.
    aside : list of Context
        The subject before each open parenthesis.
    closing : int
        Character of the stretch where a closing answer begins, -1 without one.
    """

    slot: Slot | None = None
    foreign_slot: bool = False
    used: bool = False
    adjunct: bool = False
    adjunct_foreign: bool = False
    locating: bool = False
    related: bool = False
    placed: bool = False
    denied_other: Context | None = None
    before: Context | None = None
    group: list[Slot] = field(default_factory=list)
    group_end: int = -1
    seen: bool = False
    named: bool = False
    aside: list[Context] = field(default_factory=list)
    closing: int = -1

    def _opens_adjunct(self, at: int) -> bool:
        """Check for a preposition of place after the subject: the noun that it governs is another subject."""
        word, before = self.said[at].text, self.said[at - 1].text if at else ""
        if word == "from":
            return before in word_list("away")
        return word in word_list("adjuncts") or (word == "to" and before in word_list("before_to"))

    def _aside(self, word: str) -> None:
        """Return behind a parenthesis to the subject that was asked, where the parenthesis names another one."""
        if word == "(":
            self.aside.append(self.context.joined([]))
        elif word == ")" and self.aside:
            before = self.aside.pop()
            if before.is_asked(self.claims.question) and self.context.contradicts(self.claims.question):
                self.context = before

    def _relates(self, at: int) -> bool:
        """Check for a clause that goes on about what was named last: "than the lateral one, which is grade 1"."""
        if not self.adjunct_foreign or self.locating:
            return False
        word = self.said[at].text
        first = at + 1 if word == "," else at
        if first + 1 < len(self.said) and self.said[first].text in word_list("relatives"):
            self.related = self.said[first].text != "which" or self.said[first + 1].text in word_list("of_relatives")
            return self.related
        return self.related and word in word_list("of_relatives")

    def _name(self, mark: PhraseMatch, at: int) -> None:
        if mark.facets is not None:
            own = bool(self.context.facets) and not self.context.contradicts(self.claims.question)
            if self.adjunct and own and self.context.joined([mark.facets]).contradicts(self.claims.question):
                self.adjunct_foreign = True
            else:
                self.context.name(mark.facets)
                self.placed = self.placed or bool(mark.facets)
                self.named = self.named or names_whole_subject(self.context, self.claims.question)
        if mark.slot is not None and self._may_return(mark.slot, at):
            self._return_to_asked(mark.slot)
        if mark.slot is not None or mark.foreign_slot:
            self.slot, self.foreign_slot, self.used = mark.slot, mark.foreign_slot, False
        if mark.slot is not None:
            between = [token.text for token in self.said[self.group_end : at][:8]] if self.group else ["."]
            self.group = (
                [*self.group, mark.slot]
                if word_list("listed").issuperset(between) and len(self.group) < 3
                else [mark.slot]
            )
            self.group_end = mark.end
        self.last = at

    def _may_return(self, slot: Slot, at: int) -> bool:
        """Check whether a line's label is an attribute that tells the asked subject apart from the one named last."""
        if slot.attribute not in _DISTINCT or not self._opens_line(at):
            return False
        return self.seen or (OTHER not in self.context.facets.get("finding", ()) and self._heads_block(at))

    def _opens_line(self, at: int) -> bool:
        """Check whether a mark is a line's own label: "ACL Repair = 0"."""
        end = self.marks[at].end
        while at > 0 and self.said[at - 1].text in ("-", "–", "•", "+", "#", ">", '"'):
            at -= 1
        joined = end < len(self.said) and self.said[end].text in word_list("joiners")
        return joined and (at == 0 or self.said[at - 1].text in word_list("sentence_ends"))

    def _heads_block(self, at: int) -> bool:
        """Check whether a mark begins lines that are labelled with every attribute that was asked."""
        led = {
            mark.slot.id for place, mark in self.marks.items() if place >= at and mark.slot and self._opens_line(place)
        }
        return len(led) > 1 and led == {slot.id for slot in self.claims.question.slots}

    def _return_to_asked(self, slot: Slot) -> None:
        """Leave a subject that has no such attribute: a tear location below the tibia is the cyst's again."""
        if not any(
            self.context.is_asked(other)
            for other in QUESTIONS.values()
            if other is not self.claims.question and slot.attribute in {each.attribute for each in other.slots}
        ):
            self.context.facets.clear()
            self.adjunct_foreign = False

    def _note_denied(self, start: int, end: int) -> None:
        """Keep the subject from before a sentence that only says of another one that it is not there."""
        opening = " ".join(token.text for token in self.said[start : start + 3])
        blank = start >= end
        only = re.match(r"(?:there (?:is|are) no|i see no|no|neither)\b", opening) is not None and not any(
            token.text.isdigit() for token in self.said[start:end]
        )
        if not blank:
            self.denied_other = (self.denied_other or self.before or Context({})) if only else None
            self.before = self.context.joined([])

    def _open_sentence(self, start: int) -> None:
        """Take a subject that is not known for another one, unless the asked one has been named."""
        if self.seen and start < len(self.said) and 0 <= self.closing <= self.said[start].start:
            self.context.facets.clear()
        end = next(
            (at for at in range(start, len(self.said)) if self.said[at].text in word_list("sentence_ends")),
            len(self.said),
        )
        marks = [self.marks[at] for at in range(start, end) if at in self.marks]
        named = any(
            mark.facets is not None or (mark.slot is not None and mark.slot.attribute not in ("grade", "presence"))
            for mark in marks
        )
        self.unknown = not named and (
            opens_with_unknown(self.said, start, end) or grades_unknown(self.said, start, end)
        )
        if not named and opens_with_aside(self.said, start, end):
            self.unknown = True
            return
        refers_back = start < end and self.said[start].text in word_list("refers_back")
        if self.unknown and not refers_back and not self.context.is_asked(self.claims.question):
            self.context.name(UNNAMED)
