"""Proof, from headers, that a series is the one that a split row names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from reasonknee_datasets.oai.conversion_errors import Refusal
from reasonknee_datasets.oai.dicom_files import Header
from reasonknee_datasets.schema import VISITS, Side

_ACCESSION = re.compile(r"0?166 ?([0-9]{8})")
_SEQUENCE = re.compile(r"SAG_3D_DESS_(LEFT|RIGHT)", re.IGNORECASE)
_SIDE = re.compile(r"(?<![A-Z])(LEFT|RIGHT)(?![A-Z])", re.IGNORECASE)
_MONTHS = re.compile(r"([0-9]{1,2})[ _-]*MONTH", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Claim:
    """Identity that a series should have.

    Parameters
    ----------
    patient, date, series : str
        Seven, eight and eight digits.
    side : {"right", "left"} or None
        None where it is not known beforehand.
    """

    patient: str
    date: str
    series: str
    side: Side | None = None

    def __str__(self) -> str:
        return f"{self.patient}/{self.date}/{self.series}"


def read_series_number(header: Header) -> str | None:
    """Read the 8-digit series from AccessionNumber; None without one.

    OAI writes 0166 and the series there, so that a header proves which series it is, whatever the folder is called. A
    lost leading zero and a blank are accepted.
    """
    match = _ACCESSION.fullmatch(header.accession)
    return match[1] if match else None


def read_side(text: str) -> Side | None:
    """Find the side that a description names; None where it names none or both.

    Examples
    --------
    >>> read_side("SAG_3D_DESS_LEFT"), read_side("OAI^MR^ENROLLMENT^RIGHT "), read_side("SAG_3D_DESS")
    ('left', 'right', None)
    """
    found = {word.lower() for word in _SIDE.findall(text.replace("_", " "))}
    return ("left" if "left" in found else "right") if len(found) == 1 else None


def read_visit(text: str) -> str | None:
    """Find the visit that a StudyDescription or an index row names.

    Examples
    --------
    >>> read_visit("OAI^MR^ENROLLMENT^RIGHT "), read_visit("OAI MR 24 MONTH LEFT"), read_visit("knee")
    ('00M', '24M', None)
    """
    months = _MONTHS.search(text)
    if months:
        return f"{int(months[1]):02d}M"
    return "00M" if re.search("ENROLLMENT|BASELINE", text, re.IGNORECASE) else None


def is_dess(description: str) -> bool:
    """Report whether a SeriesDescription is that of a sagittal 3D DESS series."""
    return _SEQUENCE.fullmatch(description.strip()) is not None


Proof = Literal["series", "patient", "nothing"]
"""Degrees of proof from a header: the series by its AccessionNumber; only patient, day and sequence; nothing."""


def prove(header: Header, claim: Claim, place: str, visit: str = "") -> Proof:
    """Compare a header with the identity that the series should have.

    `header`: header of the series. `claim`: from a split row, or from a path. `visit`: visit of the row, such as 00M;
    empty where it is not known. Raises Refusal if anything in the header contradicts the claim.
    """

    def refuse(kind: str, tag: str, got: str, expected: str) -> Refusal:
        message = f"{place} has {tag} {got!r}, but {claim} needs {expected!r}."
        return Refusal(kind, f"{message} The files are in the wrong folder: find the right series.")

    if header.patient and header.patient != claim.patient:
        raise refuse("wrong-patient", "PatientID", header.patient, claim.patient)
    if header.study_date and header.study_date != claim.date:
        raise refuse("wrong-date", "StudyDate", header.study_date, claim.date)
    series = read_series_number(header)
    if series is not None and series != claim.series:
        raise refuse("wrong-series", "AccessionNumber", header.accession, f"0166{claim.series}")
    if header.description and not is_dess(header.description):
        raise refuse("wrong-sequence", "SeriesDescription", header.description, "SAG_3D_DESS_LEFT or _RIGHT")
    for tag, text in (("SeriesDescription", header.description), ("StudyDescription", header.study_description)):
        side = read_side(text)
        if claim.side is not None and side is not None and side != claim.side:
            raise refuse("wrong-side", tag, text, claim.side)
    named = read_visit(header.study_description)
    if visit in VISITS and named is not None and named != visit:
        raise refuse("wrong-visit", "StudyDescription", header.study_description, visit)
    if series is not None:
        return "series"
    return "patient" if header.patient and header.study_date and header.description else "nothing"
