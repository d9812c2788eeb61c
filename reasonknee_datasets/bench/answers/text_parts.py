"""Parts of a text that could hold an answer: its objects and its prose, without drafts, tags and what is taken back.

`spoken` removes drafts and tags, `find` returns the objects that the text does not retract, and the prose around them.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field

from reasonknee_datasets.bench.answers.json_nodes import Members, Node, loads
from reasonknee_datasets.bench.answers.lenient_json import Document, scan
from reasonknee_datasets.bench.answers.retractions import disowns

BLANKS = " \t\r\n"
"""White space of JSON."""
_INVISIBLE = re.compile(r"[\u200b\u200c\u200d\u2060\ufeff]")
_LATEX = re.compile(r"\\(?:text|textbf|mathrm|mathbf)\s{0,4}\{([^{}\n]{0,80})\}")
_CHANNEL = re.compile(r"<\|channel\|>\s{0,8}final\s{0,8}(?:<\|constrain\|>\s{0,8}\w{0,20}\s{0,8})?<\|message\|>")
_THOUGHTS = r"think|thinking|thought|thoughts|reasoning|scratchpad|analysis|reflection|seed:think|antthinking"
_THOUGHT = re.compile(
    rf"<(?P<end>/)?(?:{_THOUGHTS})(?:\s[^<>]{{0,100}})?>|\[(?P<end2>/)?THINK\]|◁(?P<end3>/)?think▷"
    r"|<\|(?:begin|(?P<end4>end))_of_thought\|>|<unused9(?:4>(?:thought)?|(?P<end5>5)>)",
    re.IGNORECASE,
)
_ANSWER = re.compile(
    r"<(?P<end>/)?(?:answer|final_answer|final|diagnosis)>|<\|(?:begin|(?P<end2>end))_of_(?:box|solution|answer)\|>",
    re.IGNORECASE,
)
_TOKEN = re.compile(r"<\|[^|<>\n]{1,40}\|>|</?s>|<(?:end|start)_of_turn>|\[/?INST\]|<(?:eos|bos|pad)>")
_FENCE = re.compile(r"(?:`{3,8}|~{3,8})(?:[A-Za-z][\w+.\-]{0,19}(?=[\s{\[]))?")
_ESCAPED = re.compile(r"\{(?:\s|\\n){0,20}\\\"")
_NAMES = r"answer|diagnosis|assessment|grades?|grading|scores?|moaks|results?|output|impression|conclusion|json"
_FINAL = re.compile(
    rf"(?<![\"'\w])final\s{{1,4}}(?:{_NAMES})\b(?:(?!\s(?:is|are)\b)[^:\n\"'{{}}]){{0,40}}:"
    rf"|^[#*_ \t]{{0,8}}final\s{{1,4}}(?:{_NAMES})[^:\n\"'{{}}.|]{{0,30}}$"
    r"|^[#*_ \t]{0,8}(?:answer|conclusion|impression)[*_ \t]{0,4}:",
    re.IGNORECASE | re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of text: prose, or the text between two fences."""

    text: str
    fenced: bool


@dataclass(frozen=True, slots=True)
class Spoken:
    """The part of a text that is meant as its answer.

    Attributes
    ----------
    text : str
        Without drafts, tags and tokens; blank where nothing is left.
    rules : frozenset of str
        What was done.
    unfinished : bool
        It ended in the middle of a draft.
    """

    text: str
    rules: frozenset[str]
    unfinished: bool


def spoken(text: str) -> Spoken:
    r"""Remove from a text what is not meant as its answer.

    Examples
    --------
    >>> spoken("<think>Grade 1? No, it is larger.</think>\n{\"grade\": 2}<|im_end|>").text
    '{"grade": 2}'
    >>> spoken("<think>Let me look at").unfinished
    True
    """
    rules: set[str] = set()

    def note(rule: str, before: str, after: str) -> str:
        if after != before:
            rules.add(rule)
        return after

    text = note("invisible", text, _INVISIBLE.sub("", text))
    text = _LATEX.sub(r"\1", text)
    text = note("final_channel", text, _last_channel(text))
    kept, unfinished = _without_thoughts(text)
    text = note("thought_removed", text, kept)
    text = note("answer_tag", text, _answers(text))
    text = note("special_tokens", text, _TOKEN.sub(" ", text))
    if "{&quot;" in text or "&quot;:" in text:
        text = note("escaped_json", text, html.unescape(text))
    if _ESCAPED.search(text):
        text = note("escaped_json", text, text.replace('\\\\"', '"').replace('\\"', '"').replace("\\n", "\n"))
    text = note("invisible", text.strip(BLANKS), text.strip())
    return Spoken(text, frozenset(rules), unfinished)


def _last_channel(text: str) -> str:
    end = 0
    for found in _CHANNEL.finditer(text):
        end = found.end()
    return text[end:]


def _is_end(found: re.Match[str]) -> bool:
    return any(value for name, value in found.groupdict().items() if name.startswith("end"))


def _without_thoughts(text: str) -> tuple[str, bool]:
    """Leave out drafts: from an opening tag to its end, and all before an end that was never opened."""
    kept: list[str] = []
    at, thinking = 0, False
    for found in _THOUGHT.finditer(text):
        if _is_end(found):
            if not thinking:
                kept.clear()  # the template had opened it in the prompt
            thinking = False
        elif not thinking:
            kept.append(text[at : found.start()])
            thinking = True
        at = found.end()
    if not thinking:
        kept.append(text[at:])
    return "".join(kept), thinking


