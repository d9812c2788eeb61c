"""Words: what ``word_lists.txt`` lists, and prose cut into tokens.

`word_list`, `heading_names` and `pattern` read the vocabulary; `normalise` and `tokens` prepare prose for it.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources

_HEAD = re.compile(r"(?m)^(words|names|macro|phrases) ([^\n:]+):\n")


@cache
def _sections() -> dict[tuple[str, ...], str]:
    """Read every section's text, without comments, by its heading."""
    text = resources.files(__package__).joinpath("word_lists.txt").read_text(encoding="utf-8")
    parts = _HEAD.split(re.sub(r"(?m)^#.*\n", "", text))
    return {(kind, *head.split()): body for kind, head, body in zip(parts[1::3], parts[2::3], parts[3::3], strict=True)}


@cache
def word_list(*lists: str) -> frozenset[str]:
    r"""Return the words of one or more lists.

    Examples
    --------
    >>> sorted(word_list("sentence_ends"))
    ['\n', '!', '.', ';', '?']
    """
    found = (word for name in lists for word in _sections()["words", name].split())
    return frozenset("\n" if word == "\\n" else word for word in found)


@cache
def heading_names(*head: str) -> tuple[str, ...]:
    """Return the names under one heading.

    Examples
    --------
    >>> heading_names("site", "tibia")
    ('tibia', 'tibial', 'plateau', 'plateaus', 'tibial plateau')
    """
    return tuple(re.sub(r"\s+", " ", _sections()[("names", *head)]).strip().split(", "))


@cache
def names_of(kind: str) -> tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]:
    """Return every heading of a kind with its names.

    Examples
    --------
    >>> names_of("side")[0]
    (('medial',), ('medial', 'medially'))
    """
    return tuple((key[2:], heading_names(*key[1:])) for key in _sections() if key[:2] == ("names", kind))


@cache
def pattern(name: str) -> re.Pattern[str]:
    """Compile the phrases of a list into one pattern, each bounded by words.

    Examples
    --------
    >>> pattern("takes_back").search("none of this is my answer") is not None
    True
    """
    lines = re.sub(r"\n    ", "", _sections()["phrases", name]).strip("\n").split("\n")
    return re.compile("|".join(_bounded(_expanded(line.strip())) for line in lines if line.strip()))


def _expanded(phrase: str) -> str:
    """Replace the macros of a phrase, and make its groups non-capturing."""
    macros = {key[1]: re.sub(r"\n\s*", "", body).strip() for key, body in _sections().items() if key[0] == "macro"}
    known = re.compile("|".join(sorted(macros, key=len, reverse=True)))
    while True:
        wider = known.sub(lambda found: macros[found[0]], phrase)
        if wider == phrase:
            return re.sub(r"(?<!\\)\((?!\?)", "(?:", phrase)
        phrase = wider


def _bounded(text: str) -> str:
    return ("" if text.startswith(("^", "(?:^")) else r"\b") + text + ("" if text.endswith("$") else r"\b")


