"""Croissant: valid by mlcroissant, which reads the rows by it, and equal to the features of `datasets`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import pytest
from huggingface_hub import DatasetCard

from reasonknee_datasets import card
from reasonknee_datasets.croissant import CROISSANT, write_metadata
from reasonknee_datasets.manifest import Manifest
from reasonknee_datasets.publish import add_previews, examine
from reasonknee_datasets.schema import CONFIGS
from tests.helpers import prepare_content as given
from tests.helpers.prepared_repository import list_again

mlcroissant = pytest.importorskip("mlcroissant", reason="the metadata are validated by mlcroissant")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("croissant")
    given.write(folder / "3dreasonknee", given.content(given.volumes(folder / "images")))
    shutil.rmtree(folder / "3dreasonknee/.work")
    add_previews(folder / "3dreasonknee", workers=1, progress=False)
    return folder / "3dreasonknee"


@pytest.fixture(scope="module")
def tree(root: Path) -> dict[str, Any]:
    return dict(json.loads((root / CROISSANT).read_text(encoding="utf-8")))


def plain(value: Any) -> Any:
    """Write a value of mlcroissant as `datasets` gives it."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, Mapping):
        return {key.rpartition("/")[2]: plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list | tuple) or hasattr(value, "tolist") else value


@pytest.mark.parametrize("synthetic", [True, False])
def test_metadata_are_valid(root: Path, tmp_path: Path, synthetic: bool) -> None:
    manifest = replace(Manifest.load(root), synthetic=synthetic, digest="")
    (tmp_path / CROISSANT).write_text(write_metadata(manifest), encoding="utf-8")
    issues = mlcroissant.Dataset(jsonld=tmp_path / CROISSANT).metadata.issues
    assert not issues.errors
    # The official release states no day of publication.
    assert all("datePublished" in warning for warning in issues.warnings)


@pytest.mark.slow
@pytest.mark.parametrize("config", list(CONFIGS))
def test_mlcroissant_reads_the_rows(root: Path, config: str) -> None:
    read = list(islice(mlcroissant.Dataset(jsonld=root / CROISSANT).records(config), 5))
    rows: dict[str, dict[str, Any]] = {}
    for split, dataset in datasets.load_dataset(str(root), config, streaming=True).items():
        rows |= {row["id"]: {"split": split, **row} for row in dataset}
    assert read
    for record in map(plain, read):
        expected = rows[record["id"]]
        assert record.keys() == expected.keys()
        for name in record.keys() - {"preview", "montage"}:
            assert record[name] == expected[name], name
        for name in record.keys() & {"preview", "montage"}:
            assert record[name].tobytes() == expected[name].tobytes()


def kind_of(feature: Any) -> Any:
    """Name a feature of `datasets` as Croissant does."""
    if isinstance(feature, dict):
        return {name: kind_of(each) for name, each in feature.items()}
    if isinstance(feature, datasets.List):
        return ["repeated", kind_of(feature.feature)]
    if isinstance(feature, datasets.Image):
        return "sc:ImageObject"
    names = {
        "string": "sc:Text",
        "bool": "sc:Boolean",
        "float64": "sc:Float",
        "int32": "sc:Integer",
        "int64": "sc:Integer",
    }
    return names[feature.dtype]


def kind_of_field(field: Mapping[str, Any]) -> Any:
    kind = field.get("dataType") or {each["name"]: each["dataType"] for each in field["subField"]}
    return ["repeated", kind] if field.get("repeated") else kind


@pytest.mark.parametrize("config", list(CONFIGS))
def test_croissant_features_match_card_and_dataset_info(root: Path, tree: dict[str, Any], config: str) -> None:
    (records,) = (each for each in tree["recordSet"] if each["@id"] == config)
    fields = {field["name"]: kind_of_field(field) for field in records["field"] if field["name"] != "split"}
    data = DatasetCard((root / card.CARD).read_text(encoding="utf-8")).data.to_dict()
    (stated,) = (info for info in data["dataset_info"] if info["config_name"] == config)
    info = datasets.DatasetInfo._from_yaml_dict({key: value for key, value in stated.items() if key != "config_name"})
    built = datasets.load_dataset_builder(str(root), config).info
    assert info.features == built.features
    assert info.splits == built.splits
    assert fields == {name: kind_of(feature) for name, feature in built.features.items()}


def test_volumes_are_a_file_set(root: Path, tree: dict[str, Any]) -> None:
    (volumes,) = (each for each in tree["distribution"] if each["@id"] == "volume-files")
    found = {path.relative_to(root).as_posix() for path in root.glob(volumes["includes"])}
    assert found == set(Manifest.load(root).volumes)


def test_metadata_without_volumes_name_none(tmp_path: Path) -> None:
    content = given.content(given.volumes(None), source={"revision": None, "files": {}, "options": {"volumes": "none"}})
    given.write(tmp_path, content, volumes="none")
    tree = json.loads((tmp_path / CROISSANT).read_text(encoding="utf-8"))
    assert {each["@id"] for each in tree["distribution"]} == {
        "quintuples-files",
        "volumes-files",
        "balanced-files",
    }


def test_real_metadata_have_the_responsible_ai_fields(root: Path, tree: dict[str, Any]) -> None:
    real = json.loads(write_metadata(replace(Manifest.load(root), synthetic=False, digest="")))
    wanted = ("dataCollection", "dataBiases", "dataLimitations", "dataUseCases", "personalSensitiveInformation")
    assert all(real[f"rai:{name}"] for name in wanted)
    assert "NIMH Data Archive" in str(real["rai:personalSensitiveInformation"])
    assert "SYNTHETIC" not in json.dumps(real)
    assert tree["name"] == "3DReasonKnee_SYNTHETIC"
    assert tree["rai:dataCollectionType"] == ["Synthetic Data"]


def test_doctor_compares_the_metadata(root: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(root, tmp_path / "3dreasonknee"))
    text = (copy / CROISSANT).read_text(encoding="utf-8")
    (copy / CROISSANT).write_text(text.replace("quintuples/answer", "quintuples/reply"), encoding="utf-8")
    list_again(copy)
    assert {finding.check for finding in examine(copy, progress=False).errors} == {"croissant"}
    (copy / CROISSANT).unlink()
    list_again(copy, lambda tree: tree["files"].pop(CROISSANT))
    (finding,) = examine(copy, progress=False).findings
    assert (finding.check, finding.severity) == ("croissant", "warning")
