"""Parts of the prompts: per category the task, how the finding looks, how it is graded, and the request."""

from __future__ import annotations

_THIRDS = "0 = none, 1 = below 33%, 2 = from 33 to 66%, 3 = above 66%"

# Per category: the task, how the finding looks (guided and full only), how it is graded, and the request.
PARTS: dict[str, tuple[str, str, str, str]] = {
    "bone_marrow_lesion": (
        "Examine the marrow of the {place} in this sagittal DESS scan of a knee for bone-marrow lesions. ",
        "The sequence suppresses fat, which leaves sound marrow dark; such a lesion is a hazy patch of raised signal"
        " close to the joint surface, unlike a vessel, which is thin and clearly bordered. ",
        "Give three MOAKS grades. Size: how much of the subregion all lesions fill, cysts counted in (" + _THIRDS + ")."
        " Number: separate lesions (0 = none, 1 = one, 2 = two, 3 = ≥3). Percent: how much of the lesion is"
        " oedema-like marrow and not cyst (" + _THIRDS + "). ",
        "Describe step by step what you observe, and close with the three grades as JSON in this form: ",
    ),
    "cartilage_lesion": (
        "Judge the articular cartilage that covers the {place} in this sagittal DESS scan of a knee. ",
        "Cartilage is the grey layer on the bone's joint surface, between the dark bone and the brighter fluid. Where"
        " it is sound, its outer contour is a smooth curve and its thickness changes only slowly from slice to slice;"
        " a notch, a sudden step, a thin stretch or bone without cover speaks for a lesion. Raised signal under an"
        " unbroken surface alone is not yet a loss. ",
        "Give two MOAKS grades. Size is the share of this subregion's surface that any loss affects: 0 = no loss, 1 ="
        " below 10%, 2 = from 10 to 75%, 3 = above 75%. Depth is the share of the lesion in which the whole thickness"
        " is gone and bone lies bare: 0 = nowhere, 1 = below 10% of the lesion, 2 = from 10 to 75%, 3 = above 75%. ",
        "Describe step by step what you observe, and close with both grades as JSON in this form: ",
    ),
    "osteophyte": (
        "Search the {place} for an osteophyte in this DESS scan of a knee. ",
        "It is a spur of bone that grows beyond the joint's edge and continues its cortex and marrow; a smooth, blunt"
        " border without a spur is normal. ",
        "Its MOAKS grade tells how far it stands out from the outline that the bone would have without it, whatever"
        " its volume: 0 = no spur, 1 = small, 2 = medium, 3 = large. Where several grow at this site, only the one"
        " that stands out most is graded. ",
        "Describe step by step what you observe, and close with the grade as JSON in this form: ",
    ),
    "hoffa_synovitis": (
        "Grade Hoffa-synovitis in this sagittal DESS scan of a knee. ",
        "The fat pad below the patella and behind its tendon is dark in this sequence, crossed by a few fine lines at"
        " most; inflammation turns parts of it hazy and brighter, often near its posterior edge. A sharply bordered"
        " pocket of fluid, such as a recess of the joint, is not meant. ",
        "The MOAKS grade tells how strong and how widespread that signal is: 0 = dark pad with fine lines only, 1 ="
        " mild, faint patches in a pad that is dark on the whole, 2 = moderate, clear patches in a good part of the"
        " pad, 3 = severe, strong signal through most of the pad. Judge the pad as a whole over all of its slices. ",
        "Describe step by step what you observe, and close with the grade as JSON in this form: ",
    ),
    "effusion_synovitis": (
        "Grade effusion-synovitis, the fluid inside the joint, in this sagittal DESS scan of a knee. ",
        "Fluid is the brightest content of the joint; a film of it is normal, while more of it collects behind the"
        " patella and lifts the suprapatellar bursa. Thickened, inflamed synovium cannot be told from fluid without"
        " contrast and counts together with it. ",
        "The MOAKS grade tells how much there is: 0 = no more than a healthy joint holds, 1 = small, one continuous"
        " strip behind the patella, 2 = medium, the suprapatellar bursa is a little rounded, 3 = large, the capsule"
        " is stretched outward. ",
        "Describe step by step what you observe, and close with the grade as JSON in this form: ",
    ),
    "meniscal_extrusion": (
        "Measure on {plane} images of this DESS scan of a knee how far the {place} stands out of the joint. ",
        "The reference is the tibial plateau's edge, osteophytes not counted; the distance runs from there to the"
        " outermost point of the meniscus, on the slice where it is greatest. A meniscus that ends at that edge or"
        " inside it is not extruded. ",
        "MOAKS grades the distance: 0 = less than 2 mm, 1 = 2 to 3 mm, 2 = 3 to 4.9 mm, 3 = 5 mm and more. ",
        "Describe step by step what you observe, and close with the grade as JSON in this form: ",
    ),
    "meniscal_morphology": (
        "Say which form and signal the {place} has in this DESS scan of a knee. ",
        "On a sagittal cut a sound meniscus is a dark wedge with sharp edges and an even tone. Signal inside it that"
        " does not reach a surface is degeneration; a bright line that does reach one is a tear, named after its"
        " course; a blunted, shrunken or absent wedge has lost tissue. Compare neighbouring slices before you name a"
        " tear. ",
        "The MOAKS code is a kind, not a degree: 0 = sound, 1 = inner signal that is no tear, 2 = radial tear, 3 ="
        " horizontal tear, 4 = vertical tear, 5 = complex tear, 6 = part of the tissue lost, 7 = further loss since"
        " the first visit (at later visits only), 8 = tissue lost entirely. ",
        "Describe step by step what you observe, and close with the code as JSON in this form: ",
    ),
    "meniscal_cyst": (
        "Search beside the {place} for a cyst in this DESS scan of a knee, and say where the meniscus is torn, if it"
        " is. ",
        "Such a cyst is a rounded pocket of fluid that touches the outer rim, with a sharp wall and a signal as"
        " bright as joint fluid; a tear often leads into it, but either may occur alone. A bursa or a vein nearby"
        " does not touch the rim. ",
        "Presence is 0 without and 1 with a cyst. The tear's place is a code: \n0 = anterior horn, \n1 = body, \n2 ="
        " posterior horn, \n3 = no tear. ",
        "Describe step by step what you observe, and close with both values as JSON in this form: ",
    ),
    "meniscal_hypertrophy": (
        "Decide whether the {place} is hypertrophic in this DESS scan of a knee. ",
        "A hypertrophic meniscus keeps its wedge shape and its dark, even tone, but is taller and broader than the"
        " gap between the bones calls for; compare it with the other meniscus of the same knee, and follow it from"
        " horn to horn, since a single thick slice may be only a fold or a partly averaged edge. Do not count"
        " swelling by a tear, a cyst beside the rim, or a displaced fragment that lies on top of the wedge. ",
        "Presence is 0 for a usual size and 1 for an enlarged meniscus. ",
        "Describe step by step what you observe, and close with the value as JSON in this form: ",
    ),
    "meniscal_root_tear": (
        "Decide whether the {place} is torn in this DESS scan of a knee. ",
        "The root is the short, dark band that anchors the horn to the tibia between the spines. When it tears, fluid"
        " fills a cleft at its insertion, the band ends before it reaches the bone, or the wedge beside it is missing"
        " on one sagittal slice; the body then often leaves the joint. Follow the band over neighbouring slices"
        " before you call it torn, because an oblique cut may pass beside a band that is whole. ",
        "Presence is 0 for a whole and 1 for a torn root. ",
        "Give your reasoning and add the region that you looked at, followed by the value, as JSON in this form: ",
    ),
    "ligament": (
        "Assess the {place} in this DESS scan of a knee. ",
        "",
        "",
        "Describe step by step what you observe, and close with {count} as JSON in this form: ",
    ),
    "tendon": (
        "Assess the signal of the patellar tendon in this sagittal DESS scan of a knee. ",
        "From the lower pole of the patella to the tuberosity of the tibia the tendon should be one dark band of even"
        " width with straight borders. Look at its upper end behind the pole, at its middle, and at its insertion:"
        " haze or brightness inside the band, mostly together with thickening, is abnormal. Bright fluid in a bursa"
        " before or behind the tendon, or signal of the fat pad that merely touches it, is not a change of the"
        " tendon. ",
        "The value is 0 for a dark tendon and 1 for abnormal signal. ",
        "Describe step by step what you observe, and close with the value as JSON in this form: ",
    ),
    "periarticular": (
        "Decide whether this DESS scan of a knee shows {name}. ",
        "{look}",
        "Presence is 0 where you find nothing of the kind and 1 where you do. ",
        "Describe step by step what you observe, and close with the value as JSON in this form: ",
    ),
}

