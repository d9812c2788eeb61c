"""A reader of JSON as models write it: one pass over any text, never back.

Each object that begins outside another one is a `Document`. What breaks an object closes it behind its last complete
value, and reading goes on at the break, not before it: so the work grows with the length of the text and no faster.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from reasonknee_datasets.bench.answers.json_nodes import (
    CLOSING,
    DEEPEST,
    NEW_KEY,
    Cut,
    Members,
    Node,
    Raw,
    behind_blanks,
    parse_number,
    read_string,
)

_KEY, _COLON, _VALUE, _AFTER = "key", "colon", "value", "after"
_BARE_KEY = re.compile(r"[^\s\"'“”„‘’:=,;{}\[\]()][^\"“”„:=,;{}\[\]\n]{0,80}(?=[:=：])")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_RUN = re.compile(r"[^,;，{}\[\]\n\"“”„]+")
_PARENTHESES = re.compile(r"\([^(){}\[\]\n\"“”]{0,200}\)")
_COLONS = re.compile(r"=>|->|→|[:=：]")
_BRACES = re.compile(r"\{+")
_KEY_END = re.compile(r"[\"'“”]\s{0,4}[:=]")
_LITERALS: dict[str, Node] = {"true": True, "false": False, "null": None}
_PYTHON: dict[str, Node] = {"True": True, "False": False, "None": None, "NaN": None, "nan": None}


@dataclass(frozen=True, slots=True)
class Document:
    """One object found in a text.

    Attributes
    ----------
    root : Members, or a list where json.loads read it
    start, end : int
        Its place in the text.
    rules : frozenset of str
        What had to be repaired.
    open : bool
        The text ended before the object did.
    broken : bool
        Something that is not JSON ended it.
    remnant : bool
        It is what followed after such a break: whose part it was is no longer known.
    """

    root: Members | list[Node]
    start: int
    end: int
    rules: frozenset[str]
    open: bool
    broken: bool
    remnant: bool


@dataclass(slots=True)
class _Frame:
    is_list: bool
    items: list[Node] = field(default_factory=list)
    pairs: list[tuple[str, Node]] = field(default_factory=list)
    key: str = ""
    state: str = _KEY
    comma: bool = False
    unnamed: bool = False

    def node(self) -> Node:
        return self.items if self.is_list else Members(tuple(self.pairs))

    def put(self, value: Node) -> None:
        if self.is_list:
            self.items.append(value)
        elif not (self.unnamed and isinstance(value, Members) and not value.pairs):  # braces around nothing
            self.pairs.append((self.key, value))
        self.state, self.comma, self.unnamed = _AFTER, False, False


def scan(text: str, *, stopped: bool = False, final: bool = True) -> list[Document]:
    """Find every object in a text, in one pass.

    Parameters
    ----------
    text : str
        Anything.
    stopped : bool
        The model is known to have stopped by itself: a number at the very end is whole.
    final : bool
        Nothing follows this text: an object that is still open was cut off.

    Examples
    --------
    >>> found = scan("Sure! {'grade': 2, // moderate}")
    >>> found[0].root, sorted(found[0].rules), found[0].open
    (Members(pairs=(('grade', 2),)), ['comments', 'single_quotes', 'unclosed'], True)
    """
    return _Scanner(text, stopped or not final, final).run()


class _Scanner:
    def __init__(self, text: str, whole_end: bool, final: bool) -> None:
        self.text, self.whole_end, self.final = text, whole_end, final
        self.at = 0
        self.found: list[Document] = []
        self.frames: list[_Frame] = []
        self.rules: set[str] = set()
        self.start = 0
        self.remnant = False

    def run(self) -> list[Document]:
        while True:
            self.start = self.text.find("{", self.at)
            if self.start < 0:
                return self.found
            # Of a long run of braces only the innermost can enclose anything.
            run = _BRACES.match(self.text, self.start)
            self.start = max(self.start, run.end() - DEEPEST) if run else self.start
            self.at, self.rules = self.start + 1, set()
            self.frames = [_Frame(False)]
            while self.frames:
                self._step()

    def _step(self) -> None:
        self._skip()
        if self.at >= len(self.text):
            self._give_up(at_end=True)
            return
        frame = self.frames[-1]
        mark = self.text[self.at]
        if frame.state == _KEY:
            self._key(frame, mark)
        elif frame.state == _COLON:
            self._colon(frame, mark)
        elif frame.state == _VALUE:
            self._value(frame, mark)
        else:
            self._after(frame, mark)

    def _skip(self) -> None:
        """Skip blanks and comments."""
        text = self.text
        while True:
            end = behind_blanks(text, self.at)
            if text[self.at : end].strip(" \t\r\n"):
                self.rules.add("invisible")
            self.at = end
            if text.startswith(("//", "#"), self.at):
                end = text.find("\n", self.at)
            elif text.startswith("/*", self.at):
                end = text.find("*/", self.at + 2)
                end = end + 2 if end >= 0 else end
            else:
                return
            self.rules.add("comments")
            self.at = end if end >= 0 else len(text)

    def _key(self, frame: _Frame, mark: str) -> None:
        if mark == "}":
            self._close(frame)
        elif mark in ",;，":
            self._comma(frame, mark)
        elif self.text.startswith(("...", "…"), self.at):
            self.rules.add("extra_comma")
            self.at += 3 if mark == "." else 1
        elif mark == "{":
            self.rules.add("doubled_braces")
            frame.key, frame.unnamed = "", True
            self._push(False)
        elif mark in CLOSING:
            frame.key, self.at, closed, rules = read_string(self.text, self.at, key=True)
            self.rules |= rules
            frame.state = _COLON
            if not closed:
                self._give_up(at_end=True)
        elif found := _BARE_KEY.match(self.text, self.at):
            self.rules.add("unquoted")
            frame.key, self.at, frame.state = found[0].strip(), found.end(), _COLON
        else:
            self._give_up()

    def _comma(self, frame: _Frame, mark: str) -> None:
        if frame.state != _AFTER:
            self.rules.add("extra_comma")
        if mark != ",":
            self.rules.add("wide_punctuation" if mark == "，" else "equals")
        frame.state, frame.comma = (_VALUE if frame.is_list else _KEY), True
        self.at += 1

    def _colon(self, frame: _Frame, mark: str) -> None:
        found = _COLONS.match(self.text, self.at)
        if found is None:
            self._give_up()
            return
        if mark != ":":
            self.rules.add("wide_punctuation" if mark == "：" else "equals")
        self.at, frame.state = found.end(), _VALUE

    def _value(self, frame: _Frame, mark: str) -> None:
        if mark in "}]":
            if frame.is_list:
                self._close(frame)
            else:
                self._nothing(frame)
        elif mark in ",;，":
            if frame.is_list:
                self._comma(frame, mark)
            else:
                self._nothing(frame)
        elif mark in "{[":
            self._push(mark == "[")
        elif mark in CLOSING:
            value, self.at, closed, rules = read_string(self.text, self.at, key=False)
            self.rules |= rules
            frame.put(value if closed else Cut())
        elif self.text.startswith(("...", "…"), self.at):
            frame.put(Raw("..."))
            self.at += 3 if mark == "." else 1
        else:
            self._bare(frame)

    def _nothing(self, frame: _Frame) -> None:
        self.rules.add("empty_value")
        frame.put(None)

    def _bare(self, frame: _Frame) -> None:
        """Read a value without quotes: a number, a literal, or the text before the next comma or bracket."""
        found = _PARENTHESES.match(self.text, self.at) or _RUN.match(self.text, self.at)
        if found is None:
            self._give_up()
            return
        run = found[0]
        cuts = [place for place in (run.find("//"), run.find("#"), run.find("/*")) if place > 0]
        end = found.start() + min(cuts, default=len(run))
        run = self.text[found.start() : end].strip()
        self.at = end
        if end == len(self.text) and not self.whole_end and not self.text[-1].isspace():
            frame.put(Cut())
        else:
            frame.put(self._read(run))

    def _read(self, run: str) -> Node:
        if run in _LITERALS:
            return _LITERALS[run]
        if run in _PYTHON:
            self.rules.add("python_literal")
            return _PYTHON[run]
        if _NUMBER.fullmatch(run):
            return parse_number(run)
        self.rules.add("unquoted")
        return Raw(run)

    def _after(self, frame: _Frame, mark: str) -> None:
        if mark == ("]" if frame.is_list else "}"):
            self._close(frame)
        elif mark in ",;，":
            self._comma(frame, mark)
        elif mark in "]}" and any(other.is_list == (mark == "]") for other in self.frames):
            self.rules.add("unclosed")
            self._pop()
        elif remark := _PARENTHESES.match(self.text, self.at):
            self.rules.add("comments")
            self.at = remark.end()
        elif frame.is_list and (mark in CLOSING or mark in "{["):
            self.rules.add("missing_comma")
            frame.state = _VALUE
        elif not frame.is_list and _KEY_END.match(self.text, self.at):
            frame.pairs[-1] = (frame.pairs[-1][0], Raw("?:"))  # "grade": 1": 2 gives two values
            self._give_up()
        elif not frame.is_list and (mark in CLOSING or NEW_KEY.match(self.text, self.at)):
            self.rules.add("missing_comma")
            frame.state = _KEY
        else:
            self._give_up()

    def _push(self, is_list: bool) -> None:
        if len(self.frames) >= DEEPEST:
            self._give_up()
            return
        self.at += 1
        self.frames.append(_Frame(is_list, state=_VALUE if is_list else _KEY))

    def _close(self, frame: _Frame) -> None:
        if frame.comma:
            self.rules.add("extra_comma")
        self.at += 1
        self._pop()

    def _pop(self) -> None:
        node = self.frames.pop().node()
        if self.frames:
            self.frames[-1].put(node)
        elif isinstance(node, Members) and node.pairs:
            self._emit(node)

    def _emit(self, root: Members, *, is_open: bool = False, broken: bool = False) -> None:
        rules = frozenset(self.rules)
        self.found.append(Document(root, self.start, self.at, rules, is_open, broken, self.remnant))

    def _give_up(self, *, at_end: bool = False) -> None:
        """Close every open bracket here; what follows a break inside an object is a remnant."""
        deep = len(self.frames) > 1 or bool(self.frames[0].pairs) or self.frames[0].state != _KEY
        self.rules.add("unclosed")
        while len(self.frames) > 1:
            node = self.frames.pop().node()
            self.frames[-1].put(node)
        root = Members(tuple(self.frames.pop().pairs))
        if root.pairs or (at_end and self.final):
            self._emit(root, is_open=at_end and self.final, broken=not at_end)
        self.remnant = self.remnant or (deep and not at_end)
