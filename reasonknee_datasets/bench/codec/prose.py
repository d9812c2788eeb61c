"""Grades that prose states.

A number is a grade only where a label (the word grade, the name of an attribute, the asked subject) leads to it, nothing
makes it a measurement, a count, a bound or a choice, the running subject is the asked one, and the clause states it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from reasonknee_datasets.bench.codec.claims import Claims
from reasonknee_datasets.bench.codec.clauses import (
    SENTENCE_ENDS,
    UNSURE,
    Token,
    is_stated,
    normalise,
    retracts,
    tokens,
    weight_of,
)
from reasonknee_datasets.bench.codec.grade import CONFLICTING, OUT_OF_RANGE, Reading, read_text
from reasonknee_datasets.bench.codec.phrases import Mark, find_phrases, mentions, names_another
from reasonknee_datasets.bench.codec.subjects import Context, Facets
from reasonknee_datasets.bench.codec.tables import read_tables
from reasonknee_datasets.bench.codec.words import NUMBER_WORDS, ROMAN, is_zero, scale_of
from reasonknee_datasets.moaks import Question, Slot

# A value behind a label is short; a longer one is a sentence.
_LONGEST = 200
_STRETCH = 20_000
_BOXED = re.compile(r"\\boxed\s{0,4}\{\s{0,4}(?:\\text\s{0,4}\{)?([^{}]{0,80})\}")
_PURE = re.compile(r"(?:(?:moaks )?(?:grade|score)\s*[:=]?\s*)?[0-9]{1,6}(?:\.[0-9]{1,6})?[.!]?")
_LEADS = re.compile(rf"[\s#(\"']*(?:(?:moaks|final|overall|assigned|the|grade|score|is|answer)\s*[:=]?\s*)*(?:[0-9]|{'|'.join(NUMBER_WORDS)})")
_MARKER = re.compile(r"(?m)^([ \t>#]*(?:[-•+–][ \t]+)?)(?:\(?[0-9]{1,2}[.)]|step [0-9]{1,2}[:.)]?|[a-h][.)])(?=[ \t]+\S)")
_CUT = re.compile(
    r",\s*(?=[a-z%])|\s(?=[a-z][a-z /\-]{1,40}[:=])|\.\s|;|\s/\s"
    r"|\s(?:and|with|because|since|as|for|based|given|which|but|while)\s(?=[a-z])"
)
_SCALE_ENTRY = re.compile(
    r"(?<![\w.])(?:grade\s+(?P<g>[0-8])\s*(?:[:=–—]|-\s|\()|(?P<v>[0-8])\s*=)\s*(?=[a-z<>≥0-9\"'])"
)
_ENTRY_END = re.compile(r"[,;\n]|\)(?=[\s.,;]|$)|\.(?=\s|$)|$")

_GRADE_WORDS = frozenset(("grade", "graded", "grades", "score", "scored", "scores", "rated", "rating", "moaks", "grading", "code", "coded", "category"))
_ANSWER_WORDS = frozenset(("answer", "say", "choose", "select", "pick", "assign", "estimate", "value", "call", "go", "going"))
_JOINERS = frozenset((":", "=", "|"))
_COPULAS = frozenset(("is", "are", "was", "be", "as", "equals", "equal", "remains", "at"))
_FILLERS = frozenset(
    ("is", "was", "be", "as", "of", "a", "an", "the", "at", "to", "being", "moaks", "grade", "score", "equals", "equal")
    + (":", "=", "(", "[", '"', "'", "|", "–", "—", "-", "would", "should", "will", "category", "assigned", "level", "remains")
    + ("{", "#", "therefore", "thus", "hence", "only", "just", "\n", "with", "in", "graded", "scored", "rated", "best")
    + ("surely", "overall", "final", "now", "likely", "probably", "roughly", "approximately", "about", "it", "this", "are", "all", "both", "each")
)
_UNITS = frozenset(
    ("%", "percent", "mm", "cm", "millimeters", "millimetres", "millimeter", "millimetre", "slices", "slice", "images")
    + ("image", "lesions", "foci", "focus", "bml", "views", "view", "years", "year", "months", "weeks", "days", "times")
    + ("fragments", "bodies", "cysts", "osteophytes", "sequences", "planes", "t", "tesla", "degrees", "voxels", "pixels")
    + ("points", "point", "ml", "cc", "x", "×", "*", "/", "of", "out", "^", "series", "frames", "readers", "patients", "knees")
)
_RANGE = frozenset(("-", "–", "—", "to", "or", "and", "vs", "versus", "&", "|", "through", "/"))
_BEFORE_NUMBER = frozenset(("-", "<", ">", "≤", "≥", "~", "±", "+", "−", "#", "/", "\\", "^"))
_ADJUNCTS = frozenset(
    ("beyond", "adjacent", "near", "abutting", "behind", "between", "toward", "towards", "compared", "versus", "than")
    + ("relative", "surrounding", "unlike", "despite", "besides", "from", "overlying", "underlying", "nearby")
    + ("neighboring", "neighbouring", "apart", "against", "into", "overhanging", "alongside", "contacting", "touching")
    + ("secondary", "due", "past", "over")
)
_ADJUNCT_ENDS = frozenset((",", ";", ":", "(", ")", "and", "but", "which", "is", "are", "was", "shows", "has", "while", "="))
_FORWARD_ENDS = frozenset(
    (",", ";", ":", ")", "—", "–", "and", "but", "while", "whereas", "because", "since", "as", "which", "with", "without")
    + ("so", "given", "based", "due", "than", "rather", "not", "however", "although", "though", "or", "=", "beyond", "near")
    + ("adjacent", "|", "compared", "when", "if", "after", "despite", "?", "indicating")
)
_NOT_ROMAN = frozenset(("would", "can", "could", "am", "have", "think", "assign", "see", "do", "will", "had", "believe"))
_VERDICTS = frozenset(
    ("answer", "value", "result", "severity", "decision", "verdict", "conclusion", "prediction", "output", "response", "choice")
    + ("assessment", "diagnosis", "estimate", "determination", "impression")
)
_LISTED = frozenset((",", "and", "/", "&", "the", "score", "scores", "grade", "grades"))
_MEANS = frozenset(("for", "with", "without", "when", "if", "where", "to", "means", "in"))
_REFERS = frozenset(
    ("slice", "image", "figure", "fig", "frame", "ref", "table", "step", "view", "see", "sequence", "level", "no", "year", "page")
    + ("panel", "plane", "number", "arrow", "note", "point", "option", "item", "study", "visit", "patient", "reference")
)
# What may stand before a number in parentheses that says how it is meant.
_DESCRIBES = frozenset(
    ("present", "absent", "yes", "no", "seen", "tear", "torn", "intact", "normal", "abnormality", "maceration", "mild")
    + ("moderate", "severe", "small", "medium", "large", "none", "detected", "identified", "noted", "horn", "body", "lesion")
    + ("physiologic", "true", "false", "visible", "trace")
)


def read_prose(claims: Claims, text: str, before: str = "") -> set[str]:
    """Add what prose claims about a question.

    Parameters
    ----------
    claims : Claims
        Added to.
    text : str
        The text without JSON objects.
    before : str
        What the text follows; only the subjects that it names count.

    Returns
    -------
    set of str
        Rules about the text as a whole.
    """
    question = claims.question
    text, rules = _without_scales(_MARKER.sub(r"\1", normalise(text)))
    context = _context_after(question, before)
    if len(question.slots) == 1 and _read_whole(claims, text.strip(), context):
        return rules
    text = read_tables(claims, text, context)
    reader = _Reader(claims, text, context)
    reader.run()
    return rules


def corrections(question: Question, text: str) -> tuple[Claims, bool]:
    """Read what prose behind an answer corrects in it, and whether it takes the answer back.

    Examples
    --------
    >>> claims, back = corrections(get_question(42), "On reflection, this should be grade 1.")
    >>> [reading.grade for readings in claims.readings.values() for reading in readings], back
    ([1], False)
    """
    claims = Claims(question)
    text = _MARKER.sub(r"\1", normalise(text))
    reader = _Reader(claims, _without_scales(text)[0], Context({}), lowest=2)
    reader.run()
    return claims, reader.retracted


def _context_after(question: Question, before: str) -> Context:
    """Find which subject a text leaves open: none if it named the asked one anywhere."""
    context = Context({})
    for mention in mentions(question, before):
        context.name(mention)
        if context.is_asked(question):
            return Context({})
    return context


def _read_whole(claims: Claims, text: str, context: Context) -> bool:
    """Read a text that is nothing but one value, or that boxes one."""
    slot = claims.question.slots[0]
    if context.contradicts(claims.question):
        return False
    for boxed in _BOXED.findall(text):
        claims.add(slot, read_text(slot, boxed), ("boxed",))
    if claims.readings:
        return True
    if len(text) > _LONGEST or "\n" in text or not re.search(r"\w", text):
        return False
    reading = read_text(slot, text.rstrip())
    told = reading.grade is not None or reading.reason in ("conflicting", "missing")
    if (not told and not _PURE.fullmatch(text)) or (reading.reason == "conflicting" and len(text) > 40):
        return False
    if "labelled" in reading.rules and not _LEADS.match(text) and "meaning" not in reading.rules:
        described = re.split(r"[(\[,:;–—\-=]", text)[0].strip()
        if scale_of(slot.id).get(described) != reading.grade:
            return False  # a sentence: what it states is looked at clause by clause
    if not UNSURE.isdisjoint(token.text for token in tokens(text)):
        return False
    if names_another(claims.question, text):
        claims.foreign = True
        return False
    claims.add(slot, reading, ("bare",))
    return not reading.echo


def _without_scales(text: str) -> tuple[str, set[str]]:
    """Take out runs of grades that say what each stands for: that is the scale."""
    entries = [(int(found["g"] or found["v"]), found.start(), found.end()) for found in _SCALE_ENTRY.finditer(text)]
    kept: list[str] = []
    at = place = 0
    while place < len(entries):
        last = place
        while last + 1 < len(entries) and _follows(text, entries[last], entries[last + 1]):
            last += 1
        if last > place:
            kept.append(text[at : entries[place][1]])
            end = _ENTRY_END.search(text, entries[last][2], entries[last][2] + 120)
            at = end.start() if end else entries[last][2]
        place = last + 1
    kept.append(text[at:])
    return "".join(kept), {"scale_left_out"} if at else set()


def _follows(text: str, one: tuple[int, int, int], other: tuple[int, int, int]) -> bool:
    between = text[one[2] : other[1]] if other[1] - one[2] <= 150 else ""
    return other[0] == one[0] + 1 and bool(re.search(r"(?:[,;.|]\s*(?:and\s+|or\s+)?|\n[\s\-•>|]*)$", between))


@dataclass(slots=True)
class _Claim:
    slot: Slot
    reading: Reading
    rule: str
    weight: int


@dataclass(slots=True)
class _Label:
    """What leads to a number: its place, whether a word for grades is in it, and the attribute that it names."""

    start: int
    end: int
    graded: bool = False
    slot: Slot | None = None
    subject: bool = False


@dataclass(slots=True)
class _Reader:
    """Read statements in order, with the subject and the attribute that were named last."""

    claims: Claims
    text: str
    context: Context
    lowest: int = 0
    retracted: bool = False
    said: list[Token] = field(default_factory=list)
    marks: dict[int, Mark] = field(default_factory=dict)
    found: list[_Claim] = field(default_factory=list)
    slot: Slot | None = None
    foreign_slot: bool = False
    used: bool = False
    adjunct: bool = False
    sentence: int = 0
    last: int = -1
    group: list[Slot] = field(default_factory=list)
    group_end: int = -1

    def run(self) -> None:
        for stretch in _stretches(self.text):
            self.text, self.said = stretch, tokens(stretch)
            self.marks = find_phrases(self.claims.question, self.said)
            self.group, self.group_end, self.last, self.sentence = [], -1, -1, 0
            at = 0
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
        if word in SENTENCE_ENDS:
            self._end_sentence(at)
        elif word in _ADJUNCT_ENDS:
            self.adjunct = False
        elif word in _ADJUNCTS:
            self.adjunct = True
        if word in _JOINERS or (word in ("–", "—", "-") and self._is_spaced(at)):
            return self._labelled(at) or at + 1
        if word == "\n":
            return self._next_line(at) or at + 1
        if self._number(at) is not None:
            return self._numbered(at)
        return at + 1

    def _name(self, mark: Mark, at: int) -> None:
        if mark.facets is not None:
            own = self.context.is_asked(self.claims.question)
            if not (self.adjunct and own and self.context.joined([mark.facets]).contradicts(self.claims.question)):
                self.context.name(mark.facets)
        if mark.slot is not None or mark.foreign_slot:
            self.slot, self.foreign_slot, self.used = mark.slot, mark.foreign_slot, False
        if mark.slot is not None:
            between = [token.text for token in self.said[self.group_end : at][:8]] if self.group else ["."]
            self.group = [*self.group, mark.slot] if _LISTED.issuperset(between) and len(self.group) < 3 else [mark.slot]
            self.group_end = mark.end
        self.last = at

    def _end_sentence(self, at: int) -> None:
        start, end = self.sentence, at
        if start < end:
            sentence = self.text[self.said[start].start : self.said[end - 1].end][:400]
            if retracts(sentence):
                self.retracted = True
                self.found = [claim for claim in self.found if claim.weight == 2]
        self.sentence, self.adjunct = at + 1, False
        if self.used or (at < len(self.said) and self.said[at].text != "\n"):
            if self.used:
                self.slot, self.foreign_slot, self.used = None, False, False

    def _is_spaced(self, at: int) -> bool:
        token = self.said[at]
        return self.text[token.end : token.end + 1] in (" ", "\t")

    def _number(self, at: int) -> int | float | None:
        """Take a token as a number; a Roman one only behind a word for grades."""
        word = self.said[at].text
        if word.isdigit() and word.isascii():
            return int(word) if len(word) < 7 else 1_000_000
        if word in NUMBER_WORDS:
            return NUMBER_WORDS[word]
        if word[0].isdigit() and "." in word:
            return float(word) if len(word) < 12 else 1e9
        if word in ROMAN and at and self._leads_to_roman(at):
            return ROMAN[word]
        return None

    def _leads_to_roman(self, at: int) -> bool:
        following = self.said[at + 1].text if at + 1 < len(self.said) else ""
        before = self.said[at - 1].text
        if before in _JOINERS and at > 1:
            before = self.said[at - 2].text
        leads = before in ("grade", "score", "graded", "scored") or any(
            mark.slot is not None and mark.end in (at, at - 1) for place, mark in self._recent(at)
        )
        return leads and following not in _NOT_ROMAN

    def _recent(self, at: int) -> Iterator[tuple[int, Mark]]:
        if self.last >= 0 and self.last in self.marks and self.last < at:
            yield self.last, self.marks[self.last]

    def _labelled(self, at: int) -> int | None:
        """Read the value behind a label and its joiner, where it is one as a whole."""
        label = self._label_before(at)
        if label is None or self.said[at].text == "\n":
            return None
        start = self.said[at].end
        value = self.text[start : start + _LONGEST].partition("\n")[0]
        slot, foreign = self._slot_of(label)
        if slot is None or foreign:
            return None
        cut = _CUT.search(value)
        said = (value[: cut.start()] if cut else value).strip(" \t\"',|")
        if not said:
            return None
        reading = read_text(slot, said)
        if reading.grade is None and not reading.echo and reading.reason != "conflicting" and not _PURE.fullmatch(said):
            return None
        if self._is_followed(value, cut):
            return None
        end = self._place_after(at, self.said[at].end + (cut.start() if cut else len(value)))
        self._state(slot, reading, label, slice(at, end), (), "key_value")
        return end

    @staticmethod
    def _is_followed(value: str, cut: re.Match[str] | None) -> bool:
        """Check whether what stands behind a value makes it another: "2 for a whole root", "1, 2 or 3"."""
        return bool(re.match(r"\s*\"?[0-9]+\"?\s+(?:for|when|if|where|unless)\b", value)) or bool(
            re.match(r"\s*[0-9]+\s*,\s*[0-9]+\b", value)
        )

    def _place_after(self, at: int, end: int) -> int:
        while at < len(self.said) and self.said[at].start < end and self.said[at].text != "\n":
            at += 1
        return at

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

    def _label_before(self, at: int) -> _Label | None:
        """Find the label whose last word stands before a place; parentheses and quotes may stand between."""
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

    def _label_at(self, place: int) -> _Label | None:
        if place < 0:
            return None
        word = self.said[place].text
        label = _Label(place, place + 1)
        if word in _GRADE_WORDS:
            label.graded = True
        elif word in _VERDICTS or word == "assigned":
            label.graded = word != "assigned" or self.said[place - 1].text in _GRADE_WORDS
            if not label.graded:
                return None
        elif self.last >= 0 and self.marks[self.last].end == place + 1:
            mark = self.marks[self.last]
            label.start, label.end, label.slot, label.subject = self.last, mark.end, mark.slot, mark.facets is not None
            if mark.foreign_slot:
                return None
        else:
            return self._label_in_clause(place)
        return label

    def _label_in_clause(self, place: int) -> _Label | None:
        """Find the subject or attribute that a few words back leads a line: "Size for this lesion: 2"."""
        lowest = max(self.sentence, place - 8)
        for at in range(place, lowest - 1, -1):
            if self.said[at].text in (",", ":", "—") or self._number(at) is not None:
                return None
            if self.said[at].text in ("grade", "score"):
                return _Label(at, at + 1, graded=True)
            mark = self.marks.get(at)
            if mark is not None and mark.slot is not None:
                return _Label(at, mark.end, slot=mark.slot)
            if mark is not None and mark.facets is not None and mark.end + 3 > place:
                return _Label(at, mark.end, subject=True)
        return None

    def _slot_of(self, label: _Label) -> tuple[Slot | None, bool]:
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
        label = self._lead(at)
        if label is None or number is None or self._is_measure(at, label):
            return at + 1
        slot, foreign = self._slot_of(label)
        end, choice = self._range(at)
        ahead, ahead_slot = self._ahead(end)
        slot = ahead_slot if ahead_slot is not None and label.slot is None else slot
        if slot is None or foreign:
            self.claims.stray = self.claims.stray or slot is None
            return end + 1
        for each in self._shared(slot, label, at):
            reading = CONFLICTING if choice else _grade_of(each, number, self.said[at].text)
            self._state(each, reading, label, slice(at, end + 1), ahead, "stated")
        return end + 1

    def _shared(self, slot: Slot, label: _Label, at: int) -> Sequence[Slot]:
        """Find every slot that one number is for: "size, number and percent are all 0"."""
        between = {token.text for token in self.said[label.end : at]}
        if not between & {"are", "all", "both"}:
            return (slot,)
        if slot in self.group and len(self.group) > 1 and self.group_end <= at:
            return self.group
        return (slot,)

    def _lead(self, at: int) -> _Label | None:
        """Find the label that leads to a number."""
        place, joined, opened = at - 1, False, False
        lowest = max(self.sentence - 1, at - 9, -1)
        if place >= 0 and self.said[place].text in _BEFORE_NUMBER and not (
            self.said[place].text == "-" and (self._is_spaced(place) or self._is_hyphen(place))
        ):
            return None
        while place > lowest and self.said[place].text in _FILLERS and self.said[place].text not in ("grade", "score", "moaks", "graded", "scored", "rated"):
            joined = joined or self.said[place].text in _COPULAS or self.said[place].text in _JOINERS
            opened = opened or self.said[place].text in ("(", "[")
            place -= 1
        if place < 0:
            return None
        word = self.said[place].text
        label = self._plain_label(place)
        if label is not None and (label.graded or label.slot is not None):
            return label
        if opened and not joined and self._closes(at):
            named = word.isalpha() and not word.endswith("s") and word not in _REFERS
            described = label is not None or word in _DESCRIBES or (named and self.context.is_asked(self.claims.question))
            return _Label(place, place + 1, subject=True) if described else None
        if not (self._ends_clause(at) or (opened and self._closes(at))):
            return None
        if label is not None and (joined or place == at - 1):
            return label
        if word in _ANSWER_WORDS:
            return _Label(place, place + 1, graded=True)
        return self._label_in_clause_before(place) if joined else None

    def _is_hyphen(self, place: int) -> bool:
        return place > 0 and self.said[place - 1].end == self.said[place].start and self.said[place - 1].text[-1].isalpha()

    def _plain_label(self, place: int) -> _Label | None:
        word = self.said[place].text
        if word in _GRADE_WORDS:
            slot = None
            start = place
            if self.last >= 0 and self.marks[self.last].end == place:
                slot = self.marks[self.last].slot
                start = self.last
            return _Label(start, place + 1, graded=True, slot=slot)
        if self.last >= 0 and self.marks[self.last].end == place + 1 and not self.marks[self.last].foreign_slot:
            mark = self.marks[self.last]
            return _Label(self.last, mark.end, slot=mark.slot, subject=mark.facets is not None)
        return None

    def _label_in_clause_before(self, place: int) -> _Label | None:
        """Find a word for grades, or a subject, further back in the clause that ends in "is 2"."""
        for at in range(place, max(self.sentence, place - 24) - 1, -1):
            word = self.said[at].text
            if word in (":", ";", "but", "so", "while") or self._number(at) is not None:
                return None
            if word in ("grade", "score", "answer", "rating", "grading"):
                mark = self.marks.get(self.last) if self.last >= 0 else None
                slot = mark.slot if mark is not None and self.last < at and mark.end == at else None
                return _Label(at, at + 1, graded=True, slot=slot)
            mark = self.marks.get(at)
            if mark is not None and mark.slot is not None:
                return _Label(at, mark.end, slot=mark.slot)
        return None

    def _closes(self, at: int) -> bool:
        return at + 1 < len(self.said) and self.said[at + 1].text in (")", "]")

    def _ends_clause(self, at: int) -> bool:
        place = at + 1
        while place < len(self.said) and self.said[place].text in ('"', "'", ")", "]", "}", "$"):
            place += 1
        if place >= len(self.said):
            return True
        following = self.said[place].text
        return following in SENTENCE_ENDS or following in _FORWARD_ENDS or following in ("(", "/", "[", "-", "for", "in", "on")

    def _is_measure(self, at: int, label: _Label) -> bool:
        """Check whether what follows a number makes it a measurement, a count or an entry of a scale."""
        following = self.said[at + 1].text if at + 1 < len(self.said) else ""
        if following in ("/", "of", "out") or following in _UNITS:
            return not (following == "/" and not self._is_digit(at + 2))
        if following == "for" and at + 2 < len(self.said) and self.said[at + 2].text in ("a", "an"):
            return True
        if following in ("when", "where", "if", "unless") or (following in _MEANS and self._is_told_apart(at)):
            return True
        return following == "=" or (following == ":" and label.graded and self._is_digit(at) and self._opens_scale(at))

    def _is_told_apart(self, at: int) -> bool:
        """Check for a second number of one definition: "0 for no and 1 for yes"."""
        for place in range(at + 2, min(len(self.said) - 2, at + 12)):
            word = self.said[place].text
            if word in SENTENCE_ENDS:
                return False
            if word in ("and", "or", ",") and self._number(place + 1) is not None and self.said[place + 2].text in _MEANS:
                return True
        return False

    def _opens_scale(self, at: int) -> bool:
        return self._is_digit(at + 2)

    def _is_digit(self, at: int) -> bool:
        return at < len(self.said) and self.said[at].text[0].isdigit()

    def _range(self, at: int) -> tuple[int, bool]:
        """Find the end of a number, or of the choice that it begins: "1-2", "1 or grade 2"."""
        place = at + 1
        if place + 1 >= len(self.said) or self.said[place].text not in _RANGE:
            return at, False
        place += 1
        while place < len(self.said) and self.said[place].text in ("grade", "score", "moaks", "a", "even", "possibly", "perhaps", "maybe"):
            place += 1
        if place >= len(self.said) or self._number(place) is None:
            return at, False
        following = self.said[place + 1].text if place + 1 < len(self.said) else ""
        if following in _UNITS or (self.said[at + 1].text in ("-", "–", "—") and following in ("-", "–", "to")):
            return at, False
        return place, self._number(place) != self._number(at)

    def _ahead(self, at: int) -> tuple[list[Facets], Slot | None]:
        """Find what the clause names behind its number: "grade 2 effusion", "grade 1 for size"."""
        mentions: list[Facets] = []
        slot: Slot | None = None
        place, highest, spoken = at + 1, min(len(self.said), at + 16), 0
        while place < highest:
            word = self.said[place].text
            mark = self.marks.get(place)
            if mark is not None:
                if mark.slot is not None and slot is None and spoken and self.said[place - 1].text in ("for", "in", "(", "the"):
                    slot = mark.slot
                if mark.facets is not None:
                    mentions.append(mark.facets)
                place, spoken = mark.end, spoken + 1
                continue
            if word in SENTENCE_ENDS or word in _FORWARD_ENDS or self._number(place) is not None:
                break
            place, spoken = place + 1, spoken + 1
        return mentions, slot

    def _state(self, slot: Slot, reading: Reading, label: _Label, value: slice, ahead: Sequence[Facets], rule: str) -> None:
        """Note a grade if its subject is the asked one and its clause states it."""
        context = self.context.joined(list(ahead)) if ahead else self.context
        if context.contradicts(self.claims.question):
            self.claims.foreign = True
            return
        zero = reading.grade is not None and is_zero(slot, reading.grade)
        if reading.echo:
            self.claims.echo = True
            return
        if not is_stated(self.said, slice(label.start, label.end), value, zero=zero, choice=reading.reason == "conflicting", named=rule == "key_value"):
            return
        weight = weight_of(self.said, label.start)
        self.used = True
        if weight >= self.lowest:
            self.found.append(_Claim(slot, reading, rule, weight))

    def _join(self) -> None:
        """Add the statements of each slot: where some correct or conclude, the last of these alone."""
        for slot in self.claims.question.slots:
            own = [claim for claim in self.found if claim.slot is slot]
            highest = max((claim.weight for claim in own), default=0)
            final = [claim for claim in own if claim.weight == highest]
            for claim in final[-1:] if highest == 2 else final:
                self.claims.add(slot, claim.reading, (claim.rule,))


def _stretches(text: str) -> Iterator[str]:
    """Cut a text into stretches of bounded length, at line breaks where there are any: tokens take a hundred times their text."""
    at = 0
    while len(text) - at > _STRETCH:
        end = text.rfind("\n", at + _STRETCH // 2, at + _STRETCH) + 1
        end = end or at + _STRETCH
        yield text[at:end]
        at = end
    yield text[at:]


def _grade_of(slot: Slot, number: int | float, spelled: str) -> Reading:
    if number not in slot.legal:
        return OUT_OF_RANGE
    return Reading(int(number), rules=("number_word",) if not spelled[0].isdigit() else ())
