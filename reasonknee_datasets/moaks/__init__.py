"""The vocabulary of MOAKS as 3DReasonKnee uses it: 69 questions, 118 answer slots, every official spelling.

Facts only: no file is read here and nothing is guessed. A grade outside its slot is a `GradeError` that names the slot,
the value and the legal values.
"""

from __future__ import annotations

from reasonknee_datasets.moaks.answers import read_diagnosis, write_answer, write_diagnosis
from reasonknee_datasets.moaks.grade_meanings import (
    BONE_MARROW_BANDS,
    CARTILAGE_BANDS,
    EXTRUSION_BANDS_MM,
    MORPHOLOGIES,
    TEAR_LOCATIONS,
    meaning,
    meanings,
)
from reasonknee_datasets.moaks.rules import Violation, violations
from reasonknee_datasets.moaks.spellings import find_question, find_slot
from reasonknee_datasets.moaks.values import Question, Scale, Slot
from reasonknee_datasets.moaks.vocabulary import ATTRIBUTES, CATEGORIES, QUESTIONS, SLOTS, get_question

__all__ = [
    "ATTRIBUTES",
    "BONE_MARROW_BANDS",
    "CARTILAGE_BANDS",
    "CATEGORIES",
    "EXTRUSION_BANDS_MM",
    "MORPHOLOGIES",
    "QUESTIONS",
    "SLOTS",
    "TEAR_LOCATIONS",
    "Question",
    "Scale",
    "Slot",
    "Violation",
    "find_question",
    "find_slot",
    "get_question",
    "meaning",
    "meanings",
    "read_diagnosis",
    "violations",
    "write_answer",
    "write_diagnosis",
]
