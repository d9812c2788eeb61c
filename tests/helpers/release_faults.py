"""Every way in which the tests break a sound release, with what the reader must say and what is left of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from tests.helpers.release_builder import Built, key_of

Spoil = Callable[[Built], object]
ALL_ROWS = 248


@dataclass(frozen=True)
class Fault:
    """How to break a release, what is said, what else follows, and how many rows are left where all that is allowed."""

    kind: str
    spoil: Spoil
    says: str
    left: int = ALL_ROWS
    others: tuple[str, ...] = ()


def remove(name: str) -> Spoil:
    return lambda built: (built.data / name).unlink()


def write(name: str, text: str) -> Spoil:
    return lambda built: (built.data / name).write_text(text)


def val_row(**values: str) -> Spoil:
    """Change the one row of the validation split."""
    return lambda built: built.edit_split("val_split.csv", lambda rows: rows[0].update(values))


def rename_val_patient(patient: str) -> Spoil:
    def change(rows: list[dict[str, str]]) -> None:
        rows[:] = [{key: value.replace("0000002", patient) for key, value in row.items()} for row in rows]

    return lambda built: built.edit_split("val_split.csv", change)


def val(change: Callable[[list[Any]], object]) -> Spoil:
    """Change the records of the validation split."""
    return lambda built: built.edit("val.json", change)


def val_record(place: int, **values: Any) -> Spoil:
    return val(lambda records: records[place].update(values))


def diagnose(place: int, diagnosis: Any, answer: str | None = None) -> Spoil:
    """Change a record's inner diagnosis, and its answer with it."""

    def change(records: list[Any]) -> None:
        records[place]["final_diagnosis"]["final_diagnosis"] = diagnosis
        records[place]["answer"] = f"Look.\nFinal diagnosis: {diagnosis}" if answer is None else answer

    return val(change)


def box(place: int, numbers: list[Any]) -> Spoil:
    return val(lambda records: records[place]["final_diagnosis"].update(bounding_box=numbers))


def boxes(start: int, step: int) -> Spoil:
    """Move boxes to nowhere, in the balanced files too."""

    def change(records: list[Any]) -> None:
        for record in records:
            question = ORDER[record["prompt"]]
            if question % step == start % step:
                record["final_diagnosis"]["bounding_box"] = [1, 2, 1, 2, 1, 2]

    def spoil(built: Built) -> None:
        ORDER.update({record["prompt"]: place for place, record in enumerate(built.records["test"])})
        for path in (built.data / "generate_data").glob("*.json"):
            built.edit(path.name, change)

    return spoil


ORDER: dict[str, int] = {}


def drop_train(place: int) -> Spoil:
    return lambda built: built.edit("train.json", lambda records: records.pop(place))


def save(path: Path, change: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]) -> None:
    """Save an image again with other voxels or another affine."""
    image = nib.load(path)
    voxels, affine = change(np.asarray(image.dataobj).copy(), image.affine.copy())
    nib.save(nib.Nifti1Image(voxels, affine), path)


def mirror(built: Built) -> None:
    """Turn the validation knee into its mirror image, by the affines of mask and image alone."""
    for path in (built.mask(2), built.image(2)):
        save(path, lambda voxels, affine: (voxels, np.diag([-1, 1, 1, 1]) @ affine))


