"""An answer counts only if the sentences before and behind it neither deny, retract, exemplify nor doubt it."""

from __future__ import annotations

import json
import random

import pytest

from reasonknee_datasets.bench.answers import parse_answer, write
from reasonknee_datasets.moaks import QUESTIONS, get_question

TAKEN_BACK = """None of this is my answer.|I am not sure about this at all; do not use it.|The opposite is true.
Disregard the above.|That was only a template.|This is wrong.|The answer above is incorrect.|Please ignore the JSON.
The JSON above is just an example.|I made this up.|I made these numbers up.|Just kidding.|I take that back.
On second thought, I retract this.|Ignore this.|I changed my mind.|This should not be used.|That's not my answer.
These values are placeholders.|The grade is a placeholder.|That is not what I think.|I have no idea.|Don't trust this.
In fact, the opposite is the case.|The truth is the exact opposite.|This grade is random.|It does not count.
This does not reflect the image.|The above is not a real answer.|Not really.|Forget what I wrote.
I don't believe this.|I cannot stand by this answer.|The values must be replaced once the images arrive.
This is from a different patient.|I wrote this without looking at the images.|I guessed.|That was a joke.
The grade given is false.|Never mind.|The above is not based on the images.|It is only there to show the format.
I don't agree with this.|Cancel that.|This answer is invalid.|Everything above is fiction.
The JSON is only for illustration.|My answer is withdrawn.|Wrong!|The above object is an illustration of the schema.
I cannot tell.|This answer must not be taken seriously.|I reject this answer.|The real answer is different.
This is just dummy data.|The numbers are arbitrary.|This was a test.|Actually, I cannot determine the grade.
Note: this is a dummy value.
That object was carried over from the previous case.|The grade I put there has nothing to do with this knee.
I only filled in the field because the format requires a value.|Those digits came out of thin air.
Consider the JSON void.|The number was pasted from a colleague's file.|Strike that last block from the record.
I no longer hold that view.|I would rather you not record that.|The above belongs to the other knee.
My submission should be treated as blank.|Please regard the field as empty.
On reflection the object should be left unscored.|The value has been left at its default.|I have to walk that back.
I did not actually examine anything before writing it.|The output was generated before the volume had loaded.
I must correct myself: no grade can be given.|Having looked again, no grade applies.|Do not enter this in the table.
The entry is stale.|That figure cannot be defended.|The number there was typed by accident.
Treat the grade as missing.|The grade should be left blank.|This was the schema's own sample value.
All of that was a dry run.|I would not put my name to that.|Set the grade to null instead.|Correction: no grade.
In truth the images are too noisy to grade.|The field should read null.|Honestly, I pulled the grade out of a hat.
That came from the wrong series.|Do not log this.|I am withdrawing the object.
It turns out I looked at the left knee instead.|The object serves only to satisfy the parser.
This answer has been superseded; none replaces it.|Leave this one out of the evaluation.
The JSON is there because the parser needs one; I have no opinion."""
KEPT = """This is not a substitute for a clinical report.|This is not a diagnosis.|I am not sure about the cyst.
Please note that this is not medical advice.|It should not be used for clinical decisions.
Do not use this for diagnosis.|This is not a tear.|It is not a full-thickness defect.|This is not the posterior horn.
The lesion is not severe.|I am not entirely sure about this.|Confidence is low.|This may be inaccurate.
This is my best guess.|I hope this helps!|The assessment is based on the sagittal images.|This reflects what I see.
It does not represent a tear.|It does not reach the edge.|The opposite horn is normal.|No other abnormality is seen.
Please consult a radiologist.|It is an educated guess based on four slices.|This is the correct format.
I cannot assess the cruciate ligaments.|This is the final answer.
The grade is not higher because the signal is only mildly bright.|I ignored slice 12.
The above follows the MOAKS criteria.|Note that the first slices are unreadable.|The signal is not fluid.
This is an AI-generated assessment and may be wrong.|The JSON follows the requested format.|It is not extruded.
A false positive is unlikely.|Let me know if you need another example.|The answer is given in the required format.
If you have other images, please upload them.
The grade reflects diffuse signal without mass effect.|This corresponds to moderate synovitis, not severe.
Other sequences were not available.
The grade was assigned on the basis of the sagittal slices; axial images were not used.
The effusion is not graded here.|No effusion was graded.|I did not grade the other compartments.
Motion artefact limits the assessment slightly.|Note that the assessment is limited by motion.
The grade would be 3 if the signal filled the pad.|A grade of 3 was not chosen since the signal is not bright.
I did not give a higher grade because the fat is partly preserved.|The value is an integer between 0 and 3.
This is consistent with moderate Hoffa-synovitis.|The remaining keys are left out as requested.
The score does not include the suprapatellar recess.|This score takes no account of the effusion.
Values range from 0 to 3.|The result should be correlated with clinical findings.
No contrast was given, so the grade rests on the fluid-sensitive sequence.|It shows no mass effect.
This grading is based on visual inspection and does not replace a radiologist.
The JSON above contains the requested grade.|There is no fracture.
The answer follows the MOAKS definition, where 0 is normal.|No other answer is needed.
It was not seen on the coronal slices.|This finding was not present in the lateral compartment.
The grade is uncertain between readers, but 2 fits best.|It is not an effusion.
Confidence: moderate. The grade could be off by one.|I am fairly, though not fully, confident in this grade.
The object has no other keys.|The assessment covers only the infrapatellar fat pad and nothing else.
The signal does not extend to the femur and was not seen posteriorly.
Without contrast the grade has limited accuracy.|This does not change the grade."""
DISOWNED = """The following is wrong:|This is not my answer:|Here is an incorrect example:|The following is wrong.
Below is a made-up example.|Wrong answer:|A bad answer would be:|What not to write:|Do not answer like this:
Rather than|I would never say:|I do not agree with:|The radiologist reported:|My colleague answered:
According to the previous report:|Previous report:|Prior exam:|The user expects:|I reject the following:
Pretend the answer is:|Imagine this result:|One might answer:|It could be:|A template:|An invented answer:
Here is a random guess:|This is false:|Not my answer:|The next object is not a real grade:|I'm not sure that:
An example of a wrong answer is|I cannot see any image.|Once I have the images, I will reply with:|The answer is not
This isn't what I think:|Someone else wrote:|Another model's output:|The following JSON is only a placeholder:
The prompt says:|Here's how not to do it:|The opposite of|Last year's grade:|Below is not my answer.
The format is as follows:|Output format:
The block below is left over from the last patient:|I was told to reply with this whatever I see:
A colleague typed this into the chart:|This is what a careless reader might produce:|The default payload is:
What I would have written had the scan been readable:
Here is what the object looks like when it is filled with dummy values:|The tool returned this for a different knee:
Do not score the next line.|The next block is only there to keep the parser happy.
The following was generated before the images had loaded:|Schema (values are arbitrary):
For a knee with moderate synovitis the output would be:|I will fill this in once the volume is readable:
My earlier draft, now withdrawn:|This would be the reply for a healthy knee:|If I had to invent a number:
Not an assessment, just the layout:|The ground truth of another case was:
The patient's previous examination was scored:|No grade can be given. Format:"""
OWNED = """Here is my answer:|I am not sure about the cyst, but:|JSON:|Final answer:|Output:|There is no tear:
Let me correct that:|I'm not certain about the depth, but here is my best estimate:|The findings are not severe, so:
I would report:|The lesion is not full-thickness.|It is not grade 3. Output:|The pad is bright.|Based on the images:
This is not a tear:|My best guess is:|I do not see any lesion:|I do not see a tear, therefore:
No lesion was found; the answer is:|The image shows moderate fluid. Following MOAKS:|Answer in the requested format:
According to MOAKS criteria:|According to the MOAKS scale the grade is:|In the requested JSON format:|The result is:
Here you go:|Compared with the prior study, the grade is unchanged:|My previous answer was wrong; the correct one is:
Wait, that is wrong. Correct answer:|The signal is not as bright as fluid, which means:
I considered grade 3 but rejected it:|Grade 3 was rejected, so the answer is:
As an AI model I cannot diagnose, but based on the image:|I am sorry for the confusion. Here is the corrected answer:
The patient has had a prior tear. Grade:|Note that this is not a medical diagnosis.
As the question says, I grade the fat pad:|This is not an easy case. My answer:
Here is the JSON in the format you asked for:|The reader may note that the signal is mild.
I cannot rule out a small lesion, but my answer is:|The user wants the grade of the left knee. My answer:
The question asks for the grade. I conclude:|The other ligaments are intact. Result:
The cartilage could be better seen on other sequences. Answer:
Having reviewed every slice, I settle on:|The fat pad is bright without mass effect. In JSON:
No effusion is seen; for the Hoffa fat pad:|My reading, in the format that was asked for:|This is not severe, hence:
I do not see a mass, and the signal is moderate. So:|Grade 3 does not apply here. Reply:
The template, filled in for this knee:|After excluding the first noisy slices, the result is:
Although I am no radiologist, my grade is:|Despite motion artefacts I would grade this knee as follows:
The other structures are not part of the question. Answer:|As requested, only the JSON:
I cannot exclude mild effusion, which is another question. The grade asked for:|It took me a while, but here it is:
The default window was used. Final:|Moderate (not mild, not severe):|I ignored the localiser. Result:
There was an error in slice 3, which I skipped; based on the others:|Thank you for the images! The grade:
No further comment."""


