"""Names of the knee's structures, findings, sides and parts, as facets of a subject."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from types import MappingProxyType

from reasonknee_datasets.moaks import CATEGORIES, get_question

Facets = Mapping[str, frozenset[str]]

OTHER = "other"
BONES = frozenset(("patella", "femur", "tibia"))
MENISCUS = frozenset(("meniscus",))
ON_BONE = frozenset(("bone_marrow_lesion", "cartilage_lesion", "osteophyte"))
ON_MENISCUS = frozenset(("extrusion", "morphology", "meniscal_cyst", "hypertrophy", "root_tear"))
_BURSITIS = ("pes_anserine_bursitis", "infrapatellar_bursitis", "prepatellar_bursitis")
_NONE = frozenset(("none",))

# Structures that are a site and a finding at once, with what they are called.
_STRUCTURES: dict[str, str] = {
    "hoffa_synovitis": (
        "hoffa, hoffa synovitis, hoffas, hoffa fat pad, infrapatellar fat pad, infrapatellar fat, fat pad, pad, "
        "ifp, ipfp, hoffitis, infrapatellar synovitis"
    ),
    "effusion_synovitis": (
        "pouch, recess, "
        "effusion, effusions, effusion synovitis, joint effusion, joint fluid, joint cavity, hydrarthrosis, "
        "hemarthrosis, haemarthrosis, suprapatellar recess, suprapatellar pouch, suprapatellar bursa, intra "
        "articular fluid, intraarticular fluid, articular effusion, suprapatellar effusion"
    ),
    "anterior_cruciate_ligament": "acl, anterior cruciate",
    "posterior_cruciate_ligament": "pcl, posterior cruciate",
    "patellar_tendon": "patellar tendon, patella tendon, patellar ligament, ligamentum patellae",
    "pes_anserine_bursitis": "pes anserine, pes anserinus, anserine bursa, anserine bursitis, pes bursitis",
    "iliotibial_band_signal": "iliotibial band, iliotibial tract, itb, it band, itb signal",
    "popliteal_cyst": "popliteal cyst, popliteal fossa, baker cyst, baker, bakers cyst, popliteal",
    "infrapatellar_bursitis": (
        "infrapatellar bursitis, infrapatellar bursa, deep infrapatellar bursa, deep infrapatellar bursitis, "
        "superficial infrapatellar bursa, superficial infrapatellar bursitis"
    ),
    "prepatellar_bursitis": "prepatellar bursitis, prepatellar bursa, prepatellar",
    "ganglion_cyst": "ganglion, ganglia, ganglion cyst, ganglion cysts",
    "loose_bodies": ("loose body, loose bodies, intra articular body, intra articular bodies, osteochondral fragment"),
    OTHER: (
        "quadriceps, quadriceps tendon, quad tendon, mcl, lcl, medial collateral ligament, lateral collateral "
        "ligament, collateral ligament, collateral ligaments, collateral, medial collateral, lateral collateral, "
        "popliteus, popliteus tendon, popliteal artery, popliteal vein, biceps femoris, biceps tendon, "
        "semimembranosus, semitendinosus, gracilis, sartorius, hamstring, hamstrings, gastrocnemius, soleus, "
        "vastus, vastus medialis, retinaculum, retinacula, mpfl, patellofemoral ligament, plica, plicae, fibula, "
        "fibular head, fibular, tibiofibular, posterolateral corner, alignment, fracture, fractures, muscle, "
        "muscles, subcutaneous, skin, kellgren, kellgren lawrence, kl, k l, kl grade, k l grade, outerbridge, "
        "icrs, worms, bloks, noyes, stoller, ahlback, osteoarthritis, oa, arthrosis, gonarthrosis, degenerative "
        "joint disease, chondromalacia, sprain, strain, tendinosis, tendinopathy, tendinitis, tendonitis, "
        "enthesopathy, joint space narrowing, sclerosis, hip, ankle, acromion, meniscofemoral ligament, whorms, "
        "superficial fat, quadriceps fat pad, suprapatellar fat pad, prefemoral fat pad, patellar retinaculum, "
        "tibial tubercle, tibial tuberosity, tuberosity, subchondral sclerosis, vessel, vessels, nerve, lymph "
        "node, tumor, tumour, mass, joint capsule, suprapatellar bursitis, semimembranosus bursa, semimembranosus "
        "bursitis, gastrocnemius bursa, mcl bursa, mcl bursitis, trochanteric bursitis, iliotibial bursitis, "
        "popliteal bursitis, popliteal bursa, atrophy, vein, veins, varicose, artery, pes planus, chondromalacia "
        "patellae, hallux, retinacular, quadriceps tear, tendon tear, muscle tear, ligament tear, joint line, "
        "gout, arthritis, infarct, ossicle, arteries, lymph, lymph nodes, fabella, osgood, osgood schlatter, "
        "osgood schlatter disease, patella alta, patella baja, patellar tilt, dysplasia, trochlear dysplasia, "
        "soft tissue edema, soft tissue oedema, subcutaneous edema, tunnel, tunnel widening, extensor mechanism, "
        "growth plate, hardware, soft tissue, subcutaneous fat"
    ),
}
# Findings that narrow a subject, with what they are called.
_FINDINGS: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("bone_marrow_lesion",),
        "bml, marrow, bone marrow, marrow edema, marrow oedema, bone bruise, contusion, bone contusion, "
        "subchondral edema, subchondral oedema, bone edema, subchondral cyst",
    ),
    (("cartilage_lesion",), "cartilage, cartilage lesion, cartilage loss, chondral, cartilaginous"),
    (("osteophyte",), "osteophyte, osteophytes, osteophytosis, osteophytic, spur, spurs, spurring"),
    (
        ("extrusion",),
        "extrusion, extrusions, extruded, extrude, extrudes, extruding, subluxation, protrudes, protrude, "
        "protrusion, protruding, displaced, displacement, bulges, bulging",
    ),
    (("morphology",), "morphology, maceration, macerated"),
    (("hypertrophy",), "hypertrophy, hypertrophied, hypertrophic"),
    (("root_tear",), "root, roots, root tear, mmrt, lmrt"),
    (("meniscal_cyst",), "meniscal cyst, meniscus cyst, parameniscal cyst, perimeniscal cyst"),
    (("patellar_tendon",), "jumper knee, jumpers knee"),
    (
        ("morphology", "meniscal_cyst"),
        "discoid, discoid meniscus, bucket handle, bucket handle tear, horizontal tear, complex tear, vertical "
        "tear, meniscus tear, meniscal tear, flap tear, parrot beak tear",
    ),
    (
        (
            "meniscal_cyst",
            "popliteal_cyst",
            "ganglion_cyst",
            "bone_marrow_lesion",
            "anterior_cruciate_ligament",
            "posterior_cruciate_ligament",
        ),
        "cyst",
    ),
    (("meniscal_cyst", "popliteal_cyst", "ganglion_cyst", "bone_marrow_lesion"), "cysts"),
    (("hoffa_synovitis", "effusion_synovitis"), "synovitis"),
    (_BURSITIS, "bursitis, bursa"),
    (("anterior_cruciate_ligament", "posterior_cruciate_ligament"), "cruciate"),
    (
        (
            "morphology",
            "meniscal_cyst",
            "root_tear",
            "anterior_cruciate_ligament",
            "posterior_cruciate_ligament",
            "patellar_tendon",
        ),
        "tear, tears, torn, ruptured, rupture",
    ),
)
_SITES: dict[str, str] = {
    **dict.fromkeys(("patella", "patellar", "patellae", "kneecap"), "patella"),
    **dict.fromkeys(("femur", "femoral", "condyle", "condyles", "condylar", "femoral condyle"), "femur"),
    **dict.fromkeys(("tibia", "tibial", "plateau", "plateaus", "tibial plateau"), "tibia"),
    **dict.fromkeys(("meniscus", "meniscal", "menisci"), "meniscus"),
}
_SIDES = {"medial": "medial", "lateral": "lateral", "medially": "medial", "laterally": "lateral"}
_PARTS: dict[str, str] = {
    **dict.fromkeys(("anterior", "anteriorly", "anterior horn"), "anterior"),
    **dict.fromkeys(("posterior", "posteriorly", "posterior horn"), "posterior"),
    **dict.fromkeys(("central", "centrally", "weight bearing", "weightbearing"), "central"),
    **dict.fromkeys(("superior", "superiorly", "upper pole", "superior pole"), "superior"),
    **dict.fromkeys(("inferior", "inferiorly", "lower pole", "inferior pole", "apex"), "inferior"),
    **dict.fromkeys(("subspinous", "intercondylar eminence", "tibial spine", "tibial spines"), "subspinous"),
    **dict.fromkeys(("body", "meniscal body", "midbody", "mid body"), "body"),
}


def _some(**facets: str | tuple[str, ...]) -> Facets:
    return MappingProxyType(
        {name: frozenset((value,) if isinstance(value, str) else value) for name, value in facets.items()}
    )


ANOTHER = _some(finding=OTHER, site=OTHER)
"""Facets of a subject that no question asks about."""


@cache
def names(category: str) -> Mapping[tuple[str, ...], Facets]:
    """Find every phrase that names a subject or a facet of one, where a question of this category was asked.

    Examples
    --------
    >>> names("osteophyte")["medial",], names("osteophyte")["quadriceps", "tendon"]["site"]
    (mappingproxy({'side': frozenset({'medial'})}), frozenset({'other'}))
    """
    return MappingProxyType({tuple(phrase.split()): facets for phrase, facets in _phrases(category)})


def _phrases(category: str) -> Iterator[tuple[str, Facets]]:
    for findings, listed in _FINDINGS:
        for phrase in listed.split(", "):
            yield phrase, _some(finding=findings)
    for phrase, site in _SITES.items():
        yield phrase, _some(site=site)
    for phrase, side in _SIDES.items():
        yield phrase, _some(side=side)
    for phrase, part in _PARTS.items():
        if part == "body":
            if category.startswith("meniscal"):
                yield phrase, _some(part=part, direction="outward")
        elif part in ("superior", "inferior"):
            if category == "osteophyte" or "pole" in phrase or phrase == "apex":
                yield phrase, _some(part=part)
        elif part == "subspinous":
            yield phrase, _some(site="tibia", part=part, direction=part)
        else:
            yield phrase, _some(part=part, direction=part)
    for phrase in ("anterior horn", "posterior horn"):
        part = phrase.split()[0]
        yield phrase, _some(site="meniscus", part=part, direction=part)
    for phrase in ("horn", "horns", "body of meniscus"):
        yield phrase, _some(site="meniscus")
    yield "facet", _some(site="patella")
    yield "facets", _some(site="patella")
    for phrase in ("trochlea", "trochlear", "trochlear groove"):
        yield phrase, _some(site="femur", part="anterior")
    for side in ("medial", "lateral"):
        for word in ("extrusion", "extruded"):
            yield f"{side} {word}", _some(finding="extrusion", side=side, direction="outward")
    for side in ("medial", "lateral"):
        if category == "meniscal_extrusion":
            yield f"{side}ly", _some(direction="outward", side=side)
    if category.startswith("meniscal") and category != "meniscal_morphology":
        for phrase in ("signal", "signal abnormality", "degeneration", "degenerative"):
            yield phrase, _some(finding="morphology")
    for word in ("root tear", "root"):
        for part in ("anterior", "posterior"):
            yield f"{part} {word}", _some(finding="root_tear", site="meniscus")
    yield "mmrt", _some(finding="root_tear", site="meniscus", side="medial")
    yield "lmrt", _some(finding="root_tear", site="meniscus", side="lateral")
    if category not in ON_BONE:
        for phrase in ("patellofemoral", "tibiofemoral", "femorotibial", "femoropatellar"):
            yield phrase, ANOTHER
    if category not in ("periarticular", "effusion_synovitis"):
        yield "joint space", ANOTHER
    if category not in ("ligament", "tendon"):
        for phrase in ("ligament", "ligaments", "tendon", "tendons"):
            yield phrase, ANOTHER
    for structure, listed in _STRUCTURES.items():
        for phrase in listed.split(", "):
            yield phrase, _some(finding=structure, site=structure)


@cache
def asked_facets(question_id: int) -> Facets:
    """Write the subject of a question as facets.

    Examples
    --------
    >>> sorted((name, *value) for name, value in asked_facets(44).items())
    [('direction', 'anterior'), ('finding', 'extrusion'), ('side', 'medial'), ('site', 'meniscus')]
    """
    question = get_question(question_id)
    category, words = question.category, question.subregion.split("_")
    if category in ON_BONE:
        return _bone(category, words)
    if not category.startswith("meniscal"):
        return _some(finding=question.finding, site=question.finding)
    finding = category if category == "meniscal_cyst" else category.removeprefix("meniscal_")
    facets = dict(_some(finding=finding, site="meniscus", side=words[0]))
    if category == "meniscal_extrusion":
        facets["direction"] = frozenset(("anterior" if words[-1] == "anterior" else "outward",))
    if category == "meniscal_morphology":
        facets["part"] = frozenset((words[-1],))
    return MappingProxyType(facets)


def _bone(category: str, words: list[str]) -> Facets:
    facets = dict(_some(finding=category, site=words[0]))
    sides = [word for word in words[1:] if word in _SIDES]
    parts = [word for word in words[1:] if word not in _SIDES]
    facets["side"] = frozenset(sides) or _NONE
    if parts:
        facets["part"] = frozenset(parts)
    elif words[0] == "patella" and category == "osteophyte":
        facets["part"] = _NONE
    return MappingProxyType(facets)


@cache
def every_word() -> frozenset[str]:
    """Find every word of the names: a grade may stand right behind one.

    Examples
    --------
    >>> "meniscus" in every_word(), "deserves" in every_word()
    (True, False)
    """
    return frozenset(word for category in CATEGORIES for phrase in names(category) for word in phrase)
