"""Statements of prose in reading order: the values that it gives to the attributes of the asked subject."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from reasonknee_datasets.bench.answers.clauses import is_stated, weight_of
from reasonknee_datasets.bench.answers.grade_values import CONFLICTING, OUT_OF_RANGE, Reading, read_text
from reasonknee_datasets.bench.answers.number_labels import Label
from reasonknee_datasets.bench.answers.retractions import speaks_against, takes_back
from reasonknee_datasets.bench.answers.running_subject import SubjectReader
from reasonknee_datasets.bench.answers.scale_words import is_zero, scale_of
from reasonknee_datasets.bench.answers.subject_names import Facets
from reasonknee_datasets.bench.answers.subjects import closing_place, find_phrases, names_whole_subject
from reasonknee_datasets.bench.answers.words import EXTREMES, tokens, word_list
from reasonknee_datasets.moaks import Slot

# A value behind a label is short; a longer one is a sentence.
_LONGEST = 200
_OF_EARLIER = re.compile(r"\b(?:first|earlier|initial|previous|original|old|preliminary|before|former|above)")
_STRETCH = 20_000
_PURE = re.compile(r"(?:(?:moaks )?(?:grade|score)\s*[:=]?\s*)?[0-9]{1,6}(?:\.[0-9]{1,6})?[.!]?")
_MEASURED = re.compile(r"(?:about |approximately |ca |~ ?)?[0-9]+(?:\.[0-9]+)? ?(?:mm|cm|%|percent)")
# A sentence with a number of its own states a grade: its clauses decide whether it holds.
_UNNUMBERED = re.compile(r"[^0-9]*")
# "size: between 10 and 75 %: 2"
_BANDED = re.compile(r"(?P<band>[^:=\n]{0,60}[0-9] ?(?:mm|cm|%|percent)[^0-9:=\n]{0,40}?)[ \t]?[:=][ \t]?(?P<n>[0-8])")
_NONE_SEEN = re.compile(r"none(?: (?:is |are )?(?:seen|present|detected|identified|visible|found|noted))?[.!]?")
_CUT = re.compile(
    r",\s*(?=[\"']?[a-z%])|\s(?=[a-z][a-z /\-]{1,40}[:=])|\.\s|;|\s/\s"
    r"|\s(?:and|with|because|since|as|for|based|given|which|but|while)\s(?=[a-z])"
)


@dataclass(slots=True)
class _Claim:
    slot: Slot
    reading: Reading
    rule: str
    weight: int
    sentence: int = -1


@dataclass(slots=True)
class StatementReader(SubjectReader):
    """Read the statements of a text about one question.

    Attributes
    ----------
    lowest : int
        Weight below which a statement is left out.
    retracted : bool
        A sentence has retracted the statements before it.
    found : list
        Claims so far, with their weights.
    chained : Label, optional
        Label of the last number of a list ("graded 2 for size, 1 for number").
    """

    lowest: int = -1
    retracted: bool = False
    found: list[_Claim] = field(default_factory=list)
    chained: Label | None = None

    def run(self) -> None:
        """Read the whole text and add what it states to the claims."""
        closing = closing_place(self.claims.question, self.text)
        start = 0
        for stretch in _stretches(self.text):
            self.text, self.said = stretch, tokens(stretch)
            self.closing = -1 if closing is None else closing - start
            start += len(stretch)
            self.marks = find_phrases(self.claims.question, self.said)
            self.group, self.group_end, self.last, self.sentence = [], -1, -1, 0
            at = 0
            self._open_sentence(0)
            while at < len(self.said):
                at = self._step(at)
            self._end_sentence(len(self.said))
        self._join()

    def _step(self, at: int) -> int:
        word = self.said[at].text
        mark = self.marks.get(at)
        if mark is not None:
            self._name(mark, at)
            return mark.end
        ordered = self._in_order(at + 1 if word in word_list("joiners") else at)
        if ordered is not None:
            return ordered
        self._aside(word)
        if word in word_list("sentence_ends"):
            self._end_sentence(at)
        elif word in word_list("adjunct_ends") and not self._relates(at):
            self.adjunct = self.adjunct_foreign = self.related = False
        elif self._opens_adjunct(at):
            self.adjunct, self.locating = (
                True,
                word in word_list("locating"),
            )  # an osteophyte that "arises from the tibia" is at the tibia
        if word in word_list("joiners") or (word in ("–", "—", "-") and self._is_spaced(at)):
            return self._labelled(at) or at + 1
        if word == "\n":
            return self._next_line(at) or at + 1
        if self._number(at) is not None:
            return self._numbered(at)
        if word in ("yes", "no"):
            return self._answered(at)
        return at + 1

    def _end_sentence(self, at: int) -> None:
        start, end = self.sentence, at
        self.seen = self.seen or self.named or names_whole_subject(self.context, self.claims.question)
        self.named, self.aside = False, []
        if start < end:
            sentence = self.text[self.said[start].start : self.said[end - 1].end][:400]
            if takes_back(sentence) or (_UNNUMBERED.fullmatch(sentence) and speaks_against(sentence, errors_only=True)):
                self.retracted = True
                keeps = 2 if _OF_EARLIER.search(sentence) else 3  # a correction stays where what it corrects is meant
                self.found = [claim for claim in self.found if claim.weight >= keeps]
        self._note_denied(start, end)
        self.sentence, self.chained, self.placed = at + 1, None, False
        self.adjunct = self.adjunct_foreign = self.related = False
        self.context.waiting.clear()
        self._open_sentence(at + 1)
        if (self.used or (at < len(self.said) and self.said[at].text != "\n")) and self.used:
            self.slot, self.foreign_slot, self.used = None, False, False

    def _labelled(self, at: int) -> int | None:
        """Read the value behind a label and its joiner, where it is one as a whole."""
        label = self._label_before(at)
        if label is None or self.said[at].text == "\n":
            return None
        start = self.said[at].end
        value = self.text[start : start + _LONGEST].partition("\n")[0]
        slot, foreign = self._slot_of(label)
        if slot is None and label.subject and not foreign:
            slot = self._present(value)
        if slot is None or foreign:
            return None
        cut = _CUT.search(value)
        said = (value[: cut.start()] if cut else value).strip(" \t\"',|")
        if not said:
            return None
        reading = read_text(slot, said)
        if label.subject and _NONE_SEEN.fullmatch(said) and slot.scale != "nominal":
            reading = Reading(slot.low, rules=("meaning",))
        banded = _BANDED.fullmatch(value.rstrip(" ."))
        if reading.grade is None and banded and word_list("denials", "doubts").isdisjoint(banded["band"].split()):
            reading, cut = read_text(slot, banded["n"]), None
        if reading.grade is None and _MEASURED.match(value.strip()):
            return None  # "3.8 mm -> grade 2": what follows is read on its own
        if reading.grade is None and not reading.echo and reading.reason != "conflicting" and not _PURE.fullmatch(said):
            return None
        if self._is_followed(value, cut):
            return None
        end = self._place_after(at, self.said[at].end + (cut.start() if cut else len(value)))
        self._state(slot, reading, label, slice(at, end), (), "key_value")
        return end

    def _present(self, value: str) -> Slot | None:
        """Find the slot of presence where a subject's own value is a word: "medial meniscal cyst: absent"."""
        first = self.claims.question.slots[0]
        word = re.match(r"\s*((?:not )?[a-z]+)", value)
        said = first.attribute == "presence" and word and (word[1] == "none" or word[1] in scale_of(first.id))
        return first if said else None

    @staticmethod
    def _is_followed(value: str, cut: re.Match[str] | None) -> bool:
        """Check whether the words after a value change it: "2 for a whole root", "1, 2 or 3"."""
        return bool(re.match(r"\s*\"?[0-9]+\"?\s+(?:for|when|if|where|unless)\b", value)) or bool(
            re.match(r"\s*[0-9]+\s*,\s*[0-9]+\b", value)
        )

    def _next_line(self, at: int) -> int | None:
        """Read a value that fills the line below its label's."""
        label = self._label_before(at)
        if label is None or self.foreign_slot:
            return None
        first = at
        while first < len(self.said) and self.said[first].text == "\n":
            first += 1
        last = first
        while last < len(self.said) and self.said[last].text != "\n" and last - first < 4:
            last += 1
        if first == last or self._number(first) is None or (last < len(self.said) and self.said[last].text != "\n"):
            return None
        value = self.text[self.said[first].start : self.said[last - 1].end]
        slot, foreign = self._slot_of(label)
        reading = read_text(slot, value) if slot is not None else None
        if slot is None or foreign or reading is None or (reading.grade is None and not _PURE.fullmatch(value)):
            return None
        self._state(slot, reading, label, slice(at, last), (), "stated")
        self.sentence = last
        return last

    def _slot_of(self, label: Label) -> tuple[Slot | None, bool]:
        """Find the slot that a label leads to, and whether it is another question's attribute."""
        slots = self.claims.question.slots
        if label.slot is not None:
            return label.slot, False
        if self.slot is not None and not (self.used and label.subject):
            return self.slot, False
        if len(slots) == 1:
            return slots[0], self.foreign_slot and not label.graded
        return None, False

    def _numbered(self, at: int) -> int:
        """Read a number in running prose."""
        number = self._number(at)
        label = self._lead(at) or self._listed_label(at)
        code = self._cartilage_code(at)
        if label is not None and label.slot is not None and len(self.group) < 2:
            code = None  # "depth 2.1"
        if label is None or number is None or (self._is_measure(at) and code is None):
            return at + 1
        named = label.subject and any(
            token.text in word_list("grade_words") for token in self.said[self.sentence : label.start]
        )
        if code is not None and (label.graded or label.slot is not None or named):
            for each, grade in zip(self.claims.question.slots, code[1], strict=True):
                self._state(each, Reading(grade), label, slice(at, code[0]), (), "stated")
            return code[0]
        slot, foreign = self._slot_of(label)
        end, choice = self._range(at)
        ahead, ahead_slot = self._ahead(end)
        slot = ahead_slot if ahead_slot is not None and label.slot is None else slot
        self.chained = label if ahead_slot is not None else None
        if slot is None or foreign:
            self.claims.stray = self.claims.stray or slot is None
            return end + 1
        for each in self._shared(slot, label, at):
            reading = CONFLICTING if choice else _grade_of(each, number, self.said[at].text)
            self._state(each, reading, label, slice(at, end + 1), ahead, "stated")
        return end + 1

    def _answered(self, at: int) -> int:
        """Read a yes or a no right behind an attribute: "complete tear no, repair yes"."""
        mark = self.marks.get(self.last)
        if mark is not None and mark.end == at and mark.slot is not None and mark.slot.scale == "binary":
            label = Label(self.last, at, slot=mark.slot, described=True)
            if self._ends_clause(at) and not (at + 1 < len(self.said) and self.said[at + 1].text in ("or", "/")):
                self._state(mark.slot, read_text(mark.slot, self.said[at].text), label, slice(at, at + 1), (), "stated")
        return at + 1

    def _listed_label(self, at: int) -> Label | None:
        """Find the label of a further number of a list: "graded 2 for size, 1 for number"."""
        if not self._is_for_slot(at):
            return None
        if at == self.sentence:
            return Label(at, at, graded=True)
        before = self.said[at - 2].text if self.said[at - 1].text in ("a", "an") else self.said[at - 1].text
        if before not in (",", "and") or self.chained is None:
            return None
        return Label(self.chained.start, self.chained.end, graded=self.chained.graded)

    def _in_order(self, at: int) -> int | None:
        """Read values in the order of their labels: "size / number / percent: 2 / 1 / 1"."""
        if len(self.group) < 2:
            return None
        at += at < len(self.said) and self.said[at].text in ("(", "[")
        if not self._is_digit(at):
            return None
        between = {token.text for token in self.said[self.group_end : at]}
        if not between or not between <= word_list("sharing", "listed") | {"(", ")", "[", "bml", "-", "are"}:
            return None
        places = [at]
        while places[-1] + 2 < len(self.said):
            following = places[-1] + 1
            while following < len(self.said) and self.said[following].text in word_list("listed"):
                following += 1
            if following == places[-1] + 1 or not self._is_digit(following):
                break
            places.append(following)
        last = places[-1]
        each = {token.text for token in self.said[self.sentence : last + 2]} & {"each", "both", "all"}
        if not (self._ends_clause(last) or self.said[last + 1].text == "each") or (len(places) < 2 and not each):
            return None
        label = Label(self.last, self.group_end, slot=self.group[0], described=True)
        fits = len(places) in (1, len(self.group))
        for slot, place in zip(self.group, places if fits and len(places) > 1 else [at] * len(self.group), strict=True):
            number = self._number(place)
            reading = _grade_of(slot, number, self.said[place].text) if fits and number is not None else CONFLICTING
            self._state(slot, reading, label, slice(at, last + 1), (), "stated")
        return last + 1

    def _shared(self, slot: Slot, label: Label, at: int) -> Sequence[Slot]:
        """Find every slot that one number is for: "size, number and percent are all 0"."""
        between = {token.text for token in self.said[min(label.end, self.group_end) : at]} if self.group else set()
        if not between & {"are", "all", "both"} or not between <= word_list("sharing"):
            return (slot,)
        if slot in self.group and len(self.group) > 1 and self.group_end <= at:
            return self.group
        return (slot,)

    def _state(
        self, slot: Slot, reading: Reading, label: Label, value: slice, ahead: Sequence[Facets], rule: str
    ) -> None:
        """Add a grade if its subject is the asked one and its clause states it."""
        about = self.context
        if self.denied_other is not None and not self.placed and reading.grade and not is_zero(slot, reading.grade):
            about = self.denied_other  # "No fracture is seen. The score is 2."
        context = about.joined(list(ahead)) if ahead else about
        if ahead and context.contradicts(self.claims.question) and not self.placed:
            # "size 2, number 1 and percent 3 at the lateral patella"
            self.found = [claim for claim in self.found if claim.sentence != self.sentence]
        if self.adjunct_foreign or self.unknown or context.contradicts(self.claims.question):
            self.claims.foreign = True
            return
        zero = reading.grade is not None and is_zero(slot, reading.grade)
        if reading.echo:
            self.claims.echo = True
            return
        if not is_stated(
            self.said,
            slice(label.start, label.end),
            value,
            zero=zero,
            choice=reading.reason == "conflicting",
            named=rule == "key_value" or label.described,
            described=label.subject and not label.graded and "labelled" in reading.rules,
        ):
            return
        weight = weight_of(self.said, label.start)
        self.used = True
        if weight >= self.lowest:
            self.found.append(_Claim(slot, reading, rule, weight, self.sentence))

    def _join(self) -> None:
        """Add the statements of each slot: where some correct or conclude, the last of these alone."""
        for slot in self.claims.question.slots:
            own = [claim for claim in self.found if claim.slot is slot]
            highest = max((claim.weight for claim in own), default=0)
            final = [claim for claim in own if claim.weight == highest]
            for claim in final[-1:] if highest == 2 else final:
                self.claims.add(slot, claim.reading, (claim.rule,))


def _stretches(text: str) -> Iterator[str]:
    """Cut a text into stretches of bounded length, at line breaks if possible: tokens take 100 times their text."""
    at = 0
    while len(text) - at > _STRETCH:
        end = text.rfind("\n", at + _STRETCH // 2, at + _STRETCH) + 1
        end = end or at + _STRETCH
        yield text[at:end]
        at = end
    yield text[at:]


def _grade_of(slot: Slot, number: int | float, spelled: str) -> Reading:
    if spelled in EXTREMES:
        return read_text(slot, spelled)
    if number not in slot.legal:
        return OUT_OF_RANGE
    return Reading(int(number), rules=("number_word",) if not spelled[0].isdigit() else ())