def split(listed: str) -> list[str]:
    return [text for line in listed.split("\n") for text in line.split("|")]


def answer_of(number: int) -> tuple[str, dict[str, int | None]]:
    grades: dict[str, int | None] = {slot.attribute: slot.high for slot in QUESTIONS[number].slots}
    return write(number, grades), grades


@pytest.mark.parametrize("number", [42, 54, 19])
def test_parse_answer_of_objects_retracted_afterwards(number: int) -> None:
    given, grades = answer_of(number)
    nothing = dict.fromkeys(grades)
    fenced = f"```json\n{given}\n```"
    for said in split(TAKEN_BACK):
        for text in (f"{given}\n{said}", f"{fenced}\n\n{said}", f"{given}\nThe signal is bright. {said}"):
            answer = parse_answer(number, text)
            assert answer.grades == nothing, text
            assert {slot.reason for slot in answer.slots} <= {"retracted", "refusal"}, text


@pytest.mark.parametrize("number", [42, 54, 19])
def test_parse_answer_of_objects_with_remarks(number: int) -> None:
    given, grades = answer_of(number)
    for said in split(KEPT):
        assert parse_answer(number, f"{given}\n{said}").grades == grades, said


@pytest.mark.parametrize("number", [42, 54, 19])
def test_parse_answer_of_objects_disowned_before(number: int) -> None:
    given, grades = answer_of(number)
    for lead in split(DISOWNED):
        for text in (f"{lead} {given}", f"The signal is bright.\n{lead}\n```json\n{given}\n```"):
            assert parse_answer(number, text).grades == dict.fromkeys(grades), text
    for lead in split(OWNED):
        for text in (f"{lead} {given}", f"The signal is bright.\n{lead}\n```json\n{given}\n```"):
            assert parse_answer(number, text).grades == grades, text