def _answers(text: str) -> str:
    """Keep the content of answer tags, if there are any."""
    kept: list[str] = []
    at: int | None = None
    for found in _ANSWER.finditer(text):
        if not _is_end(found):
            at = found.end() if at is None else at
        elif at is not None:
            kept.append(text[at : found.start()])
            at = None
    if at is not None:
        kept.append(text[at:])
    return "\n".join(kept) if kept else text


def final_part(text: str) -> str | None:
    r"""Return what follows the first heading that announces the final answer; None where there is none.

    Examples
    --------
    >>> final_part("At first I thought grade 1.\nFinal answer: grade 2")
    ' grade 2'
    """
    found = _FINAL.search(text)
    return text[found.end() :] if found else None


def parts(text: str) -> list[Part]:
    r"""Cut a text at its code fences.

    Examples
    --------
    >>> parts('Here:\n```json\n{"grade": 2}\n```')
    [Part(text='Here:\n', fenced=False), Part(text='\n{"grade": 2}\n', fenced=True)]
    """
    found: list[Part] = []
    at, fenced = 0, False
    for fence in _FENCE.finditer(text):
        found.append(Part(text[at : fence.start()], fenced))
        at, fenced = fence.end(), not fenced
    found.append(Part(text[at:], fenced))
    return [part for part in found if part.text.strip()]


LENGTH = frozenset(("length", "max_tokens", "max_output_tokens", "max_length", "model_length", "incomplete"))
"""Finish reasons of a text that ran out of tokens."""
STOPPED = frozenset(("stop", "end_turn", "eos", "eos_token", "stop_sequence", "completed", "finished", "complete"))
"""Finish reasons of a text that its model ended."""
FILTERED = frozenset(("content_filter", "safety", "refusal", "blocklist", "prohibited_content", "recitation"))
"""Finish reasons of a text that the provider withheld."""

# How far back a heading can stand before its object.
_LEAD = 160


@dataclass(frozen=True, slots=True)
class ParsedObject:
    """One object of a text.

    Attributes
    ----------
    root : Node
    rules : frozenset of str
        The rules by which it was read.
    remnant : bool
        It may be a part of something else.
    lead : str
        What leads to it.
    between : str
        The prose between the object before it and itself, without introductions of objects that are not answers.
    """

    root: Node
    rules: frozenset[str]
    remnant: bool
    lead: str
    between: str


@dataclass(slots=True)
class ParsedText:
    """Objects and prose of a text.

    Attributes
    ----------
    documents : list of ParsedObject
        Every object in the order of the text.
    prose : str
        The text without its objects.
    after : str
        The prose behind the last object.
    rules : set of str
        What was done to the text as a whole.
    cut, broken : bool
        The text ended inside an object, or something else did.
    disowned : str or None
        Why an object was left out: ``placeholder`` or ``retracted``.
    """

    documents: list[ParsedObject] = field(default_factory=list)
    prose: str = ""
    after: str = ""
    rules: set[str] = field(default_factory=set)
    cut: bool = False
    broken: bool = False
    disowned: str | None = None


def why_nothing(text: str | None, ended: str, error: str | None) -> str | None:
    """Return the reason for an answer that is none at all; None where there is a text to read."""
    if error is not None or ended == "error":
        return "provider_error"
    if text is None or not text.strip():
        return "truncated" if ended in LENGTH else "refusal" if ended in FILTERED else "empty"
    return None


def load_or_clean(text: str) -> tuple[Node, Spoken | None]:
    """Read a whole text by ``json.loads`` alone; if that fails, return its cleaned text.

    Examples
    --------
    >>> load_or_clean('{"grade": 2}')
    (Members(pairs=(('grade', 2),)), None)
    >>> load_or_clean('Grade 2.')[1].text
    'Grade 2.'
    """
    fine, node = loads(text)
    if fine and not isinstance(node, str):
        return node, None
    if not isinstance(node, str):
        return None, spoken(text)
    said = spoken(node)
    return None, Spoken(said.text, said.rules | {"json_in_string"}, said.unfinished)


def find(text: str, said: Spoken, ended: str) -> ParsedText:
    """Find the objects and the prose of a text, or of its final part."""
    found = ParsedText(rules=set(said.rules), cut=said.unfinished)
    prose: list[str] = []
    kept: list[tuple[Document, bool, str, str]] = []
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
            disowned = disowns(lead, first=not kept)
            if disowned:
                found.disowned = disowned
                found.rules.add("example_left_out")
            else:
                kept.append((document, part.fenced, lead, "\n".join(prose[last:])))
                last = len(prose)
        prose.append(part.text[at:])
    wider = {"in_text"} if len(kept) > 1 or any(piece.strip() for piece in prose) else set()
    place = {True: {"fenced"}, False: {"in_text"} if _FENCE.search(text) else set()}
    for document, fenced, lead, between in kept:
        found.cut = found.cut or document.open
        found.broken = found.broken or document.broken
        rules = document.rules.union(wider, place[fenced])
        found.documents.append(ParsedObject(document.root, rules, document.remnant, lead, between))
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
