"""Signs that each of the 111 slots leaves in the voxels: the quantity, its value at each grade, and its drawing.

Drawing and re-measuring (tests/helpers/measure_phantom.py) share only this table. `SIGNAL` has the noise-free signals;
a voxel on a border has the mixture of its tissues, so a threshold half-way between two signals counts volumes without
bias. World directions below are the knee's own: medial is -x in a right knee and +x in a left one, anterior +y,
superior +z, up to a positioning error of 3 degrees about each axis.

A subregion's label contains its bone and, beyond the cartilage, a film of joint fluid less than 1 mm thick. "Its bone"
below means: the label without what an opening by one voxel (about 1 mm at 0.36 mm) takes away, largest piece.
Where cartilage is bare the bone is worn by 0.5 mm, so look for lesions only deeper than 1 mm (one voxel at tiny).

Lesions of different slots never touch: each has its own tissue, or its own place in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reasonknee_datasets.moaks import QUESTIONS

# A lesion that some slot of its question vouches for, but whose own slot is missing or 0, is drawn at its least.
_LEAST = {"size": 1, "number": 1, "percent": 3, "depth": 0}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Grades to draw.

    Examples
    --------
    >>> Wanted({1: {"size": None, "number": 2, "percent": None}}).lesion(1)
    {'size': 1, 'number': 2, 'percent': 3}
    >>> Wanted({}).grade(42, "grade")
    0
    """

    grades: Mapping[int, Mapping[str, int | None]]

    def grade(self, question_id: int, attribute: str) -> int:
        """Return one grade; what was not requested is 0, or "no tear" for a tear's location."""
        grade = self.grades.get(question_id, {}).get(attribute)
        if grade is None:
            return 3 if attribute == "tear_location" else 0
        return grade

    def lesion(self, question_id: int) -> dict[str, int]:
        """Return the grades of a bone-marrow or cartilage lesion, empty where there is none.

        An explicit size of 0 means none, whatever the other slots say.
        """
        asked = self.grades.get(question_id, {})
        size = asked.get("size")
        if size == 0 or not any(asked.values()):
            return {}
        attributes = [slot.attribute for slot in QUESTIONS[question_id].slots]
        return {name: asked.get(name) or _LEAST[name] for name in attributes}


def questions_of(finding: str) -> tuple[int, ...]:
    """Return the ids of a finding's questions.

    Examples
    --------
    >>> questions_of("meniscal_cyst")
    (54, 55)
    """
    return tuple(question.id for question in QUESTIONS.values() if question.finding == finding)


SIGNAL: Mapping[str, float] = {
    "air": 0.0,
    "screw": 0.0,  # the metal void of a repaired ligament
    "cortex": 45.0,
    "meniscus": 30.0,
    "ligament": 40.0,
    "marrow": 70.0,  # osteophytes too
    "fat": 140.0,  # under the skin, and Hoffa's fat pad
    "muscle": 175.0,
    "capsule": 185.0,  # the soft tissue next to bone, where osteophytes and extruded menisci show
    "meniscal_signal": 180.0,  # within a meniscus: abnormal, but no tear
    "skin": 205.0,
    "cartilage": 250.0,
    "tendon_signal": 300.0,
    "synovitis": 340.0,
    "bone_marrow_lesion": 360.0,
    "fluid": 620.0,  # joint fluid, tears, cysts of bone and meniscus
    "vessel": 700.0,
}


@dataclass(frozen=True, slots=True)
class Sign:
    """One kind of sign: the drawing of each grade, and the measurement that should result."""

    quantity: str  # quantity that is measured, with its unit
    # The value that is drawn for grade 0, 1, 2, ...; empty where the sign is a pattern, not a quantity.
    targets: tuple[float, ...]
    # The band edges: a measured value below ``limits[g]`` and not below ``limits[g - 1]`` is grade g.
    limits: tuple[float, ...]
    drawn: str  # change in the drawing, and its place


_NONE = 1e-9  # any lesion at all is more than grade 0
_ABSENT_OR_PRESENT = ((0.0, 1.0), (1.0,))

