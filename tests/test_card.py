"""The card: its tables are the schema's, its metadata the files', and it says plainly what the data are not."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest
from huggingface_hub import DatasetCard

import reasonknee_datasets
from reasonknee_datasets import card
from reasonknee_datasets.manifest import Manifest
from reasonknee_datasets.schema import CONFIGS, PREVIEW, arrow_schema
from tests.helpers import prepare_content as given

TOP = Path(reasonknee_datasets.__file__).parent.parent / "dataset_card.md"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("card")
    given.write(folder / "3dreasonknee", given.content(given.volumes(folder / "images")))
    return folder / "3dreasonknee"


@pytest.fixture(scope="module")
def manifest(root: Path) -> Manifest:
    return Manifest.load(root)


@pytest.fixture(scope="module")
def real(manifest: Manifest) -> DatasetCard:
    """The card as it would be if the same rows were no phantom's."""
    return DatasetCard(card.render(replace(manifest, synthetic=False, digest="")))


def test_template_is_the_card_at_top() -> None:
    if not TOP.exists():
        pytest.skip("an installed package has only its own copy")
    assert TOP.read_text(encoding="utf-8") == card.template()


@pytest.mark.parametrize("synthetic", [True, False])
def test_card_begins_with_how_to_read_voxels(manifest: Manifest, synthetic: bool) -> None:
    text = DatasetCard(card.render(replace(manifest, synthetic=synthetic, digest=""))).text
    screen = " ".join(text.split("\n## ")[0].replace("\n> ", " ").split())
    assert len(screen.split("load this repository with `reasonknee_datasets`")[0]) < 700  # characters above it
    assert 'reasonknee_datasets.load_dataset("OWNER/NAME")' in screen
    assert "`datasets.load_dataset` and the Hub's viewer read the same rows, but without the column `volume`" in screen


def test_card_matches_schema() -> None:
    # To bring it up to date: write card.complete(card.template()) to both copies of dataset_card.md.
    assert card.complete(card.template()) == card.template()


@pytest.mark.parametrize("config", list(CONFIGS))
def test_fields_table_is_the_schema(config: str) -> None:
    (table,) = re.findall(rf"<!-- fields {config} -->\n(.*?)\n<!-- /fields {config} -->", card.template(), re.DOTALL)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    columns = (*CONFIGS[config], *((PREVIEW,) if config == "quintuples" else ()))
    assert [name.strip("`") for name, _, _ in rows] == arrow_schema(config, previews=True).names
    assert [meaning for _, _, meaning in rows] == [column.meaning for column in columns]
    kinds = {name.strip("`"): kind.strip("`") for name, kind, _ in rows}
    if config == "quintuples":
        assert kinds["box"] == "List(int32, length=6)"
        assert kinds["grades"] == "List({attribute: string, grade: int32, scale: string})"


@pytest.mark.parametrize("synthetic", [True, False])
def test_metadata_states_features_splits_and_sizes(manifest: Manifest, synthetic: bool) -> None:
    data = DatasetCard(card.render(replace(manifest, synthetic=synthetic, digest=""))).data.to_dict()
    infos = {info["config_name"]: info for info in data["dataset_info"]}
    assert set(infos) == set(CONFIGS) - {"preview"}
    for config, info in infos.items():
        read = datasets.DatasetInfo._from_yaml_dict({k: v for k, v in info.items() if k != "config_name"})
        assert read.features == datasets.Features.from_arrow_schema(arrow_schema(config))
        assert {name: split.num_examples for name, split in read.splits.items()} == {
            split: manifest.rows(config, split) for split in manifest.splits(config)
        }
        assert read.download_size == sum(s.bytes for n in manifest.splits(config) for s in manifest.shards(config, n))
        assert read.dataset_size == sum(split.num_bytes for split in read.splits.values())


def test_configs_match_the_files(root: Path, manifest: Manifest) -> None:
    data = DatasetCard((root / card.CARD).read_text(encoding="utf-8")).data.to_dict()
    matched = set()
    for config in data["configs"]:
        assert config.get("default", False) == (config["config_name"] == "quintuples")
        assert [files["split"] for files in config["data_files"]] == list(manifest.splits(config["config_name"]))
        for files in config["data_files"]:
            found = {path.relative_to(root).as_posix() for path in root.glob(files["path"])}
            assert found == {shard.path for shard in manifest.shards(config["config_name"], files["split"])}
            matched |= found
    assert matched == {path.relative_to(root).as_posix() for path in root.rglob("*.parquet")}


