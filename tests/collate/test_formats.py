"""Batches of rows under `with_format` hold what batches of plain rows hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from datasets import Dataset, Features, List, Value  # noqa: E402

from reasonknee_datasets import QuintupleCollator, VolumeFeature  # noqa: E402
from reasonknee_datasets.volumes import open_volume  # noqa: E402
from tests.helpers.volumes_files import knee, save  # noqa: E402


@pytest.fixture
def rows(tmp_path: Path) -> Any:
    volumes = [
        open_volume(save(tmp_path / f"{seed}.nii.gz", knee((4, 5, 6), seed=seed))).reference for seed in range(3)
    ]
    grades = [[{"attribute": "depth", "grade": grade}] for grade in (1, 0, None)]
    columns = {"id": ["a", "b", "c"], "volume": volumes, "question_id": [19, 19, 19], "grades": grades}
    grade = {"attribute": Value("string"), "grade": Value("int32")}
    features = {"id": Value("string"), "volume": VolumeFeature(), "question_id": Value("int32"), "grades": List(grade)}
    return Dataset.from_dict(
        {**columns, "box": [[0, 0, 0, 1, 2, 3]] * 3}, Features({**features, "box": List(Value("int32"))})
    )


@pytest.mark.parametrize("form", ["torch", "numpy"])
def test_default_collator(rows: Any, form: str) -> None:
    plain, formatted = (QuintupleCollator()([each[n] for n in range(3)]) for each in (rows, rows.with_format(form)))
    assert set(plain) - {"orientation"} == set(formatted)  # arrays have no affine
    for name in ("volume", "grades", "question_id", "box"):
        if name in plain:
            np.testing.assert_array_equal(np.asarray(formatted[name]), np.asarray(plain[name]))
    assert plain["grades"].tolist() == [[-1, 1, -1], [-1, 0, -1], [-1, -1, -1]]
