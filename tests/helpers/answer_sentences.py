"""Sentences about knee MRI with the reading that a person would give them, generated from findings, places and forms.

The wordings are written by hand from clinical English; places and findings come from `moaks`. Nothing here comes from
the parser's own vocabulary. `cases` yields a question, a text, and the grade that the text gives by attribute: None
where the text gives none (another subject, a denial, a doubt, a supposition, a bound, a count, a measurement).
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import NamedTuple

from reasonknee_datasets.moaks import QUESTIONS, Question, write_answer


class Case(NamedTuple):
    """One generated answer: the question, its kind, the text, and the grades that it gives."""

    question: int
    kind: str
    text: str
    grades: dict[str, int | None]


def subject_of(question: Question) -> str:
    """Write the subject of a question as a radiologist would."""
    words = question.subregion.split("_")
    side = next((word for word in words if word in ("medial", "lateral")), "")
    match question.category:
        case "bone_marrow_lesion" | "cartilage_lesion" | "osteophyte":
            bone, rest = words[0], " ".join(words[1:])
            name = {
                "bone_marrow_lesion": "bone marrow lesion",
                "cartilage_lesion": "cartilage lesion",
                "osteophyte": "osteophyte",
            }[question.category]
            return f"{rest} {bone} {name}".strip()
        case "meniscal_extrusion":
            return f"{'anterior' if words[-1] == 'anterior' else side} extrusion of the {side} meniscus"
        case "meniscal_morphology":
            part = {"anterior": "anterior horn", "body": "body", "posterior": "posterior horn"}[words[-1]]
            return f"{part} of the {side} meniscus"
        case "meniscal_cyst":
            return f"{side} meniscal cyst"
        case "meniscal_hypertrophy":
            return f"{side} meniscal hypertrophy"
        case "meniscal_root_tear":
            return f"root tear of the {side} meniscus"
    return {
        "hoffa_synovitis": "Hoffa-synovitis",
        "effusion_synovitis": "effusion-synovitis",
        "anterior_cruciate_ligament": "anterior cruciate ligament",
        "posterior_cruciate_ligament": "posterior cruciate ligament",
        "patellar_tendon": "patellar tendon",
        "pes_anserine_bursitis": "pes anserine bursitis",
        "iliotibial_band_signal": "iliotibial band signal",
        "popliteal_cyst": "popliteal cyst",
        "infrapatellar_bursitis": "infrapatellar bursitis",
        "prepatellar_bursitis": "prepatellar bursitis",
        "ganglion_cyst": "ganglion cyst",
        "loose_bodies": "loose bodies",
    }[question.finding]


# Structures and findings of a knee, each with the finding that it belongs to (which must not be asked).
OTHERS: tuple[tuple[str, str], ...] = (
    ("quadriceps tendon", ""),
    ("medial collateral ligament", ""),
    ("MCL", ""),
    ("lateral collateral ligament", ""),
    ("LCL", ""),
    ("popliteus tendon", ""),
    ("patellar tendon", "patellar_tendon"),
    ("ACL", "anterior_cruciate_ligament"),
    ("anterior cruciate ligament", "anterior_cruciate_ligament"),
    ("PCL", "posterior_cruciate_ligament"),
    ("posterior cruciate ligament", "posterior_cruciate_ligament"),
    ("Baker's cyst", "popliteal_cyst"),
    ("popliteal cyst", "popliteal_cyst"),
    ("joint effusion", "effusion_synovitis"),
    ("effusion-synovitis", "effusion_synovitis"),
    ("suprapatellar effusion", "effusion_synovitis"),
    ("Hoffa fat pad", "hoffa_synovitis"),
    ("Hoffa-synovitis", "hoffa_synovitis"),
    ("infrapatellar fat pad", "hoffa_synovitis"),
    ("osteophytes", "osteophyte"),
    ("loose bodies", "loose_bodies"),
    ("iliotibial band", "iliotibial_band_signal"),
    ("pes anserine bursa", "pes_anserine_bursitis"),
    ("prepatellar bursa", "prepatellar_bursitis"),
    ("ganglion cyst", "ganglion_cyst"),
    ("bone marrow lesion", "bone_marrow_lesion"),
    ("medial patellar plica", ""),
    ("Kellgren-Lawrence", ""),
    ("osteoarthritis", ""),
    ("retinaculum", ""),
    ("meniscal extrusion", "meniscal_extrusion"),
    ("popliteal artery", ""),
)

# Structures, findings and measures that no question asks about, most of them in no list of the parser.
UNASKED_NAMES = (
    "cyclops lesion, arcuate ligament, accessory ossicle, lateral retinacular thickening, peroneal nerve, saphenous "
    "vein, rheumatoid arthritis, gout, septic arthritis, quadriceps tear, hamstring strain, bone infarct, bone "
    "density, fabella, motion artifact, image noise, muscle atrophy, body mass index, pain, WOMAC, varus alignment, "
    "joint space narrowing, Kellgren-Lawrence, osteonecrosis, stress fracture, patella alta, trochlear dysplasia, "
    "chondrocalcinosis, hardware, varicose veins, soft tissue edema, lymph nodes, Osgood-Schlatter disease, "
    "extensor mechanism, enchondroma, growth plate, geniculate artery, arthrofibrosis, Segond fracture, pes planus, "
    "synovial chondromatosis, tunnel widening, enthesophyte"
)
UNASKED_GRADED = (
    "{o}: grade {n}",
    "{o}: {n}",
    "The {o} is grade {n}.",
    "The {o} is graded {n}.",
    "There is {o}, grade {n}.",
    "{o} (grade {n}).",
    "{o} is present ({n}).",
    "I would grade the {o} as {n}.",
    "On MRI the {o} looks abnormal. Grade: {n}",
    "{o} is seen. It is grade {n}.",
    "Finding: {o}\nGrade: {n}",
    "### {o}\nGrade: {n}",
    "The {o} corresponds to grade {n}.",
    "The final grade for the {o} is {n}.",
    "| Finding | Grade |\n|---|---|\n| {o} | {n} |",
    '{{"finding": "{o}", "slice": {n}}}',
    "The MOAKS score of the {o} is {n}.",
    "I assign grade {n} to the {o}.",
    "{o}, therefore {n}",
    "{o}.\n\n{n}",
)

# {n} is the grade, {s} the subject.
STATED = (
    "{s}: {n}",
    "{s}: grade {n}",
    "{s} - grade {n}",
    "{s} grade: {n}",
    "**{s}**\n\n- Grade: {n}",
    "### {s}\nThe image quality is good.\n**Grade: {n}**",
    "The {s} is grade {n}.",
    "The {s} is graded as {n}.",
    "I've graded the {s} as {n}.",
    "Without contrast, the {s} is grade {n}.",
    "The {s}: score{n}",
    "The grade I would report is {n}.",
    "The {s} was scored {n}.",
    "The {s} receives a grade of {n}.",
    "The {s} corresponds to MOAKS grade {n}.",
    "The {s} is equivalent to grade {n}.",
    "The {s} amounts to grade {n}.",
    "The {s} is best classified as grade {n}.",
    "The {s} is consistent with MOAKS grade {n}.",
    "The {s} meets the criteria for grade {n}.",
    "I would grade the {s} as {n}.",
    "I assign grade {n} to the {s}.",
    "I would assign a MOAKS grade of {n} for the {s}.",
    "My assessment of the {s} is grade {n}.",
    "MOAKS grade {n} {s}.",
    "Based on the images, the MOAKS grade of the {s} is {n}.",
    "For the {s}, the MOAKS score is {n}.",
    "Grade of the {s}: {n}",
    "Final grade: {n}",
    "Answer: {n}",
    "The answer is {n}.",
    "Therefore, the grade is {n}.",
    "\\boxed{{{n}}}",
    "<grade>{n}</grade>",
    "<answer>{n}</answer>",
    "{n}",
    "Grade {n}",
    "MOAKS score = {n}",
    "It is beyond doubt that the {s} is grade {n}.",
    "There is no question that the {s} is grade {n}.",
    "I see no fracture. The {s} is grade {n}.",
    "After looking at 24 slices, the {s} is grade {n}.",
    "1. I located the region.\n2. I compared both sides.\n3. The {s} is grade {n}.",
    "| Finding | Grade |\n|---|---|\n| {s} | {n} |",
    "The quadriceps tendon is unremarkable. The {s} is grade {n}.",
    "Kellgren-Lawrence grade 4. {s}: grade {n}.",
    "The MCL is intact and the {s} is grade {n}.",
    "Quadriceps tendon: grade {m}. {s}: grade {n}.",
    "The {s} is grade {n}; the quadriceps tendon is grade {m}.",
    "The {s} is not grade {m}; it is grade {n}.",
    "The {s} is grade {n}, not grade {m}.",
    "The {s} is grade {n} rather than grade {m}.",
    "Rather than grade {m}, I would call the {s} grade {n}.",
    "The findings do not reach grade {m}, so the grade is {n}.",
    "The {s} does not meet grade {m}; therefore it is grade {n}.",
    "If it were larger, the grade would be {m}. The {s} is grade {n}.",
    "Initial grade: {m}\nRevised grade: {n}",
    "Initial impression: grade {m}. Revised grade: {n}",
    "Preliminary grade: {m}\nFinal grade: {n}",
    "{s}: grade {m}. On reflection, this should be grade {n}.",
    "{s}: grade {m}. Correction: grade {n}.",
    '{{"grade": {m}}}\nOn reflection this should be grade {n}.',
    '{{"grade": "{n}"}}',
    '{{"grade (0-3)": {n}}}',
    '{{"grade": "Grade {n}"}}',
    '{{"answer": {{"grade": {n}}}}}\nThis is not a substitute for a clinical report.',
    "The previous study showed grade {m}. Today the {s} is grade {n}.",
)

DENIED = (
    "It isn't grade {n}.",
    "It is not grade {n}.",
    "The {s} is not grade {n}.",
    "The {s} isn't a grade {n}.",
    "The {s} was never grade {n}.",
    "Grade: {n} is wrong.",
    "Grade {n} is incorrect.",
    "Grade {n} is excluded.",
    "Grade {n} can be ruled out.",
    "Grade {n} was rejected.",
    "Grade {n} does not apply.",
    "Grade {n} does not fit the {s}.",
    "Grade {n} is not supported by the images.",
    "Grade {n} is unlikely.",
    "Grade {n} seems too high.",
    "Grade {n} would be an overestimate.",
    "Grade {n} cannot be justified.",
    "Grade {n} (as reported elsewhere) is not confirmed.",
    "I cannot confirm grade {n}.",
    "I can't assign grade {n}.",
    "I could not verify grade {n} for the {s}.",
    "I would not call the {s} grade {n}.",
    "I do not agree with grade {n}.",
    "I disagree with grade {n}.",
    "I hesitate to assign grade {n}.",
    "I am reluctant to call this grade {n}.",
    "I refuse to call the {s} grade {n}.",
    "We reject grade {n}.",
    "The {s} does not meet grade {n}.",
    "The {s} does not qualify as grade {n}.",
    "The {s} does not amount to grade {n}.",
    "The {s} fails to reach grade {n}.",
    "The {s} falls short of grade {n}.",
    "The {s} can hardly be called grade {n}.",
    "Findings fall short of grade {n}.",
    "There is no evidence of grade {n}.",
    "There is no grade {n} {s}.",
    "There is insufficient evidence for grade {n}.",
    "There is nothing to suggest grade {n}.",
    "We lack the evidence for grade {n}.",
    "No support for grade {n} is found.",
    "Neither grade {n} nor grade {m} applies.",
    "Under no circumstances is this grade {n}.",
    "It is wrong to call this grade {n}.",
    "It would be a mistake to assign grade {n}.",
    "The images argue against grade {n}.",
    "The appearance is inconsistent with grade {n}.",
    "The {s} is anything but grade {n}.",
    "This rules out grade {n}.",
    "I can\u2019t confirm grade {n}.",
    "It won't be grade {n}.",
    "It ain't grade {n}.",
    "Grade {n} in this region cannot be confirmed.",
    "Grade {n} (hardly) fits.",
    "There was talk about grade {n}.",
    "Opinions on grade {n} differ.",
)

DOUBTED = (
    "It is unclear whether the {s} is grade {n}.",
    "Whether this is grade {n} is uncertain.",
    "Perhaps grade {n}.",
    "Maybe the {s} is grade {n}.",
    "The {s} may be grade {n}.",
    "The {s} might be grade {n}.",
    "The {s} could be grade {n}.",
    "This is possibly grade {n}.",
    "A possible grade {n}.",
    "I doubt that the {s} is grade {n}.",
    "It is doubtful that this is grade {n}.",
    "It is hard to say whether this is grade {n}.",
    "I am not sure that it is grade {n}.",
    "I'm unsure about grade {n}.",
    "I am not certain the {s} is grade {n}.",
    "Grade {n}?",
    "Is the {s} grade {n}?",
    "The {s} is either grade {n} or grade {m}.",
    "The {s} is between grade {n} and grade {m}.",
    "Grade {n} or {m}",
    "Grade {n} versus grade {m}",
    "Grade {n} is questionable.",
    "Grade {n} cannot be excluded.",
    "Grade {n} remains a possibility.",
    "I considered grade {n}.",
    "One wonders about grade {n}.",
)

SUPPOSED = (
    "If the signal were brighter, the grade would be {n}.",
    "If the {s} were larger, it would be grade {n}.",
    "Were it larger, it would be grade {n}.",
    "Had it been more extensive, grade {n} would apply.",
    "Unless it is an artefact, the {s} is grade {n}.",
    "Assuming that the image is not rotated, the {s} is grade {n}.",
    "Suppose the {s} is grade {n}.",
    "Grade {n} would require a larger lesion.",
    "Grade {n} would need more extensive change.",
    "Grade {n} requires more than this.",
    "Grade {n} is defined as a larger change.",
    "Grade {n} means more extensive change.",
    "For grade {n}, it must be larger.",
    "To be grade {n}, it must be larger.",
    "It must be larger to qualify as grade {n}.",
    "It'll need more signal for grade {n}.",
    "The threshold for grade {n} was considered.",
    "I can't determine the grade. Grade {n} would be the next step.",
    "For example, grade {n}.",
    "The previous study showed grade {n}.",
    "Grade {n} was reported on the prior exam.",
    "At the last visit it was grade {n}.",
)

BOUNDED = (
    "The {s} is at least grade {n}.",
    "The {s} is at most grade {n}.",
    "The {s} is up to grade {n}.",
    "The {s} is more than grade {n}.",
    "The {s} is less than grade {n}.",
    "The {s} is greater than grade {n}.",
    "The {s} is worse than grade {n}.",
    "The {s} is higher than grade {n}.",
    "The {s} exceeds grade {n}.",
    "The {s} is below grade {n}.",
    "The {s} is above grade {n}.",
    "The {s} is just short of grade {n}.",
    "The {s} is nearly grade {n}.",
    "The {s} is almost grade {n}.",
    "The {s} approaches grade {n}.",
    "The {s} is close to grade {n}.",
    "The {s} is grade {n} or higher.",
    "The {s} is grade {n} or more.",
    "The {s} is grade {n} or worse.",
    "Grade: >{n}",
    "Grade: >= {n}",
    "Grade: <{n}",
    "Grade: -{n}",
    "Grade: {n}+",
    '{{"grade": ">={n}"}}',
    '{{"grade": ">{n}"}}',
    '{{"grade": "<{n}"}}',
    '{{"grade": "-1"}}',
    '{{"grade": "-1 (not assessable)"}}',
    '{{"grade": "at least {n}"}}',
    '{{"grade": "not {n}"}}',
    '{{"grade": "{n}?"}}',
    '{{"grade": "{n}+"}}',
    '{{"grade": "{n} or more"}}',
)

# The highest grade (or the lowest, by its words) of the scale, in words.
HIGHEST = ("highest", "maximal", "maximum", "top")
LOWEST = ("lowest", "minimal", "minimum", "bottom")
EXTREME = (
    "The {s} gets the {x} grade.",
    "The {s} receives the {x} score.",
    "The {s} is assigned the {x} possible MOAKS grade.",
    "{s}: the {x} grade of the scale.",
    "{s} - the {x} grade on this scale, {n}.",
    "I give the {s} the {x} grade.",
    "I would assign the {x} grade to the {s}.",
    "It is the {x} grade of the scale.",
    "Therefore the {x} grade.",
    "The {x} grade applies.",
)
NO_EXTREME = (
    "The {s} is not the {x} grade.",
    "The {x} grade of the scale is {n}.",
    "The {x} grade would need another appearance.",
    "The {s} does not deserve the {x} grade.",
    "I doubt that the {s} is the {x} grade.",
    "If it were so, the {x} grade would apply.",
    "The quadriceps tendon gets the {x} grade.",
    "The {x} grade was given by the first reader.",
    "The {s} may be the {x} grade.",
    "The {x} slice shows the {s}.",
    "The images are of the {x} quality.",
)
# Another grade is thought of first, or ruled out.
THOUGHT_OF = (
    "I was tempted by grade {m}. The {s} is grade {n}.",
    "I was tempted to call this grade {m}; the {s} is grade {n}.",
    "One slice looked like more, which would be grade {m}. The grade is {n}.",
    "I rule out grade {m}. It is grade {n}.",
    "I can exclude grade {m}, so the {s} is grade {n}.",
    "I dismiss grade {m} and settle for grade {n}.",
    "I hesitated to write grade {m}. Final grade: {n}.",
    "The textbook shows grade {m} differently; the {s} earns a {n}.",
    "My first instinct was grade {m}. After every slice: grade {n}.",
    "Earlier I stated that the {s} is grade {m}. This was a mistake on my part. Its true grade is {n}.",
    "Whoever reads one slice will call it grade {m}. The {s} is grade {n}.",
    "I also see an old MCL tear. The {s} is grade {n}.",
    "Tentative grade: {m}\nAfter adjusting the window it looks different.\nDefinitive grade: {n}",
)
# Leads after which an object is not an answer, and others after which it is one.
UNSEEN_LEADS = (
    "Without having {v} the {i}, I put:",
    "Not having {v} the {i}, I write:",
    "I have not {v} the {i}. Still, this is needed:",
    "I never {v} the {i}; regardless:",
)
DISOWNED_LEADS = (
    "So here is one with no meaning:",
    "The following has no value:",
    "This carries no information:",
    "What follows means nothing:",
    "By coin toss:",
    "I rolled a die:",
    "I fill this in blindly:",
    "The images are missing, so:",
    "The volume was empty; anyway:",
    "Nothing was visible to me:",
    "For the sake of an entry:",
    "Purely to satisfy the checker:",
    "The form demands something:",
    "My crystal ball says:",
    "Because something has to be returned:",
    "Filler:",
    "Picked by chance:",
    "Suppose the {s} were larger; then:",
    "Suppose that the {s} is larger. Then:",
    "Were the {s} larger, I would write:",
    "Had the {s} been larger, this would follow:",
    "Imagine a larger {s}:",
    "Let us assume that the {s} is larger. In that case:",
    "If the {s} were larger, then:",
    "In a hypothetical knee:",
)
OWNED_LEADS = (
    "Having opened every image, I put:",
    "I did not see any tear, therefore:",
    "I have not seen the axial images, but these are clear:",
    "All things considered:",
    "Bottom line:",
    "My verdict:",
    "Long story short:",
    "Were it larger I would say more, but my grade is:",
    "If it were larger I would say more. It is not. So:",
    "Putting it all together:",
    "With that in mind, here is the JSON:",
    "The {s}:",
    "The {s} is seen well. Result:",
    "To satisfy the requested format, my grade in JSON:",
)

# Words of writers about the images, themselves or another place before the grade.
LEADS = (
    "Based on the provided image, ",
    "From the MRI that you provided, ",
    "According to the MOAKS criteria, ",
    "Following the MOAKS guidelines, ",
    "To the best of my ability, ",
    "All things considered, ",
    "With reasonable confidence, ",
    "Although image quality is limited, ",
    "While the resolution isn't perfect, ",
    "Despite some motion artifact, ",
    "While I can't provide a diagnosis, ",
    "I'm not a doctor, but ",
    "Comparing with the atlas, ",
)
LED = (
    "the {s} is grade {n}.",
    "I'd give it a grade of {n}.",
    "the {s} should be graded {n}.",
    "the findings correspond to MOAKS grade {n}.",
    "grade {n} is the best fit.",
    "a score of {n} was chosen.",
    "I would say that the {s} is grade {n}.",
)
NOT_LEADS = (
    "In another patient, ",
    "In the prior exam, ",
    "The report says that ",
    "The template says that ",
    "Although the image isn't visible to me, ",
    "Since I can't see the image, ",
    "I can't tell whether ",
    "Some readers would say that ",
)

NO_GRADE = (
    "{n} slices were unreadable.",
    "I reviewed {n} slices.",
    "The lesion measures {n} mm.",
    "The {s} measures {n} mm.",
    "The {s} is seen on slice {n}.",
    "The {s} is visible on {n} images.",
    "# Grade\n{n} slices were unreadable.",
    "{n}. Grade\nnot assessed",
    "### MOAKS Grade\n{n}. The region is seen well.",
    "There are {n} views.",
    "Figure {n} shows the {s}.",
    "The patient has had {n} operations.",
    "T{n}-weighted images were not available.",
    "{n} % of the area is affected.",
    "Confidence: {n}",
    '{{"grade": {{"value": {n}, "unit": "mm"}}}}',
    '{{"grade": "{n} mm"}}',
    '{{"grade": "<int>"}}',
    '{{"grade": "0-3"}}',
    '{{"grade": null}}',
    'Template: {{"grade": {n}}}',
    "I don't see any image. I'll reply in this format: {{\"grade\": {n}}}",
    '{{"grade": {n}}}\nPlease ignore the above JSON, since no image was provided.',
    '{{"grade": {n}}}\nThis is only a placeholder.',
    'The output format is: {{"grade": {n}}}',
    'Once the images are uploaded I will answer like this: {{"grade": {n}}}',
    "The {s} is grade {n}. Scratch that, I cannot tell.",
)

ANOTHER = (
    "{o}: {n}",
    "{o}: grade {n}",
    "{o} grade: {n}",
    "The {o} is grade {n}.",
    "The {o} is graded {n}.",
    "The {o} shows grade {n} change.",
    "The {o} shows abnormal signal, grade {n}.",
    "There is an abnormality of the {o}, grade {n}.",
    "There is an abnormality of the {o} (grade {n}).",
    "I see a problem of the {o}. Grade {n}.",
    "The {o} is abnormal. The grade is {n}.",
    "### {o}\nGrade: {n}",
    "**{o}**\n- MOAKS grade: {n}",
    "Grade {n} {o}.",
    "A grade {n} abnormality is seen in the {o}.",
    "MOAKS grade {n} at the {o}.",
    "I would grade the {o} as {n}.",
    "For the {o}, I assign {n}.",
    "| Structure | Grade |\n|---|---|\n| {o} | {n} |",
)
LATER = (  # both named: the asked one's grade is {n}, the other's {m}
    "{o}: grade {m}. {s}: grade {n}.",
    "{s}: grade {n}. {o}: grade {m}.",
    "The {o} is grade {m}, while the {s} is grade {n}.",
    "{o}: {m}\n{s}: {n}",
    "| Structure | Grade |\n|---|---|\n| {o} | {m} |\n| {s} | {n} |",
    "### {o}\nGrade: {m}\n\n### {s}\nGrade: {n}",
)

SLOT_STATED = (
    "{a}: {n}",
    "{a} = {n}",
    "{a} is {n}",
    "{a} is graded {n}",
    "{a} {n}",
    "{a} grade {n}",
    "{a} score: {n}",
    "{a} - {n}",
)
SLOT_FAILED = (
    "{a} is not {n}.",
    "{a} cannot be {n}.",
    "{a} is at least {n}.",
    "{a}: >{n}",
    "{a}: <{n}",
    "{a} may be {n}.",
    "{a} might be graded {n}.",
    "{a} is possibly {n}.",
    "{a}: {n} mm",
    "{a} is less than {n}.",
    "{a} falls short of {n}.",
    "I doubt that {a} is {n}.",
    "If {a} were {n}, the lesion would be larger.",
)
SHORT = {
    "size": ("Size", "Lesion size"),
    "number": ("Number", "Number of lesions", "Count"),
    "percent": ("Percent", "Percentage"),
    "depth": ("Depth", "Depth of lesion"),
    "presence": ("Presence",),
    "tear_location": ("Tear location",),
    "complete_tear": ("Complete tear",),
    "insertion_lesion": ("Associated with BML/cyst at site of insertion or origin",),
    "repair": ("ACL repair",),
    "signal": ("Signal abnormality",),
    "morphology": ("Morphology",),
    "grade": ("Grade",),
}
ROMAN = ("0", "I", "II", "III", "IV", "V", "VI", "VII", "VIII")


def cases(seed: int = 0, each: int = 2) -> Iterator[Case]:
    """Generate the sentences, ``each`` of every form for drawn questions and grades."""
    draw = random.Random(seed)
    single = [question for question in QUESTIONS.values() if len(question.slots) == 1]
    graded = [question for question in single if question.slots[0].high > 1]
    for kind, forms, given in (
        ("stated", STATED, True),
        ("denied", DENIED, False),
        ("doubted", DOUBTED, False),
        ("supposed", SUPPOSED, False),
        ("bounded", BOUNDED, False),
        ("no_grade", NO_GRADE, False),
    ):
        for form in forms:
            for question in draw.sample(graded if "{m}" in form or kind == "stated" else single, 5 * each):
                yield _single(draw, question, kind, form, given=given)
    yield from _extremes(draw, graded, each)
    yield from _leads(draw, single, each)
    for form in THOUGHT_OF:
        for question in draw.sample(graded, 5 * each):
            yield _single(draw, question, "thought_of", form, given=True)
    for leads, forms, given in ((LEADS, LED, True), (NOT_LEADS, LED[:1], False)):
        for lead in leads:
            for question in draw.sample(graded, 3 * each):
                yield _single(draw, question, "led" if given else "not_led", lead + draw.choice(forms), given=given)
    for name in UNASKED_NAMES.split(", "):
        for form in UNASKED_GRADED:
            question = draw.choice([each for each in single if each.category not in ("ligament", "tendon")])
            text = form.format(o=name, n=draw.choice([grade for grade in question.slots[0].legal if grade]))
            yield Case(question.id, "unasked", text, {question.slots[0].attribute: None})
    for question in single:
        yield from _others(draw, question, each)
        yield from _places(draw, question, each)
        yield from _spelled(draw, question)
    for question in QUESTIONS.values():
        if len(question.slots) > 1:
            yield from _several(draw, question, each)


def _extremes(draw: random.Random, graded: list[Question], each: int) -> Iterator[Case]:
    for forms, given in ((EXTREME, True), (NO_EXTREME, False)):
        for form in forms:
            for question in draw.sample(graded, 3 * each):
                slot = question.slots[0]
                words, n = draw.choice(((HIGHEST, slot.high), (LOWEST, slot.low)))
                text = form.format(s=subject_of(question), x=draw.choice(words), n=n)
                kind = "extreme" if given else "no_extreme"
                yield Case(question.id, kind, text, {slot.attribute: n if given else None})


def _leads(draw: random.Random, single: list[Question], each: int) -> Iterator[Case]:
    verbs = ("opened", "seen", "viewed", "looked at", "examined")
    unseen = [form.format(v=verb, i=image) for form in UNSEEN_LEADS for verb in verbs for image in ("images", "scan")]
    for leads, given in ((unseen, False), (DISOWNED_LEADS, False), (OWNED_LEADS, True)):
        for lead in leads:
            for question in draw.sample(single, 2 * each):
                slot = question.slots[0]
                n = draw.choice(list(slot.legal))
                text = f"{lead.format(s=subject_of(question))}\n{write_answer(question, {slot.attribute: n})}"
                kind = "owned_lead" if given else "disowned_lead"
                yield Case(question.id, kind, text, {slot.attribute: n if given else None})


def _numbers(draw: random.Random, question: Question) -> tuple[int, int]:
    legal = list(question.slots[0].legal)
    n = draw.choice(legal)
    return n, draw.choice([m for m in legal if m != n])


def _single(draw: random.Random, question: Question, kind: str, form: str, *, given: bool) -> Case:
    n, m = _numbers(draw, question)
    text = form.format(s=subject_of(question), n=n, m=m)
    return Case(question.id, kind, text, {question.slots[0].attribute: n if given else None})


def _belongs(question: Question, finding: str) -> bool:
    return finding in (question.finding, question.category)


def _others(draw: random.Random, question: Question, each: int) -> Iterator[Case]:
    attribute = question.slots[0].attribute
    others = [name for name, finding in OTHERS if not finding or not _belongs(question, finding)]
    if question.category == "meniscal_morphology":
        others.remove("meniscal extrusion")  # of which the meniscus named next could be the place
    for form in draw.sample(ANOTHER, 5 * each):
        n, m = _numbers(draw, question)
        text = form.format(o=draw.choice(others), n=n, m=m)
        yield Case(question.id, "another", text, {attribute: None})
    for form in draw.sample(LATER, each):
        n, m = _numbers(draw, question)
        text = form.format(o=draw.choice(others), s=subject_of(question), n=n, m=m)
        yield Case(question.id, "later", text, {attribute: n})


def _places(draw: random.Random, question: Question, each: int) -> Iterator[Case]:
    """Name the same finding at another place."""
    attribute = question.slots[0].attribute
    others = [
        other
        for other in QUESTIONS.values()
        if other.category == question.category and other.finding == question.finding
    ]
    others = [other for other in others if other.id != question.id]
    for other in draw.sample(others, min(each, len(others))):
        n, m = _numbers(draw, question)
        form = draw.choice(ANOTHER)
        yield Case(question.id, "place", form.format(o=subject_of(other), n=n), {attribute: None})
        form = draw.choice(LATER)
        text = form.format(o=subject_of(other), s=subject_of(question), n=n, m=m)
        yield Case(question.id, "place_later", text, {attribute: n})


def _spelled(draw: random.Random, question: Question) -> Iterator[Case]:
    """Write a grade in Roman or full-width digits, or in words."""
    slot = question.slots[0]
    n = draw.choice([grade for grade in slot.legal if grade])
    word = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight")[n]
    for text in (f"Grade {ROMAN[n]}", f"Grade: {chr(0xFF10 + n)}", f"Grade {word}.", f"The grade is {word}."):
        yield Case(question.id, "spelled", text, {slot.attribute: n})


def _several(draw: random.Random, question: Question, each: int) -> Iterator[Case]:
    """Name every attribute, in one form; then let one of them fail."""
    for join in ("\n", "; ", ", ", ". ", " and "):
        for _ in range(each):
            grades = {slot.attribute: draw.choice(list(slot.legal)) for slot in question.slots}
            form = draw.choice(SLOT_STATED)
            parts = [form.format(a=draw.choice(SHORT[name]), n=grade) for name, grade in grades.items()]
            yield Case(question.id, "slots", join.join(parts), dict(grades))
            yield Case(question.id, "slots", f"{subject_of(question)}:\n" + "\n".join(parts), dict(grades))
            yield Case(question.id, "slots", f"The final scores are {join.join(parts)}.", dict(grades))
            fields = {slot.attribute: grades[slot.attribute] for slot in question.slots}
            yield Case(question.id, "slots", json.dumps(fields), dict(grades))
    for form in SLOT_FAILED:
        slot = draw.choice(question.slots)
        said = form.format(a=SHORT[slot.attribute][0], n=draw.choice(list(slot.legal)))
        yield Case(question.id, "slot_failed", said, dict.fromkeys(question.attributes))
    others = [
        other for other in QUESTIONS.values() if other.id != question.id and other.attributes == question.attributes
    ]
    for _ in range(4 * each):
        grades = {slot.attribute: draw.choice(list(slot.legal)) for slot in question.slots}
        rows = "\n".join(f"- {SHORT[name][0]}: {grade}" for name, grade in grades.items())
        if others:
            other = draw.choice(others)
            yield Case(question.id, "slots_place", f"{subject_of(other)}\n{rows}", dict.fromkeys(question.attributes))
            wrong = "\n".join(
                f"- {SHORT[slot.attribute][0]}: {draw.choice(list(slot.legal))}" for slot in question.slots
            )
            text = f"{subject_of(other)}\n{wrong}\n\n{subject_of(question)}\n{rows}"
            yield Case(question.id, "slots_later", text, dict(grades))