_BONE_LESION = {
    ("bone_marrow_lesion", "size"): Sign(
        "share of the subregion's bone that is lesion, cyst included",
        (0.0, 0.17, 0.46, 0.75),
        (_NONE, 0.33, 0.66),
        "Rounded bodies of bone_marrow_lesion signal inside the bone, under a cortex of 0.7 mm. At size 1 a body "
        "holds 0.6 ml (2 % of the largest subregions), or less where that is more than 0.17 of the bone. Three "
        "bodies at size 3 fill what the gaps between them leave: about 0.70.",
    ),
    ("bone_marrow_lesion", "number"): Sign(
        "separate bodies",
        (0.0, 1.0, 2.0, 3.0),
        (1.0, 2.0, 3.0),
        "Bodies stand in a row, parted by at least 2.6 mm of marrow (3.8 mm from medial to lateral); at size 3 by "
        "1.9 mm (2.9 mm).",
    ),
    ("bone_marrow_lesion", "percent"): Sign(
        "share of the lesion that is bone-marrow lesion, not cyst",
        (0.0, 0.12, 0.50, 0.92),
        (_NONE, 0.33, 0.66),
        "Cyst is fluid. At grades 1 and 2 it is all that lies on one side of a plane through each body (above in the "
        "femur, below elsewhere, tilted); at grade 3 a ball in the middle of one body.",
    ),
}
_CARTILAGE = {
    ("cartilage_lesion", "size"): Sign(
        "share of the subregion's articular surface that is thinned or bare",
        (0.0, 0.06, 0.40, 0.95),
        (_NONE, 0.10, 0.75),
        "A defect filled with joint fluid, in which the outer half of the thickness is gone. The patch of a "
        "subregion is the cartilage nearest to its bone (the planes between subregions go on through the cartilage).",
    ),
    ("cartilage_lesion", "depth"): Sign(
        "share of the defect that is bare to the bone",
        (0.0, 0.06, 0.40, 1.0),
        (_NONE, 0.10, 0.75),
        "In the middle of the defect all is fluid, 0.5 mm of the bone too; elsewhere the deep half of the cartilage "
        "stands.",
    ),
}
_MENISCUS = {
    ("meniscal_extrusion", "grade"): Sign(
        "mm that the meniscus reaches beyond the margin of the tibial cartilage",
        (0.5, 2.5, 4.0, 6.2),
        (2.0, 3.0, 5.0),
        "A tongue of meniscus signal, 8 mm wide and 4 mm high on the plateau, outward from the healthy outer wall, "
        "which stands on the cartilage's margin: 'medial' and 'lateral' at the middle of the body (2 mm in front of "
        "it), 'anterior' at the foremost point of the ring. It lies in capsule, outside every label.",
    ),
    ("meniscal_morphology", "morphology"): Sign(
        "pattern within a third (front, middle, rear) of the meniscus",
        (),
        (),
        "0 dark throughout. 1 a meniscal_signal body that reaches no surface. Tears are sheets of fluid 1.6 mm thick: "
        "2 radial (across the ring, full height), 3 horizontal (half-way up, along the ring), 4 vertical (along the "
        "ring, 3.4 mm from the outer wall, full height), 5 both 2 and 4. Maceration is fluid in place of the "
        "meniscus from the inner edge to 4.6 mm (6), 3.3 mm (7) or 2.2 mm (8) from the outer wall. All lie in the "
        "middle of their third, more than 2.2 mm from the outer wall, and off the root.",
    ),
    ("meniscal_cyst", "presence"): Sign(
        "a cyst beside the meniscus",
        *_ABSENT_OR_PRESENT,
        "A ball of fluid, 6 mm across, against the rear outer wall, in the corner of the meniscus' box.",
    ),
    ("meniscal_cyst", "tear_location"): Sign(
        "third (0 front, 1 middle, 2 rear) with a cleft in the outer rim; 3 none",
        (),
        (),
        "A cleft of fluid in the outermost 1.9 mm of the meniscus, full height, 6 mm along the ring, in the named "
        "third.",
    ),
    ("meniscal_hypertrophy", "presence"): Sign(
        "the meniscus stands higher than it should",
        *_ABSENT_OR_PRESENT,
        "A lip of meniscus signal, 28 mm along the body, rises from the label's upper outer edge into the capsule "
        "beside the condyle: up to 5 mm above the label and 5 mm beyond the outer wall, 2.5 mm off the bone. Under "
        "the condyle the meniscus fills what room the femoral cartilage leaves on the label's outer 6 mm.",
    ),
    ("meniscal_root_tear", "presence"): Sign(
        "a gap in the posterior root",
        *_ABSENT_OR_PRESENT,
        "The last 5.5 mm of the label's rear end, next to the notch, hold fluid instead of meniscus.",
    ),
}
_CRUCIATE = {
    (f"{which}_cruciate_ligament", attribute): sign
    for which in ("anterior", "posterior")
    for attribute, sign in (
        (
            "complete_tear",
            Sign(
                "a gap in the ligament",
                *_ABSENT_OR_PRESENT,
                "The middle third of the ligament is fluid.",
            ),
        ),
        (
            "insertion_lesion",
            Sign(
                "lesion in the bone at the tibial attachment",
                *_ABSENT_OR_PRESENT,
                "A bone_marrow_lesion ball, 8 mm across, with a cyst in it, in the label's lowest part, inside the "
                "tibia.",
            ),
        ),
    )
}

SIGNS: Mapping[tuple[str, str], Sign] = {
    **_BONE_LESION,
    **_CARTILAGE,
    ("osteophyte", "grade"): Sign(
        "mm that marrow reaches beyond the healthy bone",
        (0.0, 2.2, 4.4, 6.8),
        (1.1, 3.3, 5.5),
        "A lip of marrow, 8 mm along the joint margin and 5 mm thick, into the capsule (above the patella into "
        "the fluid) at one of `osteophytes.sites_of`. Its healthy surroundings hold nothing below 110 but what is "
        "labelled, the shafts (above the femoral labels, below the tibial ones), the fibula, and extruded or "
        "hypertrophic menisci, which never touch bone.",
    ),
    ("hoffa_synovitis", "grade"): Sign(
        "share of the fat pad with raised signal",
        (0.0, 0.12, 0.32, 0.62),
        (0.05, 0.21, 0.46),
        "Patches of synovitis signal in the fat pad, beside thin streaks of capsule signal that are normal.",
    ),
    ("effusion_synovitis", "grade"): Sign(
        "volume of fluid in ml",
        (2.0, 7.0, 17.0, 38.0),
        (4.0, 11.0, 26.0),
        "Fluid in the suprapatellar recess; the label grows with it, hence the box too.",
    ),
    **_MENISCUS,
    **_CRUCIATE,
    ("anterior_cruciate_ligament", "repair"): Sign(
        "a metal screw at the femoral attachment",
        *_ABSENT_OR_PRESENT,
        "A plug of screw signal, 6 mm across, in a bright ring, in the label's highest part, inside the femur.",
    ),
    ("patellar_tendon", "signal"): Sign(
        "bright signal within the tendon",
        *_ABSENT_OR_PRESENT,
        "A spindle of tendon_signal inside the upper third of the tendon.",
    ),
}