def test_parse_answer_of_object_after_a_retraction() -> None:
    first, second = write(42, {"grade": 3}), write(42, {"grade": 1})
    for said in split(TAKEN_BACK):
        text = f"{first}\n{said}\nMy answer:\n{second}"
        assert parse_answer(42, text).grades["grade"] == 1, text


@pytest.mark.parametrize("reason", ["retracted", "placeholder"])
def test_parse_answer_reasons_of_rejected_objects(reason: str) -> None:
    lead = {"retracted": "This is not my answer:", "placeholder": "An example of the format:"}[reason]
    assert parse_answer(42, f"{lead} {write(42, {'grade': 2})}").slots[0].reason == reason


def test_parse_answer_of_fragments_needs_whole_key() -> None:
    for text in (
        '-synovitis": 0": 0": 1',
        'synovitis": 1',
        'grade": 2}}}',
        'fusion-synovitis": {"grade": 2}}}',
        'is": {"grade": 1}}}e": 2}}}',
        '"effusion-synovitis": 1": 2',
        'effusion-synovitis: 0: 0: 1',
        '{"MOAKS_scores": {"effusion-syn": {"gra": 2}}}: {"grade": 3}',
        'OAKS_scores": {"grade": 1}}}s": {"effusion',
        'scores"3}}}',
        ": 2}}}",
    ):  # fmt: skip
        assert parse_answer(43, text).grades == {"grade": None}, text


def test_parse_answer_of_shuffled_fragments() -> None:
    draw = random.Random(7)
    for _ in range(1500):
        asked = get_question(draw.choice([42, 43, 44, 62, 30]))
        pieces = []
        for _ in range(draw.choice((1, 2, 3, 4))):
            grades = {slot.attribute: draw.choice(slot.legal) for slot in asked.slots}
            whole = write(asked, grades)
            start = draw.randrange(len(whole))
            pieces.append(whole[start : start + draw.randrange(1, 30)])
        text = "".join(pieces)
        grade = parse_answer(asked, text).slots[0].grade
        if grade is None or len(text) < 5:
            continue
        assert f'": {grade}' in text, text


def test_parse_answer_of_prose_taken_back() -> None:
    for said in ("None of this is my answer.", "The opposite is true.", "I made this up.", "Disregard the above."):
        assert parse_answer(42, f"Hoffa-synovitis: grade 2. {said}").grades == {"grade": None}, said


def test_retraction_lists_are_long_and_unique() -> None:
    lists = [split(listed) for listed in (TAKEN_BACK, KEPT, DISOWNED, OWNED)]
    assert [len(each) > 35 for each in lists] == [True] * 4
    assert all(len(set(each)) == len(each) for each in lists)
    assert json.loads(write(42, {"grade": 2}))
