"""The dataset card: the README.md of a prepared repository, which the Hub and stock ``datasets`` read.

Its words are in ``dataset_card.md``; everything that can be derived (tables of fields, features, configs, what one
repository contains) is filled in here, so that it cannot differ from the schema and the files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from reasonknee_datasets.manifest import FOLDERS, Manifest
from reasonknee_datasets.schema import CONFIGS, IMAGE, PREVIEW, SPLITS, arrow_schema

if TYPE_CHECKING:
    from datasets import DatasetInfo

CARD = "README.md"
DEFAULT_CONFIG = "quintuples"
_SYNTHETIC = (
    "> **SYNTHETIC.** The knees, grades and texts in this repository were made by a program. They serve to try and test"
    "\n> software, and say nothing about any patient."
)
_SIZES = (
    *((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")),
    *((10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M")),
)


def template() -> str:
    """Read the card's words, as packaged."""
    return files("reasonknee_datasets").joinpath("dataset_card.md").read_text(encoding="utf-8")


def render(manifest: Manifest, arrow_bytes: Mapping[str, Mapping[str, int]] | None = None) -> str:
    """Write the card of one prepared repository.

    Parameters
    ----------
    manifest : Manifest
        Content of the repository.
    arrow_bytes : mapping of config to split to int, optional
        Size of the rows in memory, which the card's metadata states; by default that of the files.

    Returns
    -------
    str
        Markdown with YAML front matter.
    """
    sizes = arrow_bytes or {}
    infos = {config: _info(config, manifest, sizes.get(config, {})) for config in CONFIGS if manifest.splits(config)}
    splits = {config: manifest.splits(config) for config in infos}
    changes: dict[str, Any] = {
        "size_categories": [
            _size_category(sum(manifest.rows(DEFAULT_CONFIG, split) for split in splits[DEFAULT_CONFIG]))
        ]
    }
    if manifest.synthetic:
        # No OAI image is here, so there is nothing to gate; and the texts are this package's own.
        changes |= {"pretty_name": "3DReasonKnee SYNTHETIC phantom", "license": "apache-2.0", "source_datasets": None}
        changes |= {
            "annotations_creators": ["machine-generated"],
            "tags": ["synthetic", "medical", "mri", "knee", "3d"],
        }
        changes |= {f"extra_gated_{key}": None for key in ("heading", "prompt", "fields", "button_content")}
    text = _fill(complete(template()), "contents", _contents(manifest))
    if manifest.synthetic:
        text = text.replace("\n# 3DReasonKnee\n", f"\n{_SYNTHETIC}\n\n# 3DReasonKnee, SYNTHETIC\n", 1)
    return _with_metadata(text, changes, splits, infos)


