"""Sentences of reasoning texts, by finding, attribute and grade.

Every entry is one sentence, so that a paragraph of them splits into its steps again.
"""

from __future__ import annotations

PLANES = {"medial": "coronal", "lateral": "coronal", "anterior": "sagittal"}

ATTRIBUTE_WORDS = {
    "tear_location": "tear location",
    "complete_tear": "complete tear",
    "insertion_lesion": "lesion at the insertion",
}

OPENING: dict[str, tuple[str, ...]] = {
    "bone_marrow_lesion": (
        "I first look up the {place} on the sagittal slices and follow its marrow from the first slice of the marked"
        " region to the last.",
        "Sound marrow is evenly dark here, since its fat is suppressed, so I look for hazy signal that begins at the"
        " joint surface and leave thin, branching vessels aside. A cyst, round and as bright as fluid, counts as part"
        " of a lesion.",
    ),
    "cartilage_lesion": (
        "I first look up the {place} and go through its sagittal slices from the medial to the lateral border of the"
        " marked region.",
        "On each slice I trace the grey band between the dark line of the bone and the brighter fluid, and compare"
        " its outer contour and its thickness with those of the slices beside it. Raised signal inside a band of"
        " normal thickness is no loss; a notch, a step or bare bone is.",
    ),
    "osteophyte": (
        "I look up the {place} and lay in my mind the smooth outline along it that the bone would have without a"
        " spur. Then I follow this outline over all slices of the marked region.",
        "A spur must carry on the cortex and the marrow of the bone. A flake of calcified capsule or a fold of"
        " synovium beside it would not count, however much it resembles one on a single slice.",
        "Where more than one spur grows here I take the one that stands out most and measure from the outline to its"
        " tip, on the slice where this distance is greatest. Bulk alone does not raise the grade.",
    ),
    "hoffa_synovitis": (
        "I look up the fat pad between the lower pole of the patella, its tendon and the front of the tibia, and go"
        " through all of its sagittal slices.",
        "As fat is suppressed the pad ought to be dark, with no more than a few fine lines that are its septa and"
        " vessels, so that any hazy or flat patch of raised signal stands out against it.",
        "I pay most attention to the posterior surface of the pad and to the cleft below the patella, where"
        " inflammation commonly begins, and keep bordered pockets of joint fluid apart from it.",
    ),
    "effusion_synovitis": (
        "I follow the joint cavity from the notch upwards behind the patella and into the suprapatellar bursa, on the"
        " sagittal slices from one side of the knee to the other.",
        "Fluid and inflamed synovium are both the brightest content of the cavity in this sequence and are judged"
        " together, whereas cartilage stays grey and fat stays dark.",
        "What matters is first whether the fluid forms a continuous strip behind the patella, and then whether it"
        " presses the walls of the bursa and of the capsule apart, while fluid in a popliteal cyst or a bursa of its"
        " own is not counted.",
    ),
    "meniscal_extrusion": (
        "I look up the {place} on the {plane} images and choose the slice on which it lies farthest outside the"
        " joint. Its neighbours serve to make sure that this is no averaging of a curved edge.",
        "The reference is the edge of the tibial plateau where its cartilage ends. Should a spur of bone grow there,"
        " I draw the line through the edge that the plateau would have without it.",
        "From this line I measure outward to the farthest point of the dark wedge. Fluid, capsule or a cyst beyond it"
        " are not part of the meniscus and do not lengthen the distance.",
    ),
    "meniscal_morphology": (
        "I look up the {place} on the sagittal slices and follow its wedge from the rim to the free edge, and from"
        " one slice to the next.",
        "A sound wedge is evenly dark, has two sharp surfaces and ends in a thin point, so I look for signal inside"
        " it, for lines that open to a surface, and for missing tissue.",
        "Before naming a tear I make sure that the line is there on more than one slice, and that it is not the gap"
        " to a ligament, a vessel at the rim or the popliteal tendon passing by. Its course then gives the tear its"
        " name, while a blunt or absent tip speaks for loss of tissue.",
    ),
    "meniscal_cyst": (
        "I go along the whole outer rim of the {place}, from the anterior horn over the body to the posterior horn,"
        " and look for pockets of fluid that touch it.",
        "A cyst is round or lobed, has a sharp wall and is as bright as the fluid of the joint, whereas a bursa or a"
        " vein keeps its distance from the rim and runs on over many slices.",
        "I also look for a bright line inside the dark wedge that opens to its upper or lower surface, for this is"
        " how a tear shows, whether it feeds a cyst or stands alone.",
    ),
    "meniscal_hypertrophy": (
        "I look at the {place} in every slice of the marked region and judge the height and the breadth of its wedge"
        " against the space between femur and tibia.",
        "The other meniscus of this knee serves as a measure, since both grow alike, and the wedge must be too big"
        " from one horn to the other and not only where it is cut at a slant.",
        "Swelling beside a tear, a cyst at the rim or a fragment that is folded onto the wedge are set aside, for"
        " none of them is true hypertrophy of the tissue, and a knee that lies at a slant in the scanner can feign a"
        " tall wedge on one side.",
    ),
    "meniscal_root_tear": (
        "I follow the posterior horn towards the middle of the knee until it becomes the {place}, the short dark band"
        " that fixes it to the tibia.",
        "On the sagittal slices beside the posterior cruciate ligament a sound root shows as an unbroken dark band"
        " down to the bone, without a bright cleft across it.",
        "I compare at least two neighbouring slices, because a slice that only grazes the band can make a whole root"
        " look thin or interrupted, and I take note whether the body of the meniscus has slipped out of the joint, as"
        " it often does once the root no longer holds it.",
    ),
    "anterior_cruciate_ligament": (
        "I look for the anterior cruciate ligament on the sagittal slices through the notch and follow it from the"
        " front of the tibia up to the inner wall of the lateral condyle.",
        "It should be a taut and dark band with straight borders, in which fine bright lines between its fibres are"
        " normal near the tibia, and both of its ends should sink into bone that is evenly dark.",
    ),
    "posterior_cruciate_ligament": (
        "I look for the posterior cruciate ligament on the sagittal slices through the notch and follow it from the"
        " inner wall of the medial condyle to the back of the tibia.",
        "It should be a thick and dark arch of even width, bent a little more when the knee is straight, and darker"
        " throughout than its anterior partner.",
        "I look at three things, which are the course of the arch from end to end, fluid in a gap across it, and the"
        " bone at both of its ends, which should be evenly dark.",
    ),
    "patellar_tendon": (
        "I follow the patellar tendon on the sagittal slices from the lower pole of the patella down to its insertion"
        " at the tuberosity of the tibia.",
        "It should be a dark band of even width with straight borders before and behind, so I look for haze or"
        " brightness inside it and for places where it is thick.",
        "Fluid in a bursa that touches the tendon, and signal of the fat pad behind it, lie outside its borders and"
        " do not belong to the tendon, however bright they are.",
        "Its upper end behind the pole of the patella and its insertion below are where changes begin most often, so"
        " I compare both of them with the middle of the tendon, slice by slice.",
    ),
}

