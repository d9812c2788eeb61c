"""Choice of the plane in which a question is read; a figure shows it large.

It comes from the question's own text where it names one (the official extrusion prompts do: "It is measured in
the coronal view"), else from this table, which follows how the finding is read in the clinic, else it is sagittal, the
plane that DESS is acquired in:

==========================================  ========
finding and subregion                       plane
==========================================  ========
anything of the medial or lateral patella   axial
effusion-synovitis                          axial
iliotibial band, pes anserine bursa         coronal
meniscal body: extrusion or morphology      coronal
meniscal root tear                          coronal
osteophyte of the tibia, central femur      coronal
everything else                             sagittal
==========================================  ========
"""

from __future__ import annotations

import re
from typing import Literal, get_args

Plane = Literal["sagittal", "coronal", "axial"]
PLANES: tuple[Plane, ...] = get_args(Plane)

_NAMED = re.compile(r"\b(?:mid)?(sagittal|coronal|axial)(?:ly)?\b", re.IGNORECASE)

# The first pattern that matches "finding subregion" names the plane.
_READ_IN: tuple[tuple[re.Pattern[str], Plane], ...] = (
    (re.compile(r"\bpatella_(medial|lateral)"), "axial"),
    (re.compile(r"^effusion"), "axial"),
    (re.compile(r"^(iliotibial|pes_anserine)"), "coronal"),
    (re.compile(r"^meniscal_extrusion .*_(medial|lateral|body)$"), "coronal"),
    (re.compile(r"^meniscal_morphology .*_body$"), "coronal"),
    (re.compile(r"^meniscal_root_tear"), "coronal"),
    (re.compile(r"^osteophyte (tibia_|femur_(medial|lateral)_central)"), "coronal"),
)


def choose_plane(finding: str = "", subregion: str = "", question: str = "") -> Plane:
    """Choose the plane that a question is read in: the first that its text names, else the table above.

    Examples
    --------
    >>> choose_plane("meniscal_extrusion", "medial_meniscus_medial", "It is measured in the coronal view.")
    'coronal'
    >>> choose_plane("cartilage_lesion", "patella_lateral")
    'axial'
    >>> choose_plane()
    'sagittal'
    """
    named = _NAMED.search(question)
    if named:
        word = named.group(1).lower()
        return next(plane for plane in PLANES if plane == word)
    subject = f"{finding} {subregion}"
    return next((plane for pattern, plane in _READ_IN if pattern.search(subject)), "sagittal")