def stray(voxels: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    voxels[0, 0, 0] = 99
    return voxels, affine


def shift(voxels: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    affine[0, 3] += 2
    return voxels, affine


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def corrupt(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def link_away(built: Built) -> None:
    outside = built.root.parent / "outside.nii.gz"
    shutil.move(built.image(2), outside)
    built.image(2).symlink_to(outside)


def link_folder_away(built: Built) -> None:
    shutil.move(built.data / "images", built.root.parent / "elsewhere")
    (built.data / "images").symlink_to(built.root.parent / "elsewhere")


VAL = "split_files/val_split.csv"
LOST = ("unknown-volume",)
LESS = ("incomplete-volume",)

SPLIT_FAULTS = (
    Fault("missing-file", remove("generate_data/val.json"), r"val.json: No such file or directory: download it", 186),
    Fault("missing-file", remove("split_files/test_split.csv"), r"test_split.csv: No such .*: download", 186, LOST),
    Fault("split-columns", write(VAL, "patient_id,time\n1,2\n"), rf"{VAL}: columns must be .* not patient_id,time",
          186, LOST),
    Fault("split-columns", write(VAL, ""), rf"{VAL}: columns must be .*, not none", 186, LOST),
    Fault("split-row", val_row(time="13M"), rf"{VAL} line 2: time must be one of 00M, .* not '13M'", 186, LOST),
    Fault("split-row", val_row(knee_side="3"), r"knee_side must be 1 \(right\) or 2 \(left\), not '3'", 186, LOST),
    Fault("split-row", val_row(patient_id="12"), r"patient_id must be seven digits, not '12'", 186, LOST),
    Fault("split-row", val_row(path="../data/OAI/x"), r"path must end in patient/study/series", 186, LOST),
    Fault("split-row", val_row(image_filepath="../data/images/a.nii.gz"), r"image_filepath must be ../data", 186, LOST),
    Fault("split-row", val_row(label_filepath="../data/masks/a.nii.gz"), r"label_filepath must be ../data", 186, LOST),
    Fault("unsafe-path", val_row(label_filepath="../data/../../a"), rf"{VAL} line 2: the path .* leaves", 186, LOST),
    Fault("unsafe-path", val_row(image_filepath="/etc/passwd"), r"path '/etc/passwd' leaves the release", 186, LOST),
    Fault("unsafe-path", link_away, r"The link .* -> .*outside.nii.gz leaves the release", 186, LOST),
    Fault("unsafe-path", link_folder_away, r"images elsewhere are named with --images", 0, LOST),
    Fault("duplicate-volume", lambda built: built.edit_split("train_split.csv", lambda rows: rows.append(rows[0])),
          r"train_split.csv line 4: image or mask is in split_files/train_split.csv line 2 already"),
    Fault("duplicate-volume", val_row(label_filepath="../data/masks/knee_000.nii.gz"),
          rf"{VAL} line 2: image or mask is in split_files/train_split.csv line 2 already", 186, LOST),
    Fault("patient-in-two-splits", rename_val_patient("0000001"),
          r"patient 0000001: is in several splits: train, validation", 186, LOST),
    Fault("mixed-patients", rename_val_patient("9000002"), r"2 synthetic among 3 patients, first 0000001", 186, LOST),
)  # fmt: skip

RECORD_FAULTS = (
    Fault("question-file", write("question_files/questions.json", '{"70": "what?"}'),
          r"The question file .*questions.json contains str under '70'"),
    Fault("invalid-json", write("generate_data/val.json", '[{"a": 1}, {"a": NaN}]'),
          r"at byte 17 of .*val.json \(record 0 is the last good one\). NaN and Infinity", 186, ("record-shape",)),
    Fault("record-shape", val(lambda records: records[3].pop("prompt")),
          r"val.json record 3: must be an object with the keys answer, final_diagnosis, image, prompt", 247, LESS),
    Fault("record-shape", val_record(3, answer=5), r"val.json record 3: answer must be text, not 5", 247, LESS),
    Fault("record-shape", val_record(3, more=5), r"record 3: must be an object with the keys", 247, LESS),
    Fault("record-shape", val_record(3, final_diagnosis={"a": 1}), r"must have bounding_box .* \['a'\]", 247, LESS),
    Fault("record-shape", val(lambda records: records.__setitem__(3, "text")), r"record 3: .*, not str", 247, LESS),
    Fault("unknown-volume", val_record(3, image="x/data/images/1/2.nii.gz"),
          r"val.json record 3: its image is in no split file: x/data/images/1/2.nii.gz", 247, LESS),
    Fault("wrong-split", lambda built: val_record(3, image=f"data/images/{key_of(built.knees[0])}")(built),
          r"val.json record 3: its image is of train, not validation: ", 247, LESS),
    Fault("unknown-question", diagnose(3, {"elbow": {"grade": 1}}), r"has the subject 'elbow'", 247, LESS),
    Fault("unknown-question", diagnose(3, {}), r"diagnosis must name exactly one subject", 247, LESS),
    Fault("unknown-question", diagnose(3, {"ACL": {"repair": 1}, "PCL": {"complete_tear": 1}}),
          r"the record names several findings, not one: ACL, repair, PCL, complete_tear", 247, LESS),
    Fault("unknown-question", diagnose(3, {"popliteal_cyst_presence": {"presence": 1}}),
          r"question 65 is not one of 1 to 62", 247, LESS),
    Fault("unknown-question", diagnose(29, {"patella_superior_osteophyte": {"depth": 1}}),
          r"patella superior osteophyte .* has no attribute 'depth'\. Available: 'grade'", 247, LESS),
    Fault("prompt-mismatch", val_record(3, prompt="questions.json: 19"),
          r"the prompt is that of question 19, but the diagnosis that of question 4", 247, LESS),
    Fault("duplicate-record", val(lambda records: records.append(records[18])),
          r"val.json record 62 \(0000002/00M/right/q19\): record 18 answers that question already"),
    Fault("incomplete-volume", val(lambda records: records.pop(18)),
          rf"0000002/00M/right \({VAL} line 2\): lacks 1 of 62 questions: 19", 247),
    Fault("bad-grade", diagnose(29, {"patella_superior_osteophyte": {"grade": 7}}),
          r"val.json record 29 \(0000002/00M/right/q30\): grade of question 30 must be 0 to 3 or null, not 7"),
    Fault("bad-grade", diagnose(3, {"femur_medial_central_BML": {"size": "2.1", "number": 1, "percent": 1}}),
          r"record 3 \(0000002/00M/right/q04\): size of question 4 must be 0 to 3 or null, not '2.1'"),
    Fault("unreadable-answer", val_record(3, answer="It is large."),
          r"val.json record 3: The answer does not end in 'Final diagnosis: <dict>'", 247, LESS),
    Fault("unreadable-answer", val_record(3, answer="Look. Final diagnosis: {'a': 1"), r"neither JSON nor", 247, LESS),
    Fault("unreadable-answer", val_record(3, answer="Final diagnosis: {'a': 1}"), r"it has no reasoning", 247, LESS),
    Fault("truth-mismatch",
          val_record(29, answer="Look.\nFinal diagnosis: {'patella_superior_osteophyte': {'grade': 9}}"),
          r"record 29: final_diagnosis and the answer's final diagnosis differ: ", 247, LESS),
    Fault("truth-mismatch", val(lambda records: records[29].update(answer=records[30]["answer"])),
          r"record 29: the answer's final diagnosis is not of question 30", 247, LESS),
    Fault("truth-mismatch", val(lambda records: records[29].update(
        answer=f"Look.\nFinal diagnosis: { {**records[29]['final_diagnosis'], 'bounding_box': [1, 2, 3, 4, 5, 6]} }")),
          r"bounding boxes of final_diagnosis and answer differ: .* and \[1, 2, 3, 4, 5, 6\]", 247, LESS),
    Fault("unknown-balanced", drop_train(5),
          r"the record of 0000001/00M/right/q06 is not in train.json", 247, LESS),
    Fault("changed-balanced", lambda b: b.edit("train_balanced.json", lambda rs: rs[0].update(prompt="Other.")),
          r"train_balanced.json record 0: differs from generate_data/train.json record 1 \(0000001/00M/right/q02\)"),
)  # fmt: skip

VOXEL_FAULTS = (
    Fault("missing-image", lambda built: built.image(2).unlink(),
          rf"0000002/00M/right \({VAL} line 2\): no file at .*/20040101_10000003_1.nii.gz", 186),
    Fault("bad-image", lambda built: built.image(2).write_bytes(b"no volume"), r"0000002/00M/right: .*NIfTI", 186),
    Fault("bad-image", lambda built: save(built.image(2), lambda v, a: (np.stack([v, v], -1), a)),
          r"0000002/00M/right: The image has shape \(22, 40, 36, 2\), but must have three", 186),
    Fault("missing-mask", lambda built: built.mask(2).unlink(), r"0000002/00M/right .* no file at .*knee_002.nii.gz"),
    Fault("bad-mask", lambda built: halve(built.mask(2)), r"0000002/00M/right: .*knee_002.nii.gz", 186),
    Fault("bad-mask", lambda built: corrupt(built.mask(2)), r"0000002/00M/right: .*knee_002.nii.gz", 186),
    Fault("bad-mask", lambda built: save(built.mask(2), lambda v, a: (v.astype(np.float32) + 0.5, a)),
          r"it must be a label map, not voxels of float32 that are not whole numbers", 186),
    Fault("bad-mask", lambda built: save(built.mask(2), lambda v, a: (np.stack([v, v], -1), a)),
          r"it must have three axes, not shape", 186),
    Fault("unknown-label", lambda built: save(built.mask(2), stray),
          r"knee_002.nii.gz \(0000002/00M/right\): the mask has labels that labels.json does not name: 99"),
    Fault("geometry", lambda built: save(built.image(2), shift),
          r"mask knee_002.nii.gz and image: The two grids .*\[22x40x36 .* and \[22x40x36 ", 186),
    Fault("geometry", lambda built: save(built.image(2), lambda v, a: (v[:-1], a)), r"\[22x40x36 .* \[21x40x36 ", 186),
    Fault("side-mismatch", mirror, r"right, but medial and lateral labels are as in a left knee \(the affine", 186),
)  # fmt: skip

BOX_FAULTS = (
    Fault("bad-box", box(3, [1, 2, 3]), r"record 3 \(0000002/00M/right/q04\): .* six numbers, not \[1, 2, 3\]", 247),
    Fault("bad-box", box(3, [1, 2, 3, 4, True, 6]), r"bounding_box must be six numbers, not", 247),
    Fault("bad-box", box(3, [5, 2, 3, 4, 5, 6]), r"\[5.0, .* is not a box as slice0-x1-y2-pairs-inclusive-voxel",
          247, ("box-question",)),
    Fault("bad-box", box(3, [5, 6, 3, 4.5, 5, 6]), r"is not a box as slice0", 247, ("box-question",)),
    Fault("box-outside", box(3, [5, 22, 3, 4, 5, 6]),
          r"record 3 .* the box \(5, 3, 5, 23, 5, 7\) .* is outside its volume of shape \(22, 40, 36\)",
          247, ("box-question",)),
    Fault("box-convention", boxes(0, 1), r"box-convention: 1, .*\n  .*no convention explains any of 248 boxes", 0),
    Fault("box-mask", box(18, [1, 4, 1, 30, 1, 30]),
          r"record 18 \(0000002/00M/right/q19\): the box \[.*\] and the mask's region \[.*\] have an IoU of 0\.",
          others=("box-question",)),
    Fault("box-question", boxes(18, 62), r"question 19: 0.0% of 4 boxes agree .* with labels 51 femur medial central"),
)  # fmt: skip

FAULTS = (*SPLIT_FAULTS, *RECORD_FAULTS, *VOXEL_FAULTS, *BOX_FAULTS)
