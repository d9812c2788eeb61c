"""Candidate grades of a question's slots, from a tree of keys and values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from reasonknee_datasets.bench.answers.grade_values import Reading, is_measurement, read_slot_value, says_nothing
from reasonknee_datasets.bench.answers.json_nodes import DEEPEST, Cut, Huge, Members, Node, Raw, loads
from reasonknee_datasets.bench.answers.key_matching import LONGEST_KEY, Name, is_path_of, name_of
from reasonknee_datasets.bench.answers.lenient_json import scan
from reasonknee_datasets.bench.answers.subjects import names_another
from reasonknee_datasets.bench.answers.words import heading_names, pattern
from reasonknee_datasets.moaks import Question, Slot
from reasonknee_datasets.moaks.spellings import normal_form

Rules = frozenset[str]

_SCALAR = (str, int, float, bool, Raw, Cut, Huge)
# Nothing is quoted in prose.
_FROM_PROSE = frozenset(("bare", "boxed", "table", "key_value", "stated"))
# Strings that hold JSON are opened to this depth.
_DEEPEST_STRING = 2


@dataclass(slots=True)
class Claims:
    """Everything that documents claim about one question.

    Attributes
    ----------
    question : Question
    readings : dict of int to list of Reading
        By slot id.
    foreign : bool
        Another question's subject was answered.
    stray : bool
        A value stood under a key that the question does not have, or under none.
    inside : bool
        The subject that was asked for was there.
    echo : bool
        A placeholder of the schema was there.
    retracted : bool
        The text took an answer back.
    """

    question: Question
    readings: dict[int, list[Reading]] = field(default_factory=dict)
    foreign: bool = False
    stray: bool = False
    inside: bool = False
    echo: bool = False
    retracted: bool = False

    def add(self, slot: Slot, reading: Reading, rules: Iterable[str]) -> None:
        """Add one claim; an echo of the schema is none."""
        if reading.echo:
            self.echo = True
            return
        told = (*reading.rules, *rules)
        if not _FROM_PROSE.isdisjoint(told):
            told = tuple(rule for rule in told if rule != "digits_in_string")
        noted = Reading(reading.grade, reading.reason, told)
        self.readings.setdefault(slot.id, []).append(noted)

    @property
    def any(self) -> bool:
        """Whether anything here was meant as an answer, be it to another question."""
        return bool(self.readings) or self.foreign or self.stray or self.inside


def collect(claims: Claims, root: Node, rules: Rules, *, remnant: bool = False) -> None:
    """Add what one document claims.

    Parameters
    ----------
    claims : Claims
        Added to.
    root : Node
        The document.
    rules : frozenset of str
        The rules by which it was read.
    remnant : bool
        It may be a part of something else: only the subject's own key counts.
    """
    if not isinstance(root, (Members, list)):
        rules = rules | {"bare"}
    _Walk(claims, remnant).outer(root, rules, wrappers=(), depth=0, trusted=not remnant)


class _Walk:
    def __init__(self, claims: Claims, remnant: bool) -> None:
        self.claims, self.question, self.remnant = claims, claims.question, remnant
        self.strings = 0

    def outer(self, node: Node, rules: Rules, *, wrappers: tuple[str, ...], depth: int, trusted: bool) -> None:
        """Read a node outside of the subject; `trusted` where a slot's own key may stand without its subject."""
        if depth > DEEPEST:
            return
        if isinstance(node, list):
            for item in node:
                if isinstance(item, (Members, list)):
                    self.outer(item, rules | {"list"}, wrappers=wrappers, depth=depth + 1, trusted=trusted)
                elif trusted:
                    self.claims.stray = True
        elif isinstance(node, str) and "{" in node:
            self.quoted(node, rules, wrappers=wrappers, depth=depth, trusted=trusted)
        elif isinstance(node, Members):
            self.members(node, rules, wrappers=wrappers, depth=depth, trusted=trusted)
        elif trusted and isinstance(node, _SCALAR):
            self.unkeyed(node, rules if "bare" in rules else rules | {"no_subject"})

    def quoted(self, text: str, rules: Rules, *, wrappers: tuple[str, ...], depth: int, trusted: bool) -> None:
        """Read the JSON in a string."""
        if self.strings >= _DEEPEST_STRING:
            return
        self.strings += 1
        fine, node = loads(text)
        found = [(node, frozenset[str]())] if fine else [(doc.root, doc.rules) for doc in scan(text)]
        for inner, repairs in found:
            more = rules | repairs | {"json_in_string"}
            self.outer(inner, more, wrappers=wrappers, depth=depth + 1, trusted=trusted)
        self.strings -= 1

    def members(self, node: Members, rules: Rules, *, wrappers: tuple[str, ...], depth: int, trusted: bool) -> None:
        if is_measurement(node) or _is_disclaimed(node):
            self.claims.stray = True
            return
        if self.is_about_another(node):
            self.claims.foreign = True
            return
        for key, value in self.joined_keys(node):
            name = name_of(self.question, key)
            slot = _slot_of(name, value)
            if name.role == "subject":
                own = () if self.question.wrapper_key is None else (self.question.wrapper_key,)
                self.subject(value, _with(rules, name, () if wrappers == own else ("wrapper",)), depth + 1)
            elif name.role == "foreign":
                self.claims.foreign = True
            elif slot is not None:
                if trusted:
                    self.claims.add(slot, read_slot_value(slot, value), _with(rules, name, ("no_subject",)))
            elif name.role in ("wrapper", "generic"):
                self.outer(
                    value, rules, wrappers=(*wrappers, *filter(None, (key,)))[:3], depth=depth + 1, trusted=trusted
                )
            elif name.role == "unknown":
                self.unknown(key, value, rules, wrappers=wrappers, depth=depth)

    def joined_keys(self, node: Members) -> Iterator[tuple[str, Node]]:
        """Return the pairs of an object, where a finding over its places is joined: {"extrusion": {"medial": 1}}."""
        for key, value in node.pairs:
            inner = value.pairs if isinstance(value, Members) else ()
            places = [held for place, held in inner if is_path_of(self.question, key, place)]
            if places and name_of(self.question, key).role in ("subject", "slot", "unknown"):
                yield from ((self.question.record_key, held) for held in places)
            else:
                yield key, value

    def is_about_another(self, node: Members) -> bool:
        """Check whether an object's value names another subject: {"finding": "effusion", "grade": 2}."""
        named = [
            value
            for key, value in node.pairs
            if normal_form(key[:20]) in heading_names("key", "names_subject") and isinstance(value, str)
        ]
        return bool(named) and names_another(self.question, "\n".join(each[:LONGEST_KEY] for each in named))

    def unknown(self, key: str, value: Node, rules: Rules, *, wrappers: tuple[str, ...], depth: int) -> None:
        """Look for the subject below an unknown key, and ignore the rest of what it holds."""
        if isinstance(value, (Members, list)):
            before = self.claims.inside
            self.claims.inside = False
            self.outer(value, rules, wrappers=(*wrappers, key[:LONGEST_KEY])[:3], depth=depth + 1, trusted=False)
            self.claims.stray = self.claims.stray or not self.claims.inside
            self.claims.inside = self.claims.inside or before
        elif isinstance(value, (int, Raw, Cut)) or (isinstance(value, str) and len(value) < 20):
            self.claims.stray = True

    def subject(self, node: Node, rules: Rules, depth: int) -> None:
        """Read the value of the key that names the subject of the question."""
        self.claims.inside = True
        if depth > DEEPEST:
            return
        if isinstance(node, Members):
            self.attributes(node, rules, depth)
        elif isinstance(node, list) and any(isinstance(item, Members) for item in node):
            for item in node:
                self.subject(item, rules | {"list"}, depth + 1)
        elif isinstance(node, str) and "{" in node and self.strings < _DEEPEST_STRING:
            self.strings += 1
            fine, inner = loads(node)
            if fine:
                self.subject(inner, rules | {"json_in_string"}, depth + 1)
            self.strings -= 1
        else:
            self.unkeyed(node, rules)

    def attributes(self, node: Members, rules: Rules, depth: int) -> None:
        if is_measurement(node) or _is_disclaimed(node):
            self.claims.stray = True
            return
        for key, value in node.pairs:
            name = name_of(self.question, key)
            slot = _slot_of(name, value)
            if slot is not None:
                self.claims.add(slot, read_slot_value(slot, value), _with(rules, name))
            elif name.role in ("wrapper", "subject", "generic"):
                self.subject(value, _with(rules, name, ("wrapper",)), depth + 1)
            elif name.role == "foreign":
                self.claims.foreign = True
            elif name.role == "unknown":
                self.claims.stray = True

    def unkeyed(self, node: Node, rules: Rules) -> None:
        """Read a value that has no attribute's key."""
        if len(self.question.slots) > 1:
            self.claims.stray = self.claims.stray or node is not None
            return
        slot = self.question.slots[0]
        self.claims.add(
            slot,
            read_slot_value(slot, node),
            rules if self.question.bare or "bare" in rules else rules | {"bare_value"},
        )


def _is_disclaimed(node: Members) -> bool:
    """Check whether an object takes its own value back: {"grade": 2, "status": "not assessable"}."""
    for key, value in node.pairs:
        form = normal_form(key[:20])
        if form in ("error", "errors", "error message") and isinstance(value, str) and not says_nothing(value):
            return True
        if form not in heading_names("key", "status"):
            continue
        if isinstance(value, bool) and value == bool(re.search("placeholder|example|dummy|hypothetical", form)):
            return True
        doubted = isinstance(value, str) and len(value) < 80 and bool(pattern("doubted_value").search(value.casefold()))
        if doubted and (form == "status" or str(value).casefold() not in ("n/a", "unknown", "not applicable")):
            return True
    return False


def _slot_of(name: Name, value: Node) -> Slot | None:
    """Return the slot that a key with a value names; a general word before an object only wraps it."""
    return None if name.role == "generic" and isinstance(value, (Members, list)) else name.slot


def _with(rules: Rules, name: Name, more: Iterable[str] = ()) -> Rules:
    return rules.union(more, () if name.rule is None else (name.rule,))
