"""Rewrite prose before it is read: remove list markers and scales, write corrections and reversed orders plainly."""

from __future__ import annotations

import re

from reasonknee_datasets.bench.answers.subjects import names_another
from reasonknee_datasets.bench.answers.words import normalise
from reasonknee_datasets.moaks import Question

# "one lesion (grade 1)", "no cyst (3)": what is counted and what is left out tell the attributes of a marrow lesion.
_COUNTED = re.compile(
    r"\b(?P<count>one|an?|two|three|four|several|multiple)(?P<single> single| solitary)?(?: [a-z-]+){0,2}?"
    r" (?:lesions?|bml|foci|focus)(?: [a-z]+){0,3} \((?:grade )?(?P<n>[0-3])\)|(?P<alone>single"
    r"|solitary) \((?:grade )?1\)"
)
_UNCYSTIC = re.compile(
    r"\b(?:no|without(?: an?| any)?) (?:cyst(?:s|ic)?)\b[^.;()0-9]{0,30}(?:>66%)? ?\((?:(?:percent\w*"
    r"|%) ?[:=]? ?)?(?:grade )?3\)"
)
# "1/1/3 (size/number/percent)", "1, 1 and 3 for size, number and percentage".
_AND = r"(?:\s?[,/]\s?(?:and )?|\sand\s)"
_VALUES_FIRST = re.compile(
    rf"(?<![0-9.])(?P<values>[0-3](?:{_AND}[0-3]){{1,2}})(?:\s(?:for|as)\s(?:the )?|\s?\()"
    rf"(?P<labels>(?:[a-z]+ )?[a-z]{{4,}}(?:{_AND}(?:the )?(?:[a-z]+ )?[a-z]{{4,}}){{1,2}})(?:\)"
    rf"|, respectively)?(?=\s?(?:[.,;:)\n]|$))"
)


# "has 1 for size and 0 for depth"
_VALUE_FOR = re.compile(
    r"(?:^|(?<=[,;:/\n] )|(?<=\n)|(?<=and )|(?<=has )|(?<=with )|(?<=assign )|(?<=give ))(?P<value>[0-8]) for (?:the )?"
    r"(?P<label>size|depth|number|percent(?:age)?|presence|(?:tear )?location|complete tear|repair"
    r"|bml ?(?:/|or) ?cyst at (?:the )?insertion)(?=\s*(?:[,;.\n/)]|and (?=[0-8])|$))"
)


def _labels_first(found: re.Match[str]) -> str:
    """Write values that stand before their labels behind them."""
    values, labels = re.findall(r"[0-3]", found["values"]), re.split(_AND, found["labels"])
    if len(values) != len(labels):
        return found[0]
    return " and ".join(f"{label} {value}" for label, value in zip(labels, values, strict=True))


# "A cyst is present at its tibial insertion (1)."
_INSERTION = re.compile(
    r"(?:associated with )?\b(?:bml|cysts?|marrow (?:edema|oedema|signal)|bone (?:marrow )?(?:edema|oedema|bruise))\b"
    r"[^.;:()=,0-9]{0,50}"
    r"\b(?:insertions?|origins?|attachments?|footprints?|enthes[ie]s)\b(?=[^.;:()=,0-9]{0,20}(?:\("
    r"|[:=])\s*(?:grade )?[01]\b)"
)


def _insertion(question: Question, said: str) -> str:
    return said if "associated" in said or names_another(question, said) else "insertion lesion"


_COUNTS = {"one": 1, "a": 1, "an": 1, "two": 2, "three": 3, "four": 3, "several": 3, "multiple": 3}
_MARKER = re.compile(
    r"(?m)^([ \t>#]*(?:[-•+–][ \t]+)?)(?:\(?[0-9]{1,2}[.)]|step [0-9]{1,2}[:.)]?|[a-h][.)])(?=[ \t]+\S)"
)
_SCALE_ENTRY = re.compile(
    r"(?<![\w.])(?:grade\s+(?P<g>[0-8])\s*(?:[:=–—]|-\s|\()|(?P<v>[0-8])\s*[:=])\s*(?=[a-z<>≥0-9\"'])"
)
_ENTRY_END = re.compile(r"[,;\n]|\)(?=[\s.,;]|$)|\.(?=\s|$)|$")