ROMAN: dict[str, int] = {
    word: number for number, word in enumerate(("i", "ii", "iii", "iv", "v", "vi", "vii", "viii"), start=1)
}
# Full-width forms of ASCII and single characters of Roman numerals. Superscripts and fractions are not grades.
_NARROW = {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
_NARROW |= {
    first + place: word
    for first in (0x2160, 0x2170)
    for place, word in enumerate(("i", "ii", "iii", "iv", "v", "vi", "vii", "viii"))
}


def narrow(text: str) -> str:
    """Write full-width characters and Roman numeral characters as ASCII.

    Examples
    --------
    >>> narrow("Grade \uff12"), narrow("Grade \u2161"), narrow("\u00b9")
    ('Grade 2', 'Grade ii', '\u00b9')
    """
    return text if text.isascii() else text.translate(_NARROW)


_WORD = re.compile(r"[0-9]+(?:\.[0-9]+)?(?![0-9]*[^\W\d_])|[^\W_]+|\n|[^\s\w]")
_MARKUP = re.compile(r"[*`]+|~~+")
_TAG = re.compile(r"<(?P<name>[a-z][a-z _\-]{0,60})>(?P<value>[^<>\n]{0,80})</[a-z][a-z _\-]{0,60}>")
EXTREMES = {"scalehigh": math.inf, "scalelow": -math.inf}
"""The forms that `normalise` gives to "the highest grade" and "the lowest grade"; the slot says which grade that is."""
_OF_SCALE = r"(?:the|this|its|that) (?:moaks |grading )?(?:scale|range)"
# Words about the end of a scale in general: "the highest grade is 3", but not "the highest grade is right".
_IN_GENERAL = (
    r"(?:is(?! (?:right|appropriate|correct|justified|warranted|given|assigned|best)\b)|was|are|were|would|could|can"
    r"|may|might|needs?|requires?|(?:mean|stand)s|being|of|among|in|on)\b"
)
_END_OF_SCALE = re.compile(
    r"(?<!second )(?<!next )(?<!third )\b(?:(?P<top>highest|maximum|maximal|top|most severe|worst|uppermost)"
    r"|lowest|minimum|minimal|bottom|mildest)(?: possible)?(?: moaks)? (?:grade|score|category|value|rating|level)\b"
    rf"(?: (?:that )?there is| possible)?(?: (?:on|of|in) {_OF_SCALE})?"
    rf"(?:(?:,| \(|:| -| =| of) ?(?:grade )?(?P<n>[0-8])\b\)?)?(?!(?: (?!and|but|so)\w+){{0,2}} {_IN_GENERAL})"
    r"|\b(?:(?:the )?(?P<top2>top|upper end|highest (?:point|step|level)|maximum|ceiling)|(?:the )?(?:bottom|lower end"
    rf"|lowest (?:point|step|level)|minimum|floor)) of {_OF_SCALE}\b"
    r"(?! (?:is|was|would|could|means|needs|requires)\b)(?!.{0,12}\bnot\b)"
    r"|(?<=[:=] )(?P<alone>(?P<top3>highest|maximum|maximal)|lowest|minimum)(?: possible)?(?: \((?P<n3>[0-8])\))?"
    r"(?=[ \t]*(?:[.,;)\n]|$))"
)
_ORDINALS = {
    word: place for place, word in enumerate(("first", "second", "third", "fourth", "fifth", "sixth"), start=1)
}
_ORDINAL = re.compile(
    rf"(?:(?<=of )|(?<=, )|(?<=but ))(?:the |an? )?(?P<word>{'|'.join(_ORDINALS)}) (?:moaks )?grade"
    r"(?=[ \t]*(?:[.,;)\n]|$)| at | of the (?!scale)| applies| fits)"
)


def _end_of_scale(found: re.Match[str]) -> str:
    if found["n"] or found["n3"]:
        return f"grade {found['n'] or found['n3']}"
    end = "scalehigh" if found["top"] or found["top2"] or found["top3"] else "scalelow"
    return end if found["alone"] else f"grade {end}"


_REPLACED: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), new)
    for pattern, new in (
        (r"[\u2018\u2019\u02bc]", "'"),
        (r"\b(?:can't|cannot)\b", "can not"),
        (r"\bwon't\b", "will not"),
        (r"\b([a-z]+)n't\b", r"\1 not"),
        (r"\bain't\b", "is not"),
        (r"'d\b", " would"),
        (r"'ll\b", " will"),
        (r"'ve\b", " have"),
        (r"\bi'm\b", "i am"),
        (r"\b(it|that|this|there|here|what)'s\b", r"\1 is"),
        (r"'s\b", ""),
        (r"\bi\.e\.,?", "that is"),
        (r"\be\.g\.,?", "for example"),
        (r"\b(vs|approx|resp|dr|fig|no(?=\. ?[0-9]))\.", r"\1"),
        (r"\bthe (?:grade|score|value|rating|answer) (?:that |which )?(?:i|we) (?:would |will |have |had |shall )?"
         r"(?:enter|choose|chose|chosen|give|gave|given|assign|put|report|pick|record|use|select|settle on)(?:e?d)? "
         r"(?:for|to|here for)\b", "the grade for"),
        (r"\b(mm|cm) past\b", r"\1 beyond"),
        (r"\bthe (grade|score|value|rating) (?:that |which )?(?:i|we) (?:would |will )?"
         r"(?:report|give|assign|choose|enter|arrive at|settle on|record|propose) (?=is\b)", r"the \1 "),
        (r"\bis not (?:a |an )?(?:moaks )?(?:grade |score )?[0-8],? but (?:rather |instead )?"
         r"(?=(?:a )?(?:grade )?[0-8]\b)", "is "),
        (r"\b(?:i|we) (?:would )?consider (?=(?:it |this |that )?(?:to be )?(?:an? )?(?:small|medium|large|mild"
         r"|moderate|severe"
         r"|normal|physiologic)\b|(?:it|this|that) (?:an? )?(?:moaks )?grade [0-8])", "i call "),
        (r"\boption (?=[0-8] (?:fits|applies|is|matches|describes|holds))", "grade "),
        # "I'd go for a 1", "I insist on 3": what the writer says.
        (r"\bi ((?:would |will |am |do |still |only |just |therefore |thus )*)(?:go(?:ing)? (?:for|with)|opt for"
         r"|settle on|insist on|stay (?:with|at)|stick (?:with|to)|hold (?:on )?to|keep(?:ing)?(?: it at| to)?)"
         r" (?=(?:an? |grade )*[0-8]\b)", r"i \1say "),
        (r"\b(?:replace|change|amend|set|correct|lower|raise|revise|update|adjust) (?:the |its |my |our )?"
         r"(\w+(?: \w+){0,3}?)"
         r"(?: (?:value|grade|score|entry|field))? (?:from [0-8] )?(?:to|by|with) (?=(?:grade )?[0-8]\b)",
         r"correction: \1 is "),
        (r"\b([0-8]) is (?:therefore |thus |hence |then )?(?:my|the|our) (?:final |overall |moaks )?(?:grade"
         r"|score|answer|rating)\b", r"the grade is \1"),
        (r"(?m)^(\w{1,60}_\w{1,60}),\s?(?=[0-8]\s*$)", r"\1: "),
        (r"(?<=[a-z])[_\-\u2010-\u2014](?=[a-z])|_", " "),
        (r"\b(grade|graded|score|scored)(?=[0-9])", r"\1 "),
        (r"(?:^|(?<=[.\n] ))without (?!(?:\w+ )?(?:having|seeing|looking|opening|viewing|access))[^,.;:\n]{1,40},"
         r"|\bwithout (?:it|this|that|them|these)\b", ""),
        (r"\b(final(?:ly)?)\s*:(?=\s*[0-9])", r"\1 grade:"),
        (r"\s?(?<!\.)\.{3,}\s?:?\s?(?=[0-8]\b)|\s\u2026+\s?:?\s?(?=[0-8]\b)", ": "),
        # "2 out of 3" is a grade of a scale that ends in 3, but "in 2 out of 3 slices" is not.
        (r"(?<!in )\b([0-3])(?: points?)? out of (?:a (?:possible|maximum) )?3\b(?=\s*(?:$|[.,;:)\n(]"
         r"|[-\u2013\u2014] ))", r"\1"),
        (r"[-=]>|\u2192|\u21d2|\u27f9|\u2794", ":"),
        (r"\bbone marrow (?:lesion|o?edema)(?: (?:like )?(?:lesion|signal))?s?\b|\bbmls\b", "bml"),
        (r"\bprovided (?=(?:\w+ )?(?:images?|scans?|mri|slices?|views?|volumes?|data|sequences?|information"
         r"|criteria|scale)\b)",
         "given "),
        (r"\b(images?|scans?|mri|slices?|views?|volumes?|data|sequences?|information|criteria"
         r"|scale) (?:(?:that )?(?:is|are|was"
         r"|were|you) )?provided\b(?! that)", r"\1"),
        # Words of a writer about the images or itself before the grade.
        (r"(?:^|(?<=[.\n] ))(?:although|though|while|even though|despite|since|because|as|given)\b"
         r"(?![^.,;:\n]*\b(?:see|seen|view|viewed|open|access|receive|received|grade|graded|assess\w*|determin\w*)\b)"
         r"[^.,;:\n0-9]{1,60}\b(?:quality|resolution|arti?efacts?|artifacts?|noise|sequence|contrast|motion"
         r"|diagnos[ei]s?|diagnose"
         r"|medical advice)\b[^.,;:\n0-9]{0,60}, ", ""),
        (r"\bto the best of my (?:ability|knowledge|judge?ment),?|\b(?:all things|everything) considered,"
         r"|\bwith (?:reasonable|good|high|moderate|fair|some) (?:confidence|certainty),", ""),
        (r"\bmoaks (?:guidelines?|atlas|publication|paper|literature|manual)\b", "moaks"),
        (r"\bi would (?:lean|tend|incline) (?:more |rather )?towards? "
         r"(?=(?:an? |moaks )*(?:grade |score )?(?:of )?[0-8]\b)", "i say "),
        # Set phrases in which a word of denial denies nothing.
        (r"\b(?:without (?:a |any )?doubt|no doubt|without question|no question|beyond (?:a "
         r"|any )?(?:reasonable )?doubt)\b",
         "surely"),
        (r"\bnot (?:only|merely|just)\b(?=[^.;\n]{0,80}\bbut\b|[^.;\n]{0,80}\balso\b)", "both"),
        (r"\bnot (?:a|an|intended as|intended to be|meant as|meant to be) (?:a )?(?:substitute"
         r"|replacement|diagnosis)\b", ""),
        (r"\b(?:anything|everything|all) but\b", "not"),
        (r"\btorn between\b", "undecided between"),
        # A change is stated by where it ends.
        (r"\b(?:has |have )?(?:progress(?:ed|es)|increas(?:ed|es)|chang(?:ed|es)|worsen(?:ed|s)|improv(?:ed|es)"
         r"|advanc(?:ed|es)|decreas(?:ed|es)) from (?:moaks )?(?:grade |score )?(?:a )?[0-8] to (?=(?:moaks )?"
         r"(?:grade |score )?(?:a )?[0-8])",
         "is now "),
        # A ticked box among empty ones; a question with its answer.
        (r"(?:\u2610|\[ \])\s{0,3}[^\u2610\u2611\u2612\[\n]{1,40}", " "),
        (r"(?:\u2611|\u2612|\u2713|\u2714|\u2705|\[x\])\s{0,3}(?=[0-8]\b)", "grade: "),
        (r"(?<![0-9])\?\s{1,3}(?=(?:yes|no|present|absent|true|false|intact|torn)\b|[0-8]\.?(?:\n|$)"
         r"|[a-z ]{1,30}\([0-8]\))", ": "),
        (r"\bgrade [0-8]\b[^\n\u2713\u2714\u2705]{0,60}[\u2717\u2718\u274c]|(?<=[0-8]) ?[\u2713\u2714\u2705]", " "),
        # "I considered 0, so 1 it is"; "medium, or 2 on the MOAKS scale"; "size = depth = 0".
        (r"\b(?:a |grade )?([0-8]) it is\b", r"it is grade \1"),
        (r", or (?:grade )?([0-8]) (?=(?:on|in) (?:the )?moaks)", r", grade \1 "),
        (r"\b([a-z]{3,}) = ([a-z]{3,}) = ([0-8])\b", r"\1 = \3, \2 = \3"),
        (r"\bin (?:the )?moaks (?:terms|notation|language|nomenclature)\s?[:,]\s?(?=[0-8]\b(?!\.[0-9]))", "grade: "),
        (r"\bi would (?:now |then )?rather (?:say|go (?:for|with)|call it|give(?: it)?|put) (?=(?:an? "
         r"|grade )*[0-8]\b)",
         "correction: i say "),
        (r"\bi (?:\w+ )?(?:hesitated|wavered|was undecided|was torn|oscillated"
         r"|went back and forth) between (?:grades? |an? )?[0-8]"
         r" and (?:grade |an? )?[0-8],? (?:and|but|then) (?:(?:finally|then|i|now) )*(?:take|took|choose|chose"
         r"|go|went|settled?"
         r"|decided?|opt|opted|pick|picked|land|landed|say|said)(?: for| on| with)? (?=(?:grade "
         r"|an? )?[0-8]\b)", "i say "),
        # The range that the prompt states, repeated behind a name.
        (r"[(\[]\s*(?:(?:grades?|scores?|scale|range|moaks|from|of|:)\s*){0,4}0\s*(?:-|\u2013|\u2014|to|or|/|,)\s*[1-8]"
         r"(?:\s*,\s*[0-8]){0,8}\s*[)\]]", ""),
        # An interjection between commas does not end a clause.
        (r",\s(?:however|therefore|though|in (?:my|our) (?:opinion|view|judge?ment|assessment|reading|eyes)"
         r"|in this case|in fact|indeed|for now"
         r"|on (?:these|this|the) (?:images?|scans?|slices?|views?|sequences?)|with (?:any )?confidence|at present"
         r"|at this time|from (?:these|this|the) (?:images?|scans?))\s?,", ""),
    )
)  # fmt: skip


def normalise(text: str) -> str:
    """Write prose without markup, contractions and typographic variants, in lower case.

    Examples
    --------
    >>> normalise("**It isn't Hoffa-synovitis, grade ２.**")
    'it is not hoffa synovitis, grade 2.'
    """
    text = _MARKUP.sub("", narrow(text).casefold())
    text = _TAG.sub(lambda found: f"\n{found['name']}: {found['value']}\n", text) if "</" in text else text
    for pattern, new in _REPLACED:
        text = pattern.sub(new, text)
    text = _ORDINAL.sub(lambda found: f"grade {_ORDINALS[found['word']]}", text)
    return _END_OF_SCALE.sub(_end_of_scale, text)


@dataclass(frozen=True, slots=True)
class Token:
    """A word, a number, a mark or a line break, with its place."""

    text: str
    start: int
    end: int


def tokens(text: str) -> list[Token]:
    """Split normalised prose.

    Examples
    --------
    >>> [token.text for token in tokens("size 2.5, 3mm.")]
    ['size', '2.5', ',', '3mm', '.']
    """
    return [Token(found[0], found.start(), found.end()) for found in _WORD.finditer(text)]
