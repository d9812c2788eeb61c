"""Match keys: a wrapper, the subject of the question or another one, a slot, or something outside the answer."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

from reasonknee_datasets.bench.answers.words import heading_names, names_of
from reasonknee_datasets.moaks import QUESTIONS, Question, Slot, get_question
from reasonknee_datasets.moaks.spellings import normal_form

Role = Literal["wrapper", "subject", "foreign", "slot", "generic", "outside", "unknown"]

# Longer than any key that says something; what is longer is not even looked at.
LONGEST_KEY = 120
# "grade (0-3)", "score [0 to 3]": the range that the prompt states.
_RANGE_IN_KEY = re.compile(
    r"\s*[(\[]\s*(?:moaks\s*|scale\s*|from\s*)?[0-9]\s*(?:-|–|to|or|/|,|\.\.)[0-9 ,/]{1,20}[)\]]\s*$"
)

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
# A finding without its place: the question asks for one place only.
_FINDING_ALONE = {
    "bone_marrow_lesion": ("bml", "bmls", "bone marrow lesion", "bone marrow lesions"),
    "cartilage_lesion": ("cartilage", "cartilage lesion", "cartilage lesions", "cartilage loss", "cartilage damage"),
    "osteophyte": ("osteophyte", "osteophytes"),
    "meniscal_extrusion": ("meniscal extrusion", "meniscus extrusion", "extrusion"),
    "meniscal_morphology": ("meniscal morphology", "meniscus morphology"),
    "meniscal_cyst": ("meniscal cyst", "meniscus cyst"),
    "meniscal_hypertrophy": ("meniscal hypertrophy", "meniscus hypertrophy", "hypertrophy"),
    "meniscal_root_tear": ("meniscal root tear", "meniscus root tear", "root tear"),
}
# Words that make no difference to what a key names.
_FILL = frozenset(
    ("of", "the", "in", "at", "a", "subregion", "region", "grade", "score", "moaks", "s", "location", "is", "horn")
)


@dataclass(frozen=True, slots=True)
class Name:
    """Meaning of a key, and the rule that gives it."""

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
    forms = [question.subject_key, question.record_key]
    if question.subregion != question.finding:
        forms += [f"{question.subregion} {question.finding}", f"{question.finding} {question.subregion}"]
    if question.category == "meniscal_root_tear":
        forms.append("MMRT" if question.subregion.startswith("medial") else "LMRT")
    if question.category in ("ligament", "tendon", "periarticular", "hoffa_synovitis", "effusion_synovitis"):
        forms.append(question.finding)
    return tuple(dict.fromkeys(normal_form(name) for name in forms))


def slot_forms(slot: Slot) -> tuple[str, ...]:
    """Return every spelling of a slot that is understood, in normal form, the prompt's and the record's first."""
    forms = [slot.prompt_key or slot.attribute, slot.record_key, slot.attribute]
    other = {"anterior_cruciate_ligament": "pcl", "posterior_cruciate_ligament": "acl"}.get(slot.finding)
    aliases = dict(names_of("alias")).get((slot.category, slot.attribute), ())
    forms += (name for name in aliases if other not in name.split())
    return tuple(dict.fromkeys(normal_form(name) for name in forms))


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
    exact: dict[str, Name] = dict.fromkeys(heading_names("key", "outside"), Name("outside"))
    exact.update(dict.fromkeys(("", *heading_names("key", "wrapper")), Name("wrapper")))
    exact.update({form: Name("foreign") for form in _every_subject()[0]})
    exact.setdefault(normal_form(question.subregion), Name("subject", rule="subregion_only"))
    for form in map(normal_form, _FINDING_ALONE.get(question.finding, ())):
        if exact.get(form, UNKNOWN).role != "foreign":
            exact[form] = Name("subject", rule="finding_only")
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
    if len(question.slots) == 1 and name.role in ("wrapper", "unknown") and form in heading_names("key", "generic"):
        return Name("generic", question.slots[0], "generic_key")
    return name


def is_path_of(question: Question, key: str, place: str) -> bool:
    """Check whether two keys, one below the other, name the asked subject together; only its side may be left out.

    Examples
    --------
    >>> asked = get_question(49)
    >>> [is_path_of(asked, "Meniscal Morphology", place) for place in ("body", "posterior horn", "medial body")]
    [True, False, True]
    """
    if len(key) + len(place) > LONGEST_KEY or name_of(question, place).role in ("slot", "generic"):
        return False
    if not loose_form(normal_form(place)):
        return False
    named = Counter(loose_form(normal_form(f"{key} {place}")).split())
    asked = Counter(loose_form(normal_form(question.subject_key)).split())
    return len(named) > 1 and named <= asked and set(asked - named) <= {"medial", "lateral"}


def holds_a_value(key: str) -> bool:
    """Check whether a key inside a value's own object is the one that holds it."""
    return len(key) <= LONGEST_KEY and normal_form(key) in heading_names("key", "holds_a_value")