LIGAMENT_LOOK = {
    "anterior_cruciate_ligament": (
        "On sagittal slices through the notch it climbs as a taut, dark band from the front of the tibia to the inner"
        " wall of the lateral condyle. A band that is interrupted or gone counts as a complete tear; a bright patch"
        " in the bone at either end counts as a lesion at the insertion; tunnels or a straight, thick graft tell of a"
        " repair. "
    ),
    "posterior_cruciate_ligament": (
        "On sagittal slices through the notch it is a thick, dark arch from the inner wall of the medial condyle to"
        " the back of the tibia, broader than its anterior partner. A gap across the whole band, or fluid where it"
        " ought to run, counts as a complete tear; a bright patch in the bone at either end counts as a lesion at the"
        " insertion. "
    ),
}
PERIARTICULAR_LOOK = {
    "pes_anserine_bursitis": (
        "pes anserine bursitis",
        "The bursa lies on the medial side of the upper tibia, under the three flat tendons that insert there"
        " together. When it is inflamed, a bright and well bordered pocket of fluid separates these tendons from the"
        " bone, some centimetres below the joint line. A vein may look alike on one slice, but runs on as a tube, and"
        " fluid that comes out of the joint itself lies higher up. ",
    ),
    "iliotibial_band_signal": (
        "abnormal signal at the iliotibial band",
        "The band is a thin, dark strip that passes over the lateral condyle on its way to the front of the tibia."
        " Friction makes the tissue between strip and bone hazy and bright, and the strip itself may thicken or lose"
        " its dark tone. Do not mistake fluid in the lateral recess of the joint, which lies deeper and follows the"
        " capsule, for such a change. ",
    ),
    "popliteal_cyst": (
        "a popliteal cyst",
        "This is a pouch of fluid behind the joint on its medial side, whose narrow neck comes forward between the"
        " tendon of the semimembranosus and the gastrocnemius on that side. It is as bright as joint fluid and"
        " has a thin, even wall; a vessel in the same place continues over many slices as a tube and has no neck. Its"
        " size does not matter here. ",
    ),
    "infrapatellar_bursitis": (
        "infrapatellar bursitis",
        "The deep bursa lies between the lower end of the patellar tendon and the tibia, a superficial one before the"
        " tendon and the tuberosity. A thread of fluid in the deep one is normal; a pocket that pushes tendon and"
        " bone apart, or any bright collection under the skin before the tuberosity, counts. Signal inside the fat"
        " pad itself does not count. ",
    ),
    "prepatellar_bursitis": (
        "prepatellar bursitis",
        "The bursa lies before the lower half of the patella, straight under the skin. When inflamed it is a flat or"
        " lens-like pocket, bright as fluid or mixed, wider than it is thick and clearly set off from the dark cortex"
        " behind it. A faint veil in the tissue under the skin without a border of its own is mere oedema and does"
        " not count. ",
    ),
    "ganglion_cyst": (
        "a ganglion cyst",
        "A ganglion is a round or lobed pocket with a thin wall, often with inner septa, as bright as fluid. It sits"
        " at the cruciate ligaments, in the fat pad, at the joint of tibia and fibula or along a tendon, and a thin"
        " stalk may lead from it to the joint. A cyst that touches the rim of a meniscus, or one in the bone, belongs"
        " to another question. ",
    ),
    "loose_bodies": (
        "loose bodies",
        "These are pieces of cartilage or bone that lie free in the joint: small, rounded and clearly bordered, dark"
        " or with a grey rim, with fluid on every side. Search the suprapatellar bursa, the notch, the space behind"
        " the condyles and the gutters. A spur that keeps its stem on the bone, or the stump of a ligament, is not"
        " loose. Debris without a shape of its own does not count. ",
    ),
}