def test_sizes_in_memory_are_stated(root: Path) -> None:
    data = DatasetCard((root / card.CARD).read_text(encoding="utf-8")).data.to_dict()
    (info,) = (info for info in data["dataset_info"] if info["config_name"] == "quintuples")
    loaded = datasets.load_dataset(str(root), split="train", streaming=True)
    stated = {split["name"]: split["num_bytes"] for split in info["splits"]}["train"]
    # Not what the files take: what rows take in Arrow, text for the most part.
    text = sum(len(str(value)) for row in loaded for value in row.values())
    assert 0.5 * text < stated < 2 * text


def test_real_card_has_licence_gate_and_tags(real: DatasetCard) -> None:
    data = real.data.to_dict()
    assert data["license"] == "cc-by-4.0"
    assert data["size_categories"] == ["n<1K"]
    assert {"medical", "mri", "knee", "arxiv:2510.20967"} <= set(data["tags"])
    assert "visual-question-answering" in data["task_categories"]
    assert "NIMH Data Archive" in data["extra_gated_prompt"]
    assert "OAI" in data["extra_gated_prompt"]
    assert all(kind in {"text", "checkbox"} for kind in data["extra_gated_fields"].values())
    assert any("NDA agreement" in field for field in data["extra_gated_fields"])
    assert "SYNTHETIC" not in real.text.split("## Loading it")[0]


def test_synthetic_card_cannot_be_mistaken(root: Path) -> None:
    made = DatasetCard((root / card.CARD).read_text(encoding="utf-8"))
    data = made.data.to_dict()
    assert made.text.lstrip().startswith("> **SYNTHETIC.**")
    assert "SYNTHETIC" in data["pretty_name"]
    assert data["tags"][0] == "synthetic"
    assert not [key for key in data if key.startswith("extra_gated")]
    assert "source_datasets" not in data


@pytest.mark.parametrize(
    "words",
    [
        "boxes are anatomical regions, not lesions",
        'a grade of 0 may mean "not read"',
        "it cannot be distinguished from a reading of 0",
        "grades come from oai's readings",
        "one text for each question and combination of grades, not for each patient",
        "most masks are predicted",
        "grade 0 dominates",
        "not for clinical use",
        "arxiv:2510.20967",
        "psb",
        "nominal",
        "## where it comes from",
        "## what is synthetic",
        "## limits",
        "## citation",
    ],
)
def test_the_card_says_plainly(words: str) -> None:
    assert words in re.sub(r"\s+", " ", card.template().lower()).replace("*", "")


def test_contents_say_what_the_repository_holds(manifest: Manifest) -> None:
    convention: dict[str, Any] = {"name": "slice-x-y", "agreement": 0.9987, "checked": 4321, "source": "established"}
    report = {"allowed": {"missing-image": 1234}}
    source = {"revision": "7a611f92", "files": {}}
    changed = replace(manifest, synthetic=False, box_convention=convention, report=report, source=source, digest="")
    text = card.render(changed)
    assert "| `train` | 12 | 36 | 12 |" in text
    assert "| `validation` | 4 | 12 | none |" in text
    assert "`slice-x-y`, established from the masks: 99.87 % of 4,321 boxes agree" in text
    assert "missing-image (1,234)" in text
    assert "revision `7a611f92`" in text
    assert "Its 22 volumes take" in text


def test_absent_splits_and_images_are_left_out(tmp_path: Path) -> None:
    made = given.volumes(None, {"test": [1, 2]})
    given.write(tmp_path, given.content(made, balanced={}), volumes="none")
    text = (tmp_path / card.CARD).read_text(encoding="utf-8")
    data = DatasetCard(text).data.to_dict()
    assert [config["config_name"] for config in data["configs"]] == ["quintuples", "volumes"]
    assert data["configs"][0]["data_files"] == [{"split": "test", "path": "data/test-*.parquet"}]
    assert "prepared without images" in text
    assert re.findall(r"\| `(train|validation|test)` \|", text) == ["test"]
    assert datasets.load_dataset(str(tmp_path), split="test", streaming=True).features is not None


@pytest.mark.parametrize(
    ("rows", "category"),
    [(1, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (494_140, "100K<n<1M"), (10**8, "100M<n<1B")],
)
def test_size_categories_are_the_hubs(rows: int, category: str) -> None:
    assert card._size_category(rows) == category
