"""Sizes of boxes in mm: usual ones of each structure, and those that anatomy makes impossible.

Bounds hold for the longest edge of a box along the volume's own axes. Official boxes come from masks that models
predicted, mostly of regions; the labels of some findings are far smaller than their regions. So a box outside the usual
sizes is a warning, and an error only where no knee has such a structure.
"""

from __future__ import annotations

from collections.abc import Mapping

from reasonknee_datasets.moaks import Question

# A label may be of a finding: then a box contains only a lesion. The smallest that readers grade are some mm wide.
_LESION_MM = 3.0
_LESIONS = frozenset({"bone_marrow_lesion", "cartilage_lesion", "osteophyte", "meniscal_cyst", "effusion_synovitis"})
# Edges of usual boxes are longer: a slice is 0.7 mm, a pixel 0.36 mm. A lesion may be in one slice.
THINNEST_MM = 1.0
# Impossible: a longest edge below this is a single slice or two pixels, a sign of normalised coordinates.
SMALLEST_MM = 1.0
# Impossible: this many times the largest usual size, which is at least 1.3 times the median over 68 OAI masks already.
OVERSIZE = 1.5

# By the first word of the subregion.
_BY_STRUCTURE: Mapping[str, tuple[float, float]] = {
    # Adult patellae are 35 to 55 mm high and wide (median over 68 OAI masks: 44 x 23 x 42).
    "patella": (10.0, 75.0),
    # The distal femur within the field is 80 x 66 x 84 mm (the same median), of which a subregion is a part.
    "femur": (10.0, 115.0),
    # The proximal tibia within the field is 76 x 57 x 65 mm.
    "tibia": (10.0, 110.0),
    # A meniscus is 30 to 50 mm long; for extrusion, boxes include the compartment below it (80 mm).
    "medial": (8.0, 110.0),
    "lateral": (8.0, 110.0),
    # Cruciate ligaments are 25 to 45 mm long.
    "anterior": (8.0, 80.0),
    "posterior": (8.0, 80.0),
    # The patellar tendon is 35 to 65 mm long.
    "patellar": (12.0, 110.0),
    # The fat pad is 20 to 50 mm high.
    "hoffa": (10.0, 90.0),
    # Fluid may be a small pocket, or reach into the suprapatellar bursa, beyond the field's upper edge.
    "joint": (3.0, 160.0),
}


def size_bounds(question: Question) -> tuple[float, float]:
    """Return the lowest and highest usual longest edge of a question's box in mm.

    Examples
    --------
    >>> from reasonknee_datasets.moaks import QUESTIONS
    >>> size_bounds(QUESTIONS[61])
    (8.0, 80.0)
    """
    low, high = _BY_STRUCTURE.get(question.subregion.partition("_")[0], (_LESION_MM, 160.0))
    return (min(low, _LESION_MM) if question.finding in _LESIONS else low), high
