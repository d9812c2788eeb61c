"""Whether a text commits to one answer: what a policy may write to earn a reward.

Words behind an answer can take it back in more ways than a parser reads, and a policy would find them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from reasonknee_datasets.bench.answers.answer_box import BOX_KEYS
from reasonknee_datasets.bench.answers.json_nodes import Members, Node
from reasonknee_datasets.bench.answers.key_matching import LONGEST_KEY, name_of
from reasonknee_datasets.bench.answers.outcome import SlotAnswer
from reasonknee_datasets.bench.answers.text_parts import find, load_or_clean
from reasonknee_datasets.moaks import Question
from reasonknee_datasets.moaks.spellings import normal_form

LONGEST = 20_000
"""Characters of the longest completion that earns anything; the longest true answer has about a tenth."""

# Rules that read prose, or an object that is not whole, or a value that is given more than once.
_NO_WHOLE_OBJECT = frozenset(
    (
        *("bare", "boxed", "table", "key_value", "stated", "corrected", "repeated", "list", "unclosed"),
        *("json_in_string", "inner_quotes", "missing_comma", "empty_value", "equals", "doubled_braces", "among_others"),
    )
)
# Characters allowed after an object: the end of a fence, of bold type, of a sentence. "~~" and "-->" withdraw it.
_END = re.compile(r"[\s`*.]*")
# A value in quotes that is one grade and not a list, a bound or a number with others next to it.
_ONE_VALUE = re.compile(r"\s*\w+(?:[ -][^\W\d]+)*(?: \d+)?\s*")
# A rest of JSON in the prose before an object.
_FRAGMENT = re.compile(r"[\"'”]\s*:|[{}]")


def is_whole_object(rules: Iterable[str]) -> bool:
    """Check that no rule read prose, an object that is not whole, or a value that is given more than once."""
    return _NO_WHOLE_OBJECT.isdisjoint(rules)


def is_from_object(slot: SlotAnswer) -> bool:
    """Check whether a slot's value comes from a whole object, and once; a slot without a value does not matter."""
    return slot.reason != "conflicting" and is_whole_object(slot.rules)


def commits(question: Question, text: str | None, *, whole: bool) -> bool:
    """Check whether a text holds at most one object and ends with it; if `whole`, that it holds only the answer."""
    if text is None or len(text) > LONGEST:
        return False
    node, said = load_or_clean(text)
    if said is None:  # JSON as a whole
        return not whole or _holds_only_answers(question, node)
    found = find(said.text, said, "")
    if not found.documents:
        return not whole
    if len(found.documents) > 1 or not _END.fullmatch(found.after):
        return False
    first = found.documents[0]
    sound = not (found.cut or found.broken or found.disowned or first.remnant or _FRAGMENT.search(found.prose))
    return not whole or (sound and _holds_only_answers(question, first.root))


def _holds_only_answers(question: Question, node: Node) -> bool:
    """Check whether every key of an object names what was asked, or the box, and every value is one value."""
    if not isinstance(node, Members):
        return False
    for key, value in node.pairs:
        if name_of(question, key).role not in ("wrapper", "subject", "slot", "generic"):
            if len(key) > LONGEST_KEY or normal_form(key) not in BOX_KEYS:
                return False
        elif isinstance(value, Members):
            if not _holds_only_answers(question, value):
                return False
        elif isinstance(value, list) or (isinstance(value, str) and not _ONE_VALUE.fullmatch(value)):
            return False
    return True
