"""The sign that each of the 111 slots leaves in the voxels, and how a measurer finds it again.

Drawing and re-measuring share nothing but this table. `SIGNAL` holds the noise-free signals; a voxel on a border holds the
mixture of its tissues, so a threshold half-way between two signals counts volumes without bias. World directions below are
the knee's own: medial is -x in a right knee and +x in a left one, anterior +y, superior +z, up to a positioning error of 4°.

Lesions of different slots never touch: each has its own tissue, or its own place in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from reasonknee_datasets.moaks import QUESTIONS, SLOTS, Slot

if TYPE_CHECKING:
    from collections.abc import Mapping

SIGNAL: Mapping[str, float] = MappingProxyType(
    {
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
)


@dataclass(frozen=True, slots=True)
class Sign:
    """One kind of sign: what is drawn for each grade, and what a measurer should find.

    Attributes
    ----------
    quantity : str
        What is measured, with its unit.
    targets : tuple of float
        The value that is drawn for grade 0, 1, 2, ...; empty where the sign is a pattern, not a quantity.
    limits : tuple of float
        The band edges: a measured value below ``limits[g]`` and not below ``limits[g - 1]`` is grade g.
    drawn : str
        What the drawing does, and where.
    measure : str
        How to recover the grade from clean voxels and mask.
    """

    quantity: str
    targets: tuple[float, ...]
    limits: tuple[float, ...]
    drawn: str
    measure: str


_NONE = 1e-9  # any lesion at all is more than grade 0

SIGNS: Mapping[tuple[str, str], Sign] = MappingProxyType(
    {
        ("bone_marrow_lesion", "size"): Sign(
            "share of the subregion's bone that is lesion, cyst included",
            (0.0, 0.17, 0.46, 0.75),
            (_NONE, 0.33, 0.66),
            "Rounded bodies of bone_marrow_lesion signal inside the bone of the subregion, under an intact cortex.",
            "Bone of the label (opened, largest piece): share of its voxels above 222 (half-way from marrow). Below 1 % is none.",
        ),
        ("bone_marrow_lesion", "number"): Sign(
            "separate bodies",
            (0.0, 1.0, 2.0, 3.0),
            (1.0, 2.0, 3.0),
            "Bodies stand in a row along the subregion's longest side, parted by at least 2 mm of marrow (2.8 mm from medial to "
            "lateral).",
            "Connected components (6 neighbours, in the label's bone) above 222 of more than a few voxels.",
        ),
        ("bone_marrow_lesion", "percent"): Sign(
            "share of the lesion that is bone-marrow lesion, not cyst",
            (0.0, 0.12, 0.50, 0.92),
            (_NONE, 0.33, 0.66),
            "The lower part of every body, cut by a plane, is cyst: fluid signal; at grade 3 the cyst is small and in the middle.",
            "Voxels above 490 are cyst. The rim of a cyst towards marrow looks like lesion through mixing: open the 222-490 class "
            "by one voxel first and give what falls out, where it touches cyst, to the cyst. 0 only without a lesion.",
        ),
        ("cartilage_lesion", "size"): Sign(
            "share of the subregion's articular surface that is thinned or bare",
            (0.0, 0.065, 0.40, 0.95),
            (_NONE, 0.10, 0.75),
            "A defect filled with joint fluid: at least the outer half of the thickness is gone under it. The patch of a subregion "
            "is the cartilage nearest to its bone.",
            "Of the patch's voxels in the outer half (by distance from the bone), the share above 435 (half-way to fluid).",
        ),
        ("cartilage_lesion", "depth"): Sign(
            "share of the defect that is bare to the bone",
            (0.0, 0.06, 0.40, 1.0),
            (_NONE, 0.10, 0.75),
            "In the middle of the defect the whole thickness is fluid; elsewhere in it the deep half of the cartilage stands.",
            "Where the defect is: share of the area whose deepest cartilage voxels are fluid too (marrow mixes in next to the bone: "
            "compare with 300 there). At grade 1 it can be less than 3 square mm: below what tiny shows.",
        ),
        ("osteophyte", "grade"): Sign(
            "mm that marrow reaches beyond the healthy bone",
            (0.0, 2.2, 4.4, 6.8),
            (1.1, 3.3, 5.5),
            "A lip of marrow on the joint margin, into the capsule (or, around the patella and the anterior femur, the fluid).",
            "Voxels below 130 outside every label, joined to the bone's label at the site: largest distance from the bone. The sites "
            "stand in `OSTEOPHYTE_SITES`.",
        ),
        ("hoffa_synovitis", "grade"): Sign(
            "share of the fat pad with raised signal",
            (0.0, 0.12, 0.32, 0.62),
            (0.05, 0.21, 0.46),
            "Patches of synovitis signal in the fat pad, beside thin streaks that are normal.",
            "Share of the label above 230 (half-way from fat).",
        ),
        ("effusion_synovitis", "grade"): Sign(
            "volume of fluid in ml",
            (2.0, 7.0, 17.0, 38.0),
            (4.0, 11.0, 26.0),
            "Fluid behind the patella and in the suprapatellar recess; the label grows with it, hence the box too.",
            "Volume of the label (all of it is fluid), divided by the cube of the knee's scale if wanted: bands are wide.",
        ),
        ("meniscal_extrusion", "grade"): Sign(
            "mm that the meniscus reaches beyond the margin of the tibial cartilage",
            (0.5, 2.5, 4.0, 6.2),
            (2.0, 3.0, 5.0),
            "A tongue of meniscus signal outward from the healthy outer wall: 'medial' and 'lateral' at the middle of the body, "
            "'anterior' at the foremost point of the anterior horn. The healthy wall stands on the cartilage's margin.",
            "In the capsule beyond the meniscus' label, along the outward axis: reach of voxels below 100; sum the darkness along "
            "rays for better than a voxel.",
        ),
        ("meniscal_morphology", "morphology"): Sign(
            "pattern within a third (front, middle, rear) of the meniscus",
            (),
            (),
            "0 dark throughout. 1 a meniscal_signal blob that reaches no surface. Tears are sheets of fluid 1.6 mm thick: 2 radial "
            "(across the ring, full height), 3 horizontal (parallel to the plateau), 4 vertical (along the ring, full height), 5 two "
            "of them crossing. 6, 7, 8 the inner 40 %, the inner 70 %, all but the rim is lost and filled with fluid. All stay more "
            "than 2.2 mm from the outer wall and off the root.",
            "In the label's third along the front-rear axis.",
        ),
        ("meniscal_cyst", "presence"): Sign(
            "a cyst beside the meniscus",
            (0.0, 1.0),
            (1.0,),
            "A ball of fluid, 6 to 7 mm across, outside the rear outer corner of the meniscus, inside the corner of its box.",
            "Fluid outside every label in the rear outer corner of the label's box.",
        ),
        ("meniscal_cyst", "tear_location"): Sign(
            "third (0 front, 1 middle, 2 rear) with a cleft in the outer rim; 3 none",
            (),
            (),
            "A cleft of fluid along the ring in the outermost 2 mm of the meniscus, full height, about 6 mm long, in the named third.",
            "Fluid in the label's outermost 2 mm (morphology signs keep further in).",
        ),
        ("meniscal_hypertrophy", "presence"): Sign(
            "the meniscus stands 3.5 mm higher than it should",
            (0.0, 1.0),
            (1.0,),
            "Meniscus signal on top of the outer part of the label, along its body and anterior horn.",
            "Voxels below 100 outside every label, above the label's outer part.",
        ),
        ("meniscal_root_tear", "presence"): Sign(
            "a gap in the posterior root",
            (0.0, 1.0),
            (1.0,),
            "The last 4 mm of the label's rear end, next to the notch, hold fluid instead of meniscus.",
            "Fluid in the label's voxels of the rear third that lie nearest to the notch.",
        ),
        ("anterior_cruciate_ligament", "complete_tear"): Sign(
            "a gap in the ligament",
            (0.0, 1.0),
            (1.0,),
            "The middle third of the ligament is fluid.",
            "Fluid in the label, half-way between its two ends.",
        ),
        ("anterior_cruciate_ligament", "insertion_lesion"): Sign(
            "lesion in the bone at the tibial attachment",
            (0.0, 1.0),
            (1.0,),
            "A bone_marrow_lesion ball with a cyst in the label's lowest part, inside the tibia.",
            "Voxels above 222 in the lowest part of the label.",
        ),
        ("anterior_cruciate_ligament", "repair"): Sign(
            "a metal screw at the femoral attachment",
            (0.0, 1.0),
            (1.0,),
            "A plug of screw signal in the label's highest part, inside the femur, in a bright ring.",
            "Voxels above 222 ringing voxels below 30 in the highest part of the label.",
        ),
        ("posterior_cruciate_ligament", "complete_tear"): Sign(
            "a gap in the ligament",
            (0.0, 1.0),
            (1.0,),
            "The middle third of the ligament is fluid.",
            "Fluid in the label, half-way between its two ends.",
        ),
        ("posterior_cruciate_ligament", "insertion_lesion"): Sign(
            "lesion in the bone at the tibial attachment",
            (0.0, 1.0),
            (1.0,),
            "A bone_marrow_lesion ball with a cyst in the label's lowest part, inside the tibia.",
            "Voxels above 222 in the lowest part of the label.",
        ),
        ("patellar_tendon", "signal"): Sign(
            "bright signal within the tendon",
            (0.0, 1.0),
            (1.0,),
            "A spindle of tendon_signal inside the upper third of the tendon.",
            "Voxels above 170 in the upper half of the label, off its surface.",
        ),
    }
)

OSTEOPHYTE_SITES: Mapping[str, str] = MappingProxyType(
    {
        "patella_superior": "upper end of the articular surface, pointing up and back",
        "patella_inferior": "lower end of the articular surface, pointing down and back",
        "patella_medial": "medial edge, pointing back",
        "patella_lateral": "lateral edge, pointing back",
        "femur_medial_anterior": "medial margin of the trochlea, pointing medial and forward",
        "femur_medial_central": "medial margin of the condyle's cartilage, pointing medial and down",
        "femur_medial_posterior": "upper end of the posterior condyle's cartilage, pointing back and up",
        "femur_lateral_anterior": "lateral margin of the trochlea, pointing lateral and forward",
        "femur_lateral_central": "lateral margin of the condyle's cartilage, pointing lateral and down",
        "femur_lateral_posterior": "upper end of the posterior condyle's cartilage, pointing back and up",
        "tibia_medial": "front medial corner of the plateau's margin, pointing medial and forward",
        "tibia_lateral": "front lateral corner of the plateau's margin, pointing lateral and forward",
    }
)


def sign_of(slot: Slot) -> Sign:
    """Look up the sign of a slot of questions 1 to 62.

    Examples
    --------
    >>> from reasonknee_datasets.moaks import find_slot
    >>> sign_of(find_slot(4, "size")).limits[1:]
    (0.33, 0.66)
    """
    return SIGNS[QUESTIONS[slot.question_id].finding, slot.attribute]


SIGN_SLOTS: tuple[Slot, ...] = tuple(slot for slot in SLOTS if QUESTIONS[slot.question_id].in_records)
"""The 111 slots that have a sign, in order."""