def read_sizes(root: Path) -> dict[str, dict[str, int]]:
    """Read the size in memory of every config's splits from the card of a repository; empty where it has none."""
    from huggingface_hub import DatasetCard

    try:
        data: Any = DatasetCard((root / CARD).read_text(encoding="utf-8")).data
        infos = data.to_dict()["dataset_info"]
        return {
            info["config_name"]: {split["name"]: int(split["num_bytes"]) for split in info["splits"]} for info in infos
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def complete(text: str) -> str:
    """Bring everything in a card that follows from the schema up to date: tables of fields, features, configs."""
    for config in CONFIGS:
        text = _fill(text, f"fields {config}", fields_table(config))
    infos = {config: _info(config, None, {}) for config in CONFIGS}
    # The two balanced files are train's and test's.
    splits = {config: tuple(s for s in SPLITS if config != "balanced" or s != "validation") for config in CONFIGS}
    return _with_metadata(text, {}, splits, infos)


def fields_table(config: str) -> str:
    """Write a config's columns as a Markdown table.

    Examples
    --------
    >>> print(fields_table("balanced"))
    | column | type | meaning |
    |---|---|---|
    | `id` | `string` | a row of the quintuples config |
    | `multiplicity` | `int32` | how often the official balanced file repeats it |
    """
    columns = (*CONFIGS[config], *((PREVIEW,) if config == "quintuples" else ()))
    rows = [f"| `{each.name}` | `{_type_name(each.type)}` | {each.meaning} |" for each in columns]
    return "\n".join(["| column | type | meaning |", "|---|---|---|", *rows])


def _type_name(kind: pa.DataType) -> str:
    """Name an Arrow type in the words of ``datasets``."""
    if kind == IMAGE:
        return "Image"
    if pa.types.is_fixed_size_list(kind):
        return f"List({_type_name(kind.value_type)}, length={kind.list_size})"
    if pa.types.is_list(kind):
        return f"List({_type_name(kind.value_type)})"
    if pa.types.is_struct(kind):
        fields = ", ".join(f"{kind.field(i).name}: {_type_name(kind.field(i).type)}" for i in range(kind.num_fields))
        return f"{{{fields}}}"
    return str(kind)


def _info(config: str, manifest: Manifest | None, arrow_bytes: Mapping[str, int]) -> DatasetInfo:
    """Describe one config for ``datasets``: its features and, where they are known, its splits' sizes."""
    from datasets import DatasetInfo, Features
    from datasets.splits import SplitDict, SplitInfo

    schema = arrow_schema(config, previews=manifest is not None and manifest.has_previews)
    info = DatasetInfo(features=Features.from_arrow_schema(schema), config_name=config)
    if manifest is None:
        return info
    splits = SplitDict()
    for split in manifest.splits(config):
        file_bytes = sum(shard.bytes for shard in manifest.shards(config, split))
        size = arrow_bytes.get(split, file_bytes)
        splits.add(SplitInfo(split, num_bytes=size, num_examples=manifest.rows(config, split)))
    info.splits = splits
    info.download_size = sum(s.bytes for split in manifest.splits(config) for s in manifest.shards(config, split))
    info.dataset_size = sum(split.num_bytes for split in splits.values())
    return info


def _with_metadata(
    text: str, changes: Mapping[str, Any], splits: Mapping[str, tuple[str, ...]], infos: Mapping[str, DatasetInfo]
) -> str:
    """Write the front matter with the configs' files and their features."""
    from datasets.info import DatasetInfosDict
    from huggingface_hub import DatasetCard

    card = DatasetCard(text)
    for key, value in changes.items():
        card.data[key] = value  # None leaves the key out
    card.data["configs"] = [
        {
            "config_name": config,
            **({"default": True} if config == DEFAULT_CONFIG else {}),
            "data_files": [{"split": name, "path": f"{FOLDERS[config]}/{name}-*.parquet"} for name in splits[config]],
        }
        for config in infos
    ]
    card.data["dataset_info"] = None
    DatasetInfosDict(infos).to_dataset_card_data(card.data)
    front = card.data.to_yaml(line_break="\n", original_order=list(card.data.__dict__))
    return f"---\n{front}\n---\n\n{card.text.strip()}\n"


def _fill(text: str, name: str, content: str) -> str:
    """Put content between a pair of markers."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    return pattern.sub(lambda match: f"{match[1]}{content}\n{match[2]}", text, count=1)


def _size_category(rows: int) -> str:
    return next((name for limit, name in _SIZES if rows < limit), "100M<n<1B")


def _contents(manifest: Manifest) -> str:
    """Summarise the contents of one repository."""
    revision = manifest.source.get("revision")
    origin = "a synthetic release" if manifest.synthetic else "the official release"
    at = f", revision `{revision}`" if revision else ""
    lines = [
        f"This repository was prepared from {origin}{at} by reasonknee_datasets "
        f"{manifest.versions.get('reasonknee_datasets', '')}.",
        "",
        "| split | volumes | rows | distinct rows in `balanced` |",
        "|---|---:|---:|---:|",
    ]
    for split in manifest.splits(DEFAULT_CONFIG):
        balanced = f"{manifest.rows('balanced', split):,}" if split in manifest.splits("balanced") else "none"
        rows, volumes = manifest.rows(DEFAULT_CONFIG, split), manifest.rows("volumes", split)
        lines.append(f"| `{split}` | {volumes:,} | {rows:,} | {balanced} |")
    lines += ["", _voxels(manifest), "", _boxes(manifest)]
    allowed = manifest.report.get("allowed") or {}
    if allowed:
        found = ", ".join(f"{kind} ({count:,})" for kind, count in allowed.items())
        lines += ["", f"Problems of the release that were allowed when it was prepared: {found}."]
    return "\n".join(lines)


def _voxels(manifest: Manifest) -> str:
    held = [record for record in manifest.volumes.values() if record.bytes is not None]
    if not held:
        return "It was prepared without images: `volume_path` names the place of each."
    total = sum(record.bytes or 0 for record in held)
    size = f"{total / 1e9:,.1f} GB" if total >= 1e9 else f"{total / 1e6:,.1f} MB"
    shapes = {tuple(sorted(record.shape)) for record in held if record.shape}
    return (
        f"Its {len(held):,} volumes take {size} and have {len(shapes)} different sets of side lengths. "
        "Each was decoded once and its voxels hashed when it was prepared." + _masks(manifest)
    )


def _masks(manifest: Manifest) -> str:
    if not manifest.masks:
        return ""
    return (
        f" {len(manifest.masks):,} segmentation masks are on their grids, with {len(manifest.labels)} named labels; "
        "most were predicted by networks."
    )


def _boxes(manifest: Manifest) -> str:
    convention = manifest.box_convention
    by_layout = convention.get("by_layout") or {}
    names = "; ".join(f"`{name}` in {layout} arrays" for layout, name in by_layout.items())
    names = names or f"`{convention.get('name')}`"
    checked, agreement = convention.get("checked") or 0, convention.get("agreement")
    how = "given beforehand" if convention.get("source") == "given" else "established from the masks"
    if not checked or agreement is None:
        return f"Boxes were read in the convention {names}, {how}; no mask was there to check them."
    return (
        f"Boxes were read in the convention {names}, {how}: "
        f"{100 * agreement:.2f} % of {checked:,} boxes agree with their masks within one voxel."
    )