# Texts by grade. Six entries where grade 0 needs another text for a lesion that is there (the last), see `WITH_LESION`.
WITH_LESION = 5

FINDING: dict[tuple[str, str], tuple[str, ...]] = {
    ("bone_marrow_lesion", "size"): (
        "The marrow keeps its even dark tone on all slices, and no hazy patch reaches the joint surface, so the size"
        " is grade 0.",
        "Hazy signal is raised in a small area below the joint surface, which fills less than a third of the"
        " subregion together with any cyst in it, so the size is grade 1.",
        "Hazy signal spreads from the joint surface over about half of the subregion, clearly more than a third and"
        " not yet two thirds of it, so the size is grade 2.",
        "Nearly all of the subregion has lost its dark tone, and more than two thirds of it are taken up by hazy"
        " signal or cyst, so the size is grade 3.",
    ),
    ("bone_marrow_lesion", "number"): (
        "As there is no lesion, there is none to count, and the number is grade 0.",
        "From slice to slice all of this signal hangs together, and I find no second patch apart from it, so the"
        " number is grade 1.",
        "Dark marrow parts the signal into two patches that do not meet on any slice, so the number is grade 2.",
        "Three patches or more lie apart from each other with dark marrow between them, so the number is grade 3.",
        "Although signal is raised, none of it can be counted as a lesion of its own, so the number is grade 0.",
    ),
    ("bone_marrow_lesion", "percent"): (
        "Without a lesion there is no share of it to estimate, and the percentage is grade 0.",
        "Most of the lesion is a round and sharply bordered cyst as bright as fluid, and less than a third of it is"
        " hazy marrow, so the percentage is grade 1.",
        "Hazy marrow and fluid-bright cyst share the lesion about evenly, so the percentage is grade 2.",
        "The lesion is hazy marrow nearly throughout, with little cyst in it or none, so the percentage is grade 3.",
        "The lesion is cyst throughout, as bright as fluid and without hazy marrow at its border, so the percentage"
        " is grade 0.",
    ),
    ("cartilage_lesion", "size"): (
        "The band has a smooth contour and an even thickness on every slice, and no fluid dips into it, so the size"
        " is grade 0.",
        "At one place fluid dips into the band, which is thinned there over less than a tenth of this subregion's"
        " surface, so the size is grade 1.",
        "Over a good part of the surface, more than a tenth but not three quarters of it, the band is thinned and its"
        " contour is uneven, so the size is grade 2.",
        "Hardly any of the surface keeps a normal thickness, as more than three quarters of it are thinned or gone,"
        " so the size is grade 3.",
    ),
    ("cartilage_lesion", "depth"): (
        "As no cartilage is lost, none is lost down to the bone, and the depth is grade 0.",
        "In a spot of less than a tenth of the lesion fluid reaches the bone, while a deep layer remains elsewhere,"
        " so the depth is grade 1.",
        "In the middle of the lesion bone lies bare, over more than a tenth but not three quarters of its area, so"
        " the depth is grade 2.",
        "Bone lies bare in more than three quarters of the lesion and only a rim of thinned cartilage remains, so the"
        " depth is grade 3.",
        "Everywhere in the lesion a deep layer of grey signal still covers the bone, so that nothing is worn through"
        " and the depth is grade 0.",
    ),
    ("osteophyte", "grade"): (
        "The border is smooth and blunt on all slices, and nothing stands out of the outline beyond the usual"
        " rounding, so there is no osteophyte.",
        "A low and pointed lip of bone stands out of the outline by no more than a few millimetres, so the osteophyte"
        " is small.",
        "A lip of bone clearly stands out of the outline, with a base and a tip that can be told apart and marrow"
        " inside, so the osteophyte is of medium size.",
        "A long spur with broad base and marrow of its own stands far out of the outline and pushes the soft tissue"
        " aside, so the osteophyte is large.",
    ),
    ("hoffa_synovitis", "grade"): (
        "Here the pad is dark throughout and only fine lines cross it, which is the normal state.",
        "Here the pad is dark on the whole, but a few faint and hazy patches brighten a small part of it, which is"
        " mild.",
        "Here clear hazy patches brighten a good part of the pad and leave the rest dark, which is moderate.",
        "Here strong signal runs through most of the pad, and hardly any of it keeps its dark tone, which is severe.",
    ),
    ("effusion_synovitis", "grade"): (
        "Here only a thin film of fluid is seen and the bursa is collapsed, which is what a healthy joint holds.",
        "Here a continuous strip of fluid lies behind the patella, while the bursa above it stays flat, which is a"
        " small amount.",
        "Here fluid fills the bursa and rounds its walls a little without stretching the capsule, which is a medium"
        " amount.",
        "Here the bursa is wide and the capsule bulges outward on all sides, which is a large amount.",
    ),
    ("meniscal_extrusion", "grade"): (
        "The meniscus ends at this edge or less than 2 mm beyond it, so it is not extruded.",
        "The meniscus reaches between 2 and 3 mm beyond this edge, so it is slightly extruded.",
        "The meniscus reaches more than 3 mm but not yet 5 mm beyond this edge, so it is clearly extruded.",
        "The meniscus reaches 5 mm or more beyond this edge, a good part of it outside the joint, so it is strongly"
        " extruded.",
    ),
    ("meniscal_morphology", "morphology"): (
        "The wedge is evenly dark and sharply bordered on all slices and its tip is thin, so its form is normal.",
        "Inside the wedge a patch of raised signal is seen that reaches neither of its surfaces, so this is a change"
        " of signal and no tear.",
        "A bright cleft runs from the free edge straight outward across the fibres and opens to both surfaces, so"
        " this is a radial tear.",
        "A bright line runs parallel to the tibial plateau and parts the wedge into an upper and a lower leaf, so"
        " this is a horizontal tear.",
        "A bright line stands upright in the wedge and follows its curve from slice to slice, so this is a vertical"
        " tear.",
        "Bright lines of more than one direction cross inside the wedge and break it into pieces, so this is a"
        " complex tear.",
        "The tip of the wedge is missing and its free edge is blunt and frayed, so part of the tissue is lost.",
        "More of the wedge is missing than at the first visit and only its outer part remains, so the partial loss of"
        " tissue has progressed.",
        "Apart from a thin remnant at the rim no tissue is found where the wedge should be, so it is lost completely.",
    ),
    ("meniscal_cyst", "presence"): (
        "I find no such pocket anywhere along the rim, and what fluid there is belongs to the joint itself, so a cyst"
        " is absent.",
        "At the rim lies a rounded and sharply bordered pocket as bright as joint fluid that touches the meniscus, so"
        " a cyst is present.",
    ),
    ("meniscal_cyst", "tear_location"): (
        "A bright line opens to a surface in the anterior horn, while the body and the posterior horn are whole, so"
        " the tear lies in the anterior horn.",
        "A bright line opens to a surface in the body, while both horns give no sign of having torn before it, so the"
        " tear lies in the body.",
        "A bright line opens to a surface in the posterior horn, which is where the meniscus tore first, so the tear"
        " lies in the posterior horn.",
        "No bright line opens to a surface in either horn or in the body, so no tear is detected.",
    ),
    ("meniscal_hypertrophy", "presence"): (
        "Here the wedge fits its space and equals its partner in height and breadth, so hypertrophy is absent.",
        "Here the wedge is taller and broader than its space calls for, and than its partner, while its tone stays"
        " dark and even, so hypertrophy is present.",
    ),
    ("meniscal_root_tear", "presence"): (
        "Here the band reaches the bone without a break on all of these slices, so a root tear is absent.",
        "Here a bright cleft separates the band from its attachment, and the dark wedge ends before it gets to the"
        " bone, so a root tear is present.",
    ),
    ("anterior_cruciate_ligament", "complete_tear"): (
        "Here the band can be followed without a break from one end to the other, so it is not torn completely.",
        "Here the band breaks off in its middle and fluid lies in the gap between the two stumps, so it is torn"
        " completely.",
    ),
    ("anterior_cruciate_ligament", "insertion_lesion"): (
        "The bone at its two ends is evenly dark, so there is no lesion where it inserts.",
        "In the bone where it inserts lies a bright patch with a small cyst, so there is a lesion at the insertion.",
    ),
    ("anterior_cruciate_ligament", "repair"): (
        "There are no tunnels, screws or voids of metal in the bone, so nothing speaks for a repair.",
        "The bone at its upper end holds the black void of a metal screw with a bright ring, so the ligament has been"
        " repaired.",
    ),
    ("posterior_cruciate_ligament", "complete_tear"): (
        "Here the arch can be followed without a break from one end to the other, so it is not torn completely.",
        "Here the arch breaks off in its middle and fluid lies in the gap between the two stumps, so it is torn"
        " completely.",
    ),
    ("posterior_cruciate_ligament", "insertion_lesion"): (
        "The bone at its two ends is evenly dark, so there is no lesion where it inserts.",
        "In the bone where it inserts lies a bright patch with a small cyst, so there is a lesion at the insertion.",
    ),
    ("patellar_tendon", "signal"): (
        "Here the band is dark from end to end and nowhere thickened, so its signal is normal.",
        "Here hazy signal spreads inside the upper part of the band, which is thickened at the same place, so its"
        " signal is abnormal.",
    ),
}

