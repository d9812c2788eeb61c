"""Answer parser: read the grades and the box from a model's text, each with its rules or a named reason.

`parse_answer` works in stages:

1. Clean the text: remove drafts, tags and tokens (`text_parts.spoken`).
2. Find its JSON objects (`text_parts.find`, with `lenient_json` and `json_nodes`), and drop those that a sentence next
   to them denies, retracts or introduces as an example (`retractions`).
3. Collect the claims of the objects (`candidates`): `key_matching` reads a key, `grade_values` reads a value by the
   words of its scale (`scale_words`).
4. If no object answers, read the prose (`prose`): `rewriting` brings it into a plain form, `prose` reads tables and
   lists, `statements` reads sentences. A number is a grade only if a label leads to it (`prose_numbers`,
   `number_labels`), its subject is the asked one (`running_subject`, `subjects`, `subject_names`) and its clause states
   it (`clauses`).
5. Join the claims of each slot into a grade or a reason (`parse`, with the names in `outcome`).

`parse_box` (`answer_box`) shares the first two stages; `sole_answer` checks for rewards that a text holds one answer.

To support a new phrasing, first look for its word list or phrase list in ``word_lists.txt``, which `words` reads: a
new word needs no code. A new spelling of a key also goes there, a new word for a grade into `scale_words`, and a new
order of words into `rewriting`. Add the text with its grades to ``tests/bench/test_answers_*.py`` and raise
`CODEC_VERSION`. A description without a grade or a yes or no has no grade, and a text with two readings is refused: a
wrong grade is worse than none.
"""

from __future__ import annotations

from reasonknee_datasets.bench.answers.answer_box import parse_box
from reasonknee_datasets.bench.answers.outcome import (
    CODEC_VERSION,
    REASONS,
    RULES,
    ParsedAnswer,
    ParsedBox,
    SlotAnswer,
    official_parse,
    write,
)
from reasonknee_datasets.bench.answers.parse import parse_answer

__all__ = [
    "CODEC_VERSION",
    "REASONS",
    "RULES",
    "ParsedAnswer",
    "ParsedBox",
    "SlotAnswer",
    "official_parse",
    "parse_answer",
    "parse_box",
    "write",
]
