"""OAI's MOAKS variables: the answer slots of each, and the grade of each of its codes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Literal, NamedTuple

from reasonknee_datasets.moaks import QUESTIONS, Question

AclRule = Literal["label", "any", "highest"]

ACL_RULES: Mapping[AclRule, str] = {
    "label": "by the cell's label; without a label only code 0 has a grade",
    "any": "codes 1 and 2 are a complete tear",
    "highest": "only code 2 is a complete tear; for tables with codes 0, 1 and 2",
}
"""Rules for MACLTR, whose codes are 0, 1 and 2 where the released slot (complete tear) has 0 and 1."""

MONTHS: Mapping[str, str] = {
    "V00": "00M",
    "V01": "12M",
    "V02": "18M",
    "V03": "24M",
    "V04": "30M",
    "V05": "36M",
    "V06": "48M",
    "V08": "72M",
    "V10": "96M",
}
"""Visits by the prefix of OAI's column names."""

_PARTS = {"anterior": "A", "central": "C", "posterior": "P", "body": "B", "superior": "S", "inferior": "I"}
_LETTERS = {**_PARTS, "medial": "M", "lateral": "L", "patella": "P", "femur": "F", "tibia": "T"}
_MARROW = {"size": "MBMS", "number": "MBMN", "percent": "MBMP"}
_STEMS = {
    "cartilage_lesion": "MCM",
    "osteophyte": "MOS",
    "meniscal_extrusion": "MMX",
    "meniscal_morphology": "MMT",
    "meniscal_root_tear": "MMRT",
}
_SINGLE = {
    "hoffa_synovitis": ("MSYIC", "grade"),
    "effusion_synovitis": ("MEFFWK", "grade"),
    "anterior_cruciate_ligament": ("MACLTR", "complete_tear"),
    "popliteal_cyst": ("MPOPCYS", "presence"),
}
# OAI marks a change within a grade with these: they are not grades, and never 0.
_WITHIN_GRADE = frozenset({Decimal("0.5"), Decimal("-0.5"), Decimal("-1")})


class Variable(NamedTuple):
    """A MOAKS variable without the prefix of its visit."""

    name: str  # such as ``MCMFMC``
    question_id: int
    attributes: tuple[str, ...]  # ``("size", "depth")`` for cartilage, whose codes hold both; one attribute otherwise


def _region(question: Question) -> str:
    words = [word for word in question.subregion.split("_") if word not in {"meniscus", "root"}]
    return "SS" if words == ["tibia", "subspinous"] else "".join(_LETTERS[word] for word in words)


def _variables(question: Question) -> Iterator[Variable]:
    if question.finding in _SINGLE:
        name, attribute = _SINGLE[question.finding]
        yield Variable(name, question.id, (attribute,))
    elif question.finding == "bone_marrow_lesion":
        for attribute, stem in _MARROW.items():
            yield Variable(stem + _region(question), question.id, (attribute,))
    elif question.finding in _STEMS:
        yield Variable(_STEMS[question.finding] + _region(question), question.id, question.attributes)


VARIABLES: Mapping[str, Variable] = {
    variable.name: variable for question in QUESTIONS.values() for variable in _variables(question)
}
"""Variables by name. Cysts of the menisci, hypertrophy, the posterior cruciate ligament, the patellar tendon and
most of the anterior cruciate ligament have none whose name is known."""


def find_variable(column: str) -> tuple[str, Variable] | None:
    """Find the visit and the variable of a column; None for any other column.

    The case of names differs between tables. pandas renames the second of two equal columns: ``V00MCMPM.1``.

    Examples
    --------
    >>> find_variable("v00mcmfmc")
    ('00M', Variable(name='MCMFMC', question_id=19, attributes=('size', 'depth')))
    >>> find_variable("V00XRKL") is None
    True
    """
    name = re.sub(r"\.1$", "", column.strip().upper())
    visit, variable = MONTHS.get(name[:3]), VARIABLES.get(name[3:])
    return None if visit is None or variable is None else (visit, variable)


def split_cell(cell: str) -> tuple[str, str]:
    """Split a cell into its code and its label.

    Examples
    --------
    >>> split_cell("2.1: 10-75% area, 1-10% full thickness")
    ('2.1', '10-75% area, 1-10% full thickness')
    >>> split_cell("3")
    ('3', '')
    """
    code, _, label = cell.partition(":")
    return code.strip(), label.strip()


def read_number(code: str) -> Decimal | None:
    """Return a code as a number; None if it is missing or marks a change within a grade.

    Raises ValueError if it is not a number.

    Examples
    --------
    >>> read_number("2.1")
    Decimal('2.1')
    >>> [read_number(code) for code in (".", ".A", "", "0.5", "-0.5", "-1")]
    [None, None, None, None, None, None]
    """
    if not code or code.startswith("."):
        return None
    try:
        number = Decimal(code)
    except InvalidOperation:
        raise ValueError(code) from None
    if not number.is_finite():
        raise ValueError(code)
    return None if number in _WITHIN_GRADE else number


def split_cartilage(number: Decimal) -> tuple[Decimal, Decimal]:
    """Split a combined cartilage code into size and depth.

    Examples
    --------
    >>> split_cartilage(Decimal("2.1")), split_cartilage(Decimal("3"))
    ((Decimal('2'), Decimal('1')), (Decimal('3'), Decimal('0')))
    """
    size = number // 1
    return size, ((number - size) * 10).normalize()


def grade_of(variable: Variable, attribute: str, number: Decimal, label: str, acl: AclRule) -> int | None:
    """Return the grade of a code; None if the slot has no such grade (depth code 5 is one example)."""
    if variable.name == "MACLTR":
        return _acl_grade(number, label.lower(), acl)
    slot = next(slot for slot in QUESTIONS[variable.question_id].slots if slot.attribute == attribute)
    return int(number) if number % 1 == 0 and int(number) in slot.legal else None


def _acl_grade(number: Decimal, label: str, acl: AclRule) -> int | None:
    if number not in (0, 1, 2):
        return None
    if acl != "label" or number == 0:
        return int(number >= (2 if acl == "highest" else 1))
    words = set(re.findall(r"[a-z]+", label))
    if words & {"partial", "incomplete", "normal", "no", "none"}:
        # "partial or complete" is not decided by its label.
        return None if "complete" in words else 0
    return 1 if "complete" in words else None