UNREAD = {
    "size": "How far a change extends was not read on this study, so its size stays without a grade.",
    "number": "How many lesions lie apart from each other was not read on this study, so their number stays without a"
    " grade.",
    "percent": "Which share of the signal is cyst was not read on this study, so the percentage stays without a grade.",
    "depth": "Whether the loss goes down to the bone was not read on this study, so the depth stays without a grade.",
    "grade": "Which degree this comes to was not read on this study, so it stays without a grade.",
    "morphology": "Which form this is was not read on this study, so it stays without a code.",
    "presence": "Whether it is there was not read on this study, so its presence stays open.",
    "tear_location": "Where the meniscus is torn, if it is, was not read on this study, so the place of a tear stays"
    " open.",
    "complete_tear": "Whether it is torn completely was not read on this study, so this stays open.",
    "insertion_lesion": "Whether the bone at its ends is changed was not read on this study, so this stays open.",
    "repair": "Whether it has been repaired was not read on this study, so this stays open.",
    "signal": "Whether its signal is raised was not read on this study, so this stays open.",
}

CLOSING = {
    "bone_marrow_lesion": "After a last look at the coronal and axial planes, in which the same slices must tell the"
    " same story, the bone-marrow lesions of the {place} come to these grades",
    "cartilage_lesion": "After a last look at the coronal and axial planes, where a defect has to show in the same"
    " place if it is no artefact of a slanting cut, the cartilage of the {place} comes to these grades",
    "osteophyte": "As the grade goes by how far the spur stands out and not by its bulk, the {place} comes to this",
    "hoffa_synovitis": "Judged over the whole pad rather than on its worst slice, Hoffa-synovitis comes to this",
    "effusion_synovitis": "Judged over the whole cavity rather than on its fullest slice, effusion-synovitis comes to"
    " this",
    "meniscal_extrusion": "Measured square to the edge, with the greatest distance deciding, the extrusion of the"
    " {place} comes to this",
    "meniscal_morphology": "As the code names a kind of change and not its degree, the {place} is coded as follows",
    "meniscal_cyst": "A cyst and a tear are told separately, since each may occur without the other, and for the"
    " {place} this gives",
    "meniscal_hypertrophy": "Taking all slices together, this gives for hypertrophy of the {place}",
    "meniscal_root_tear": "Taking all slices together, this gives for a tear of the {place}",
    "ligament": "With the coronal plane as a check on what the sagittal slices show, this gives for the {place}",
    "tendon": "With the axial plane as a check on what the sagittal slices show, this gives for the patellar tendon",
}
