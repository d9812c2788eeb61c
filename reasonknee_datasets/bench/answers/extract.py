"""Everything in a text that could hold an answer: its objects, the prose around them, and how it ended."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from reasonknee_datasets.bench.answers.cleanup import BLANKS, Part, Spoken, has_fence, parts, spoken
from reasonknee_datasets.bench.answers.json_nodes import Members, Node, loads
from reasonknee_datasets.bench.answers.lenient_json import Document, scan
from reasonknee_datasets.bench.answers.scale_words import refuses

LENGTH = frozenset(("length", "max_tokens", "max_output_tokens", "max_length", "model_length", "incomplete"))
"""What providers call the end of a text that ran out of tokens."""
STOPPED = frozenset(("stop", "end_turn", "eos", "eos_token", "stop_sequence", "completed", "finished", "complete"))
"""What providers call the end of a text that its model ended."""
FILTERED = frozenset(("content_filter", "safety", "refusal", "blocklist", "prohibited_content", "recitation"))
"""What providers call a text that was withheld."""

# How far back a heading can stand before its object.
_LEAD = 160
# What introduces an object that is no answer: an example, a template, the form of an answer to come.
_EXAMPLE = re.compile(
    r"(?:for example|e\.g\.?|for instance|such as|(?:^|[.\n:;]\s*)[#*_ ]*(?:an? |the )?(?:example"
    r"|sample|template|schema|placeholder"
    r"|illustration)(?: [a-z]+){0,3}"
    r"|(?:^|[.\n:;]\s*)[#*_ ]*(?:the |my )?(?:expected|output|response|answer|required|json"
    r"|reply) (?:json )?(?:format|schema|template)(?: is)?"
    r"|\b(?:look|looks) like(?: this)?)[\s,:`*_]{0,8}$"
)
_NOT_YET = re.compile(
    r"\b(?:template|placeholder|dummy|hypothetical|ignore|disregard|discard|example|sample"
    r"|illustrat\w*|(?:i|we)(?:'| wi)ll (?:reply|answer"
    r"|respond|provide|give|return|report|output|use|fill)|would (?:be|look|read|have)"
    r"|will be (?:given|provided|returned|formatted)"
    r"|once (?:i|you|the)|when (?:you|the images?)|if (?:you|the|i|there)|please (?:provide|share|upload|send|attach)"
    r"|as soon as|should look|could look|need (?:the|an) images?|default|typical(?:ly)?|not an? (?:actual|real))\b"
)
_SENTENCE = re.compile(r"[.!?]\s|\n\s*\n")


def _is_example(lead: str) -> bool:
    """Check whether what leads to an object introduces an example or a template and not an answer."""
    lead = lead.casefold().replace("\u2019", "'").replace("*", "")
    if _EXAMPLE.search(lead[-80:]):
        return True
    last = [part for part in _SENTENCE.split(lead) if part.strip(" \n`:*")][-1:]
    if last and refuses(last[0]) and not re.search(r"\b(?:but|however|yet|still|nevertheless|based|here)\b", last[0]):
        return True
    return bool(last) and not lead.rstrip(" \n`*_").endswith((".", "!", "?")) and bool(_NOT_YET.search(last[0]))


@dataclass(frozen=True, slots=True)
class Piece:
    """One object of a text: its root, the rules by which it was read, whether it is a remnant, and what leads to it."""

    root: Node
    rules: frozenset[str]
    remnant: bool
    lead: str


@dataclass(slots=True)
class Found:
    """What stands in a text.

    Attributes
    ----------
    documents : list of Piece
        Every object in the order of the text.
    prose : str
        The text without its objects.
    after : str
        The prose behind the last object.
    rules : set of str
        What was done to the text as a whole.
    cut, broken : bool
        The text ended inside an object, or something else did.
    """

    documents: list[Piece] = field(default_factory=list)
    prose: str = ""
    after: str = ""
    rules: set[str] = field(default_factory=set)
    cut: bool = False
    broken: bool = False


def why_nothing(text: str | None, ended: str, error: str | None) -> str | None:
    """Give the reason for an answer that is none at all; None where there is a text to read."""
    if error is not None or ended == "error":
        return "provider_error"
    if text is None or not text.strip():
        return "truncated" if ended in LENGTH else "refusal" if ended in FILTERED else "empty"
    return None


def hear(text: str) -> tuple[Node, Spoken | None]:
    """Read a whole text by ``json.loads`` alone; where that fails, give what of it is meant as its answer.

    Examples
    --------
    >>> hear('{"grade": 2}')
    (Members(pairs=(('grade', 2),)), None)
    >>> hear('Grade 2.')[1].text
    'Grade 2.'
    """
    fine, node = loads(text)
    if fine and not isinstance(node, str):
        return node, None
    if not isinstance(node, str):
        return None, spoken(text)
    said = spoken(node)
    return None, Spoken(said.text, said.rules | {"json_in_string"}, said.unfinished)


def find(text: str, said: Spoken, ended: str) -> Found:
    """Find the objects and the prose of a text, or of its final part."""
    found = Found(rules=set(said.rules), cut=said.unfinished)
    prose: list[str] = []
    kept: list[tuple[Document, bool, str]] = []
    last = 0
    stretches = parts(text)
    for number, part in enumerate(stretches):
        at, before = 0, prose[-1][-_LEAD:] if part.fenced and prose else ""
        for document in _documents(part, stopped=ended in STOPPED, final=number == len(stretches) - 1):
            between = part.text[at : document.start]
            at = document.end
            prose.append(between)
            lead = (between if between.strip() else before + between)[-_LEAD:]
            before = ""
            if _is_example(lead):
                found.rules.add("example_left_out")
            else:
                kept.append((document, part.fenced, lead))
                last = len(prose)
        prose.append(part.text[at:])
    beside = {"in_text"} if len(kept) > 1 or any(piece.strip() for piece in prose) else set()
    place = {True: {"fenced"}, False: {"in_text"} if has_fence(text) else set()}
    for document, fenced, lead in kept:
        found.cut = found.cut or document.open
        found.broken = found.broken or document.broken
        rules = document.rules.union(beside, place[fenced])
        found.documents.append(Piece(document.root, rules, document.remnant, lead))
    found.prose = "\n".join(prose)
    found.after = "\n".join(prose[last:])
    return found


def _documents(part: Part, *, stopped: bool, final: bool) -> list[Document]:
    """Find the objects of one part: by json.loads where that is all there is, else by the scanner."""
    text = part.text.strip(BLANKS)
    if text.startswith(("{", "[")):
        fine, node = loads(text)
        if fine and isinstance(node, (Members, list)):
            return [Document(node, 0, len(part.text), frozenset(), open=False, broken=False, remnant=False)]
    return scan(part.text, stopped=stopped, final=final)
