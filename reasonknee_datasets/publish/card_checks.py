"""Checks of the dataset card against the files, and of the terms of the images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from reasonknee_datasets import card
from reasonknee_datasets.croissant import CROISSANT, write_metadata
from reasonknee_datasets.publish.inspected import Diagnostic, Inspected

_WRITE = "Write the card again: reasonknee prepare writes it from the manifest."


def check_configs(repository: Inspected) -> Iterator[Diagnostic]:
    """Check that the card's configs and splits name the Parquet files of the manifest, and no others."""
    if not repository.card_data.get("configs"):
        yield Diagnostic("error", f"{card.CARD} lists no configs, so that the Hub guesses what the files are.", _WRITE)
        return
    stated = {
        (config.get("config_name"), files.get("split")): files.get("path")
        for config in repository.card_data["configs"]
        for files in config.get("data_files") or []
    }
    held = {
        (config, split): {shard.path for shard in shards}
        for config, splits in repository.manifest.configs.items()
        for split, shards in splits.items()
    }
    for config, split in sorted(held.keys() - stated.keys()):
        yield Diagnostic("error", f"{card.CARD} does not list {config}/{split}.", _WRITE)
    for config, split in sorted(stated.keys() - held.keys(), key=str):
        yield Diagnostic("error", f"{card.CARD} lists {config}/{split}, which the repository does not have.", _WRITE)
    for (config, split), paths in held.items():
        patterns = stated.get((config, split))
        if patterns is None:
            continue
        globs = [patterns] if isinstance(patterns, str) else list(patterns)
        matched = {path for path in repository.files | paths for glob in globs if fnmatchcase(path, glob)}
        for path in sorted(paths - matched):
            yield Diagnostic("error", f"{card.CARD} names no file of {config}/{split} that matches {path}.", _WRITE)
        for path in sorted(matched - paths):
            yield Diagnostic(
                "error",
                f"{path} is read as part of {config}/{split} and is not in the manifest.",
                "Remove it: it was left by another version of the repository.",
            )
    default = [config.get("config_name") for config in repository.card_data["configs"] if config.get("default")]
    if default != [card.DEFAULT_CONFIG]:
        yield Diagnostic("warning", f"{card.CARD} does not make {card.DEFAULT_CONFIG} the default config.", _WRITE)


def check_counts(repository: Inspected) -> Iterator[Diagnostic]:
    """Check that card, manifest and Parquet count the same rows."""
    for path, metadata in repository.sound_footers().items():
        stated = next(shard.rows for shard in repository.manifest.all_shards() if shard.path == path)
        if metadata.num_rows != stated:
            yield Diagnostic(
                "error",
                f"{path} has {metadata.num_rows:,} rows, but the manifest says {stated:,}.",
                "Copy the repository again, or prepare it again: reasonknee prepare.",
            )
    for config, info in _infos(repository).items():
        counts = {each.get("name"): each.get("num_examples") for each in info.get("splits") or []}
        for split in repository.manifest.splits(config):
            rows = repository.manifest.rows(config, split)
            if counts.get(split) != rows:
                yield Diagnostic(
                    "error",
                    f"{card.CARD} says that {config}/{split} has {counts.get(split)} rows; it has {rows:,}.",
                    _WRITE,
                )


def check_features(repository: Inspected) -> Iterator[Diagnostic]:
    """Check that the card states the features of every config as the Parquet files have them."""
    from datasets import DatasetInfo, Features

    infos = _infos(repository)
    for config in repository.manifest.configs:
        footers = repository.sound_footers(config)
        if not footers:
            continue
        if config not in infos:
            yield Diagnostic("error", f"{card.CARD} states no features of {config}.", _WRITE)
            continue
        held = Features.from_arrow_schema(next(iter(footers.values())).schema.to_arrow_schema())
        try:
            stated = DatasetInfo._from_yaml_dict(
                {k: v for k, v in infos[config].items() if k != "config_name"}
            ).features
        except (ValueError, TypeError, KeyError) as error:
            yield Diagnostic(
                "error", f"{card.CARD} states features of {config} that `datasets` refuses ({error}).", _WRITE
            )
            continue
        if stated != held:
            names = [name for name in {**held, **(stated or {})} if held.get(name) != (stated or {}).get(name)]
            yield Diagnostic(
                "error",
                f"{card.CARD} states other features of {config} than the files have: {', '.join(names)}.",
                _WRITE,
            )


def check_croissant(repository: Inspected) -> Iterator[Diagnostic]:
    """Check that the Croissant metadata are those of this repository."""
    text = repository.read_text(CROISSANT)
    if not text:
        yield Diagnostic("warning", f"The repository has no {CROISSANT}.", _WRITE)
    elif text != write_metadata(repository.manifest):
        yield Diagnostic("error", f"{CROISSANT} does not describe the configs and columns of the manifest.", _WRITE)


def check_gating(repository: Inspected) -> Iterator[Diagnostic]:
    """Check that the card of real data requires agreement to OAI's terms before access."""
    if repository.manifest.synthetic:
        if "SYNTHETIC" not in repository.card_text:
            yield Diagnostic("error", f"The data are synthetic, and {card.CARD} does not say so.", _WRITE)
        return
    data = repository.card_data
    prompt, fields = str(data.get("extra_gated_prompt") or ""), data.get("extra_gated_fields") or {}
    asks = any("NDA" in str(name) and kind == "checkbox" for name, kind in dict(fields).items())
    if "OAI" not in prompt or not asks:
        yield Diagnostic(
            "error" if repository.holds_voxels else "warning",
            f"{card.CARD} does not ask for agreement to the data use terms of OAI (extra_gated_prompt, and a checkbox "
            "in extra_gated_fields that names the NDA agreement).",
            _WRITE,
        )


def check_redistribution(repository: Inspected) -> Iterator[Diagnostic]:
    """Check that images of real patients are not published by accident."""
    if repository.manifest.synthetic or not repository.holds_voxels:
        return
    held = [f"{len(repository.stored_volumes):,} volumes"] if repository.stored_volumes else []
    held += ["previews"] if repository.manifest.has_previews else []
    terms = f"The repository contains {' and '.join(held)} of OAI participants. Their terms forbid passing them on"
    if repository.is_local:
        yield Diagnostic(
            "warning", f"{terms}.", "`reasonknee push` leaves them out; upload the folder with nothing else."
        )
    else:
        yield Diagnostic(
            "error",
            f"{terms} to anyone without an agreement.",
            "Keep it private or gated, and push again without --include-volumes unless you may redistribute.",
        )


def _infos(repository: Inspected) -> Mapping[str, Mapping[str, Any]]:
    listed = repository.card_data.get("dataset_info") or []
    listed = [listed] if isinstance(listed, dict) else listed
    return {str(info.get("config_name")): info for info in listed if isinstance(info, dict)}