# "Some would say 2 here, but": a grade that others give.
_ASCRIBED = re.compile(
    r"(?m)(?:^[ \t]*|(?<=[.;,\n] ))(?:while |although |though |surely )?"
    r"(?:(?:some(?:one|body)?|many|most|others|a few|few|several"
    r"|people|a (?:colleague|strict|lenient|careful|cautious|purist)|another)\b(?: \w+){0,3}?"
    r"|(?:one|you)(?=[^.;\n]{1,80}(?:[;,]|\.) ?(?:but|yet|however|i)\b)) (?:would|could|might|may|will|can)"
    r"(?: \w+){0,3}? (?:say|call|give|label|read|grade|score|rate|argue|go|stop|write|expect|pick|choose|assign"
    r"|put|settle|favou?r|opt)\b[^.;,\n]{0,60}?[0-8]\b"
    r"[^.;,\n0-9]{0,30}(?:[.;\n]|,(?: a \w+ one [0-8];)?(?: but| yet)?|$)"
)
# "Size 1 -> sorry, I misread: size 2".
_SELF_CORRECTED = re.compile(
    r"(?P<before>[a-z%/ :=]{0,40})(?<![0-9.])(?P<n>[0-8])(?P<gap>[ \t.,;:()\-–—]{1,6})(?:(?:but|and|oh) )?"
    r"(?:sorry|oops|pardon|apologies|my (?:mistake|bad)|(?:scratch|strike) that|correction|wait|i mean|i meant"
    r"|make that|typo|(?:hmm,? )?no(?=[,:.] )"
    r"|no,? (?=wait|i |make|that|sorry|it |rather|actually)|i mis\w+|actually|or rather|rather(?! than)"
    r"|on (?:a )?(?:second|closer) (?:look|thoughts?|inspection))\b"
    r"(?P<rest>[^0-9\n]{0,60}(?:[0-9.]{1,5} ?(?:mm|cm|%)[^0-9\n]{0,40})?)(?P<m>[0-8])"
    r"(?P<end>\)?)(?=[ \t]*(?:[.,;)\n]|$))"
)
_ATTRIBUTE = re.compile(r"size|number|percent|%|depth|presence|location|complete tear|bml|repair|morphology")


def _corrected(question: Question, found: re.Match[str]) -> str:
    """Put the value that a writer corrects a value to in the place of the first."""
    own, later = (_ATTRIBUTE.findall(found[name]) for name in ("before", "rest"))
    if re.search(r"\b(?:not|never|than|instead of|between|or)\b", found["rest"]) or names_another(
        question, found["rest"]
    ):
        return found[0]
    if later and (not own or own[-1] != later[-1]):
        return found[0]
    end = found["end"] if "(" not in found["gap"] else ""
    return f"{found['before']}{found['m']}{end}"


def _counted(found: re.Match[str]) -> str:
    """Write a count of lesions with a grade that fits it as a labelled one."""
    if found["alone"]:
        return "number: 1"
    fits = _COUNTS[found["count"]] == int(found["n"]) and (found["count"] not in ("a", "an") or found["single"])
    return f"number: {found['n']}" if fits else found[0]


def rewrite(question: Question, text: str) -> tuple[str, set[str]]:
    """Normalise prose and write what a question's attributes are called by in the words of its labels.

    Parameters
    ----------
    question : Question
        The question that was asked.
    text : str
        Prose as it was written.

    Returns
    -------
    str
        The prose that `statements` reads.
    set of str
        Rules about the text as a whole.

    Examples
    --------
    >>> from reasonknee_datasets.moaks import get_question
    >>> rewrite(get_question(19), "1. I give **2** for size and 1 for depth.")[0]
    ' i give size 2 and depth 1.'
    """
    text, rules = without_scales(without_markers(normalise(text)))
    text = _ASCRIBED.sub("", text)
    if not re.search(r"(?m)^\W*b\s?[:.)=]", text):
        text = re.sub(r"(?m)^a\s?:(?=\s)", "answer:", text)
    text = _SELF_CORRECTED.sub(lambda found: _corrected(question, found), text)
    text = re.sub(rf"\b(?:question|q)\.? ?{question.id}\s?[:=\-]", "grade:", text)
    if len(question.slots) > 1:
        text = _VALUES_FIRST.sub(_labels_first, text)
        whole = len(re.findall(r"\b[0-8] for ", text)) == len(_VALUE_FOR.findall(text))
        text = _VALUE_FOR.sub(r"\g<label> \g<value>", text) if whole else text
    if question.category == "ligament":
        text = _INSERTION.sub(lambda found: _insertion(question, found[0]), text)
    if question.category == "bone_marrow_lesion":
        text = _UNCYSTIC.sub("percent: 3", _COUNTED.sub(_counted, text))
    return text, rules


def without_markers(text: str) -> str:
    """Remove the numbers and letters that order a list.

    Examples
    --------
    >>> without_markers("2. depth: 1")
    ' depth: 1'
    """
    return _MARKER.sub(r"\1", text)


def without_scales(text: str) -> tuple[str, set[str]]:
    """Remove runs of grades that each have their meaning: they are the scale."""
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
