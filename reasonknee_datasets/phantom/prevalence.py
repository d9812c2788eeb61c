"""Prevalence of each grade: the marginal distributions that sampled grades have."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

GRADE_PREVALENCE: Mapping[tuple[str, str], tuple[float, ...]] = MappingProxyType(
    {
        ("bone_marrow_lesion", "size"): (0.74, 0.17, 0.06, 0.03),
        ("bone_marrow_lesion", "number"): (0.0, 0.70, 0.20, 0.10),
        ("bone_marrow_lesion", "percent"): (0.0, 0.07, 0.15, 0.78),
        ("cartilage_lesion", "size"): (0.722, 0.118, 0.130, 0.030),
        ("cartilage_lesion", "depth"): (0.45, 0.20, 0.28, 0.07),
        ("osteophyte", "grade"): (0.58, 0.28, 0.09, 0.05),
        ("hoffa_synovitis", "grade"): (0.50, 0.36, 0.11, 0.03),
        ("effusion_synovitis", "grade"): (0.46, 0.36, 0.13, 0.05),
        ("meniscal_extrusion", "grade"): (0.70, 0.15, 0.10, 0.05),
        ("meniscal_cyst", "presence"): (0.98, 0.02),
        ("meniscal_hypertrophy", "presence"): (0.96, 0.04),
        ("meniscal_root_tear", "presence"): (0.96, 0.04),
        ("anterior_cruciate_ligament", "complete_tear"): (0.96, 0.04),
        ("anterior_cruciate_ligament", "insertion_lesion"): (0.94, 0.06),
        ("posterior_cruciate_ligament", "complete_tear"): (0.975, 0.025),
        ("posterior_cruciate_ligament", "insertion_lesion"): (0.96, 0.04),
        ("patellar_tendon", "signal"): (0.90, 0.10),
    }
)
"""Share of each grade. Attributes that need a lesion (number, percent, depth) give shares among the lesions."""

CARTILAGE_ZEROS: Mapping[str, float] = MappingProxyType(
    {
        "patella_medial": 0.45,
        "patella_lateral": 0.65,
        "femur_medial_anterior": 0.62,
        "femur_medial_central": 0.55,
        "femur_medial_posterior": 0.80,
        "femur_lateral_anterior": 0.67,
        "femur_lateral_central": 0.80,
        "femur_lateral_posterior": 0.80,
        "tibia_medial_anterior": 0.93,
        "tibia_medial_central": 0.68,
        "tibia_medial_posterior": 0.80,
        "tibia_lateral_anterior": 0.90,
        "tibia_lateral_central": 0.72,
        "tibia_lateral_posterior": 0.74,
    }
)
"""Share of grade 0 in cartilage size by subregion: 0.722 on average, which is what the real val split shows."""
