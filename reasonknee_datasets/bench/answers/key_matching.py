"""What a key says: a wrapper, the subject that was asked for or another one, a slot, or something beside the answer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

from reasonknee_datasets.moaks import QUESTIONS, Question, Slot, get_question
from reasonknee_datasets.moaks.spellings import normal_form

Role = Literal["wrapper", "subject", "foreign", "slot", "generic", "beside", "unknown"]

# Longer than any key that says something; what is longer is not even looked at.
LONGEST_KEY = 120
# "grade (0-3)", "score [0 to 3]": the range that the prompt states.
_RANGE_IN_KEY = re.compile(
    r"\s*[(\[]\s*(?:moaks\s*|scale\s*|from\s*)?[0-9]\s*(?:-|–|to|or|/|,|\.\.)[0-9 ,/]{1,20}[)\]]\s*$"
)

_MOAKS_WRAPPERS = ("moaks scores", "moaks score", "moaks grades", "moaks grade", "final diagnosis")
_WRAPPERS = (
    *_MOAKS_WRAPPERS,
    *("diagnosis", "answer", "final answer", "moaks", "moaks grading", "moaks scoring", "final scores", "final grades"),
    *("scores", "grades", "result", "results", "output", "response", "json", "assessment", "findings", "data"),
    *("evaluation", "final assessment", "final", "moaks assessment", "moaks results", ""),
)
_BESIDE = (
    *("bounding box", "bbox", "box", "box 3d", "bounding box 3d", "reasoning", "explanation", "rationale"),
    *("confidence", "justification", "description", "comment", "comments", "note", "notes", "evidence", "analysis"),
    *("thought", "thoughts", "steps", "chain of thought", "question", "image", "side", "visit", "category", "summary"),
    *("impression", "observation", "observations", "interpretation", "differential", "limitations", "alternative"),
    *("alternatives", "second opinion", "uncertainty", "probability", "example", "scale", "legend", "example output"),
)
GENERIC = (
    *("grade", "score", "value", "rating", "moaks", "severity", "level", "final grade", "presence", "present"),
    *("moaks grade", "moaks score", "grade value", "result", "answer", "code", "detected", "final score"),
)
_HOLDS_A_VALUE = frozenset(("grade", "score", "value", "moaks grade", "moaks score", "rating", "answer", "moaks"))

_ALIASES: dict[tuple[str, str], tuple[str, ...]] = {
    ("bone_marrow_lesion", "size"): ("size of bml", "bml size", "lesion size", "size of lesion", "size including cyst"),
    ("bone_marrow_lesion", "number"): (
        "number of bmls",
        "bml number",
        "number of lesions",
        "count",
        "number of bml in subregion",
    ),
    ("bone_marrow_lesion", "percent"): (
        *(
            "percent of lesion that is bml",
            "percentage",
            "percent bml",
            "bml percent",
            "percent of lesion",
            "bml percentage",
            "percentage bml",
        ),
        *("percentage of lesion that is bml", "percent of lesion that is bml excluding cyst", "percent excluding cyst"),
        *("percentage of lesion that is bml excluding cyst", "percent bml excluding cyst", "percent of bml"),
        *("percent of lesion bml", "percentage of bml", "percent that is bml"),
    ),
    ("cartilage_lesion", "size"): ("lesion size", "size of cartilage lesion", "surface area", "size of lesion"),
    ("cartilage_lesion", "depth"): (
        *(
            "percent of full thickness loss",
            "lesion depth",
            "depth of cartilage lesion",
            "full thickness loss",
            "percent full thickness loss",
        ),
        *("percentage of full thickness loss", "full thickness", "depth full thickness loss", "percent full thickness"),
    ),
    ("ligament", "complete_tear"): ("complete acl tear", "complete pcl tear", "acl complete tear", "pcl complete tear"),
    ("ligament", "insertion_lesion"): (
        *("associated with bml cyst", "bml cyst at site of insertion or origin", "associated bml cyst"),
        *("bml cyst at insertion or origin", "associated bml cyst at insertion or origin"),
        *(
            "bml cyst at insertion",
            "bml cyst at insertion origin",
            "associated with bml cyst at insertion origin",
            "associated with bml cyst at insertion",
            "associated with bml cyst at site of insertion",
            "associated with bml cyst at site of insertion origin",
            "bml cyst at site of insertion origin",
            "insertion lesion",
            "bml cyst",
        ),
    ),
    ("ligament", "repair"): ("repair", "repaired", "acl repaired"),
    ("tendon", "signal"): ("signal", "abnormal signal"),
    ("meniscal_cyst", "presence"): ("cyst presence", "cyst present", "present", "cyst"),
    ("meniscal_cyst", "tear_location"): ("location of tear", "tear site", "location", "meniscal tear location"),
    ("meniscal_morphology", "morphology"): ("meniscal morphology", "meniscus morphology", "type"),
    ("meniscal_extrusion", "grade"): ("extrusion", "meniscal extrusion", "extrusion grade"),
    ("osteophyte", "grade"): ("osteophyte", "size", "osteophyte size"),
    ("hoffa_synovitis", "grade"): ("hoffa", "synovitis"),
    ("effusion_synovitis", "grade"): ("effusion", "synovitis"),
}

_INFLECTIONS = {
    "femoral": "femur",
    "tibial": "tibia",
    "patellar": "patella",
    "meniscal": "meniscus",
    "osteophytes": "osteophyte",
    "lesions": "lesion",
    "extrusions": "extrusion",
    "cysts": "cyst",
    "hoffas": "hoffa",
    "scores": "score",
    "grades": "grade",
    "percentage": "percent",
}
# Words that make no difference to what a key names.
_FILL = frozenset(
    ("of", "the", "in", "at", "a", "subregion", "region", "grade", "score", "moaks", "s", "location", "is", "horn")
)


@dataclass(frozen=True, slots=True)
class Name:
    """What a key says, and the rule that it takes to say so."""

    role: Role
    slot: Slot | None = None
    rule: str | None = None


UNKNOWN = Name("unknown")


def loose_form(form: str) -> str:
    """Reduce a normal form to what is left without word order, inflection and fill words.

    Examples
    --------
    >>> loose_form("medial femoral central cartilage lesions") == loose_form("femur medial central cartilage lesion")
    True
    """
    words = (_INFLECTIONS.get(word, word) for word in form.split())
    return " ".join(sorted(word for word in words if word not in _FILL))


def subject_forms(question: Question) -> tuple[str, ...]:
    """Return every official spelling of a question's subject, in normal form."""
    names = [question.subject_key, question.record_key]
    if question.subregion != question.finding:
        names += [f"{question.subregion} {question.finding}", f"{question.finding} {question.subregion}"]
    if question.category == "meniscal_root_tear":
        names.append("MMRT" if question.subregion.startswith("medial") else "LMRT")
    if question.category in ("ligament", "tendon", "periarticular", "hoffa_synovitis", "effusion_synovitis"):
        names.append(question.finding)
    return tuple(dict.fromkeys(normal_form(name) for name in names))


def slot_forms(slot: Slot) -> tuple[str, ...]:
    """Return every spelling of a slot that is understood, in normal form, the prompt's and the record's first."""
    names = [slot.prompt_key or slot.attribute, slot.record_key, slot.attribute]
    other = {"anterior_cruciate_ligament": "pcl", "posterior_cruciate_ligament": "acl"}.get(slot.finding)
    names += (name for name in _ALIASES.get((slot.category, slot.attribute), ()) if other not in name.split())
    return tuple(dict.fromkeys(normal_form(name) for name in names))


@cache
def _every_subject() -> tuple[dict[str, int], dict[str, int]]:
    """Return the question of each subject: by normal form, and by loose form where that is one question's alone."""
    exact = {form: question.id for question in QUESTIONS.values() for form in subject_forms(question)}
    loose: dict[str, int] = {}
    shared: set[str] = set()
    for form, number in exact.items():
        key = loose_form(form)
        if loose.setdefault(key, number) != number:
            shared.add(key)
    return exact, {key: number for key, number in loose.items() if key and key not in shared}


def _own_slots(question: Question) -> Iterator[tuple[str, Name]]:
    for slot in question.slots:
        prompt = normal_form(slot.prompt_key or slot.attribute)
        for form in slot_forms(slot):
            yield form, Name("slot", slot, None if form == prompt else "spelling")


@cache
def _lexicon(question_id: int) -> tuple[dict[str, Name], dict[str, Name]]:
    """Return what each key says to one question: by normal form, and by loose form."""
    question = get_question(question_id)
    exact: dict[str, Name] = dict.fromkeys(_BESIDE, Name("beside"))
    exact.update(dict.fromkeys(_WRAPPERS, Name("wrapper")))
    exact.update({form: Name("foreign") for form in _every_subject()[0]})
    exact.setdefault(normal_form(question.subregion), Name("subject", rule="subregion_only"))
    for form in (f"question {question_id}", f"q{question_id}", str(question_id)):
        exact[form] = Name("subject", rule="question_number")
    exact.update(_own_slots(question))
    own = subject_forms(question)
    exact.update({form: Name("subject", rule="spelling") for form in own if exact.get(form, UNKNOWN).role != "slot"})
    loose = {form: Name("foreign") for form in _every_subject()[1]}
    for form, name in _own_slots(question):
        if key := loose_form(form):
            loose[key] = Name("slot", name.slot, "spelling")
    loose.update({loose_form(form): Name("subject", rule="spelling") for form in own})
    return exact, loose


def name_of(question: Question, key: str) -> Name:
    """Return what a key means to a question.

    Examples
    --------
    >>> asked = get_question(19)
    >>> name_of(asked, "femur medial central cartilage lesion")
    Name(role='subject', slot=None, rule=None)
    >>> name_of(asked, "Full-thickness loss").slot.attribute, name_of(asked, "tibia medial anterior BML").role
    ('depth', 'foreign')
    """
    if len(key) > LONGEST_KEY:
        return UNKNOWN
    if key == question.subject_key:
        return Name("subject")
    form = normal_form(_RANGE_IN_KEY.sub("", key))
    exact, loose = _lexicon(question.id)
    name = exact.get(form) or loose.get(loose_form(form)) or UNKNOWN
    if name.role == "slot" and name.slot is not None:
        if name.slot.prompt_key is None:
            return Name("slot", name.slot, "keyed_value")
        return Name("slot", name.slot, None if key == name.slot.prompt_key else "spelling")
    if len(question.slots) == 1 and name.role in ("wrapper", "unknown") and form in GENERIC:
        return Name("generic", question.slots[0], "generic_key")
    return name


def holds_a_value(key: str) -> bool:
    """Check whether a key inside a value's own object is the one that holds it."""
    return len(key) <= LONGEST_KEY and normal_form(key) in _HOLDS_A_VALUE
