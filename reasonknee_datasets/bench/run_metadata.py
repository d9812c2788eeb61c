"""Metadata that identifies a run. Two results are comparable only if it matches, the model excepted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from reasonknee_datasets.errors import BenchError, nearest

MODEL = ("model", "model_revision")
"""The fields in which two results may differ and still be compared."""


@dataclass(frozen=True, slots=True)
class RunMetadata:
    """Everything that a result depends on.

    A field that was not stated is None, and None equals None only. A result without a field cannot be compared with a
    result that has it, unless the caller allows that.

    Attributes
    ----------
    dataset_revision : str or None
        Digest of the prepared repository's manifest.
    split : str or None
        ``train``, ``validation`` or ``test``.
    records, patients : int or None
        Number of records and patients that were asked.
    records_sha256 : str or None
        Digest of their ids, in order: two samples of one size are two samples.
    voxels_sha256 : str or None
        Digest of their volumes' voxel hashes; None where the repository was prepared without images.
    condition : str or None
        The condition, as its repr or name.
    attributes : str or None
        Attributes that alone were scored, as ``size, depth``; None for all.
    prompts : mapping of str to str
        SHA-256 of each question's prompt, by the question's number.
    system_prompt : str or None
        The text itself; it is short, and a hash could not be read.
    frames : str or None
        The frame recipe, as its repr.
    model, model_revision : str or None
        The only fields that a comparison expects to differ.
    generation : mapping
        Generation settings: temperature, tokens, and the like.
    codec_version : int or None
        `reasonknee_datasets.bench.answers.CODEC_VERSION`.
    box_convention : str or None
        Convention in which the model was asked to write boxes; None without boxes. A run without boxes can be compared
        with a run that has them, on everything but boxes.
    package_version : str or None
        Version of reasonknee_datasets.
    seed : int or None
        Seed of the sample, of jittered boxes and of shuffled images.
    synthetic : bool or None
        True where the phantom made the data.

    Raises
    ------
    BenchError
        If a value has another type, or is not JSON.

    Examples
    --------
    >>> one = RunMetadata(split="test", model="majority", generation={"temperature": 0})
    >>> RunMetadata.from_json(one.to_json()) == one
    True
    """

    dataset_revision: str | None = None
    split: str | None = None
    records: int | None = None
    patients: int | None = None
    records_sha256: str | None = None
    voxels_sha256: str | None = None
    condition: str | None = None
    attributes: str | None = None
    prompts: Mapping[str, str] = field(default_factory=dict, hash=False)
    system_prompt: str | None = None
    frames: str | None = None
    model: str | None = None
    model_revision: str | None = None
    generation: Mapping[str, Any] = field(default_factory=dict, hash=False)
    codec_version: int | None = None
    box_convention: str | None = None
    package_version: str | None = None
    seed: int | None = None
    synthetic: bool | None = None

    def __post_init__(self) -> None:
        for each in fields(self):
            object.__setattr__(self, each.name, _checked(each.name, getattr(self, each.name)))

    def to_json(self) -> dict[str, Any]:
        """Return every field in JSON's own types."""
        return asdict(self)

    @classmethod
    def from_json(cls, item: object) -> RunMetadata:
        """Read the fields that `to_json` returned; a field that is left out was not stated.

        Raises
        ------
        BenchError
            If it is not an object, or has an unknown field.

        Examples
        --------
        >>> RunMetadata.from_json({"modell": "x"})
        Traceback (most recent call last):
        reasonknee_datasets.errors.BenchError: A run's metadata has no field 'modell'. Did you mean 'model'? \
Available: dataset_revision, split, records, ...
        """
        if not isinstance(item, Mapping):
            raise BenchError(
                f'A run\'s metadata must be a JSON object such as {{"run": {{"model": "...", "split": "test"}}}}, got '
                f"{repr(item)[:200]}."
            )
        for name in item:
            if name not in FIELDS:
                raise BenchError(f"A run's metadata has no field {str(name)!r}. {nearest(str(name), FIELDS)}.")
        return cls(**{name: value for name, value in item.items() if value is not None})


def identity_digest(identity: RunMetadata) -> str:
    """Return the SHA-256 of an identity without the model: answers of one run all carry it.

    Examples
    --------
    >>> identity_digest(RunMetadata(split="test", model="a")) == identity_digest(RunMetadata(split="test", model="b"))
    True
    """
    stated = {name: value for name, value in identity.to_json().items() if name not in MODEL}
    return hashlib.sha256(json.dumps(stated, sort_keys=True).encode()).hexdigest()


FIELDS: tuple[str, ...] = tuple(each.name for each in fields(RunMetadata))

_MAPPINGS = frozenset({"prompts", "generation"})
_TYPES: Mapping[str, tuple[type, str]] = {
    **dict.fromkeys(("records", "patients", "codec_version", "seed"), (int, "a whole number")),
    "synthetic": (bool, "true or false"),
}


def _checked(name: str, value: Any) -> Any:
    """Check a field's type; return mappings in JSON's own types."""
    if name in _MAPPINGS:
        return _checked_mapping(name, value)
    kind, rule = _TYPES.get(name, (str, "text"))
    if value is None or (isinstance(value, kind) and isinstance(value, bool) == (kind is bool)):
        return value
    raise _wrong_type(name, value, rule)


def _checked_mapping(name: str, value: Any) -> dict[str, Any]:
    try:
        # A copy in JSON's own types: a tuple equals the list that it is read back as.
        plain = json.loads(json.dumps(dict(value), allow_nan=False))
    except (TypeError, ValueError):
        plain = None
    if not isinstance(value, Mapping) or plain is None:
        raise _wrong_type(name, value, "a mapping of values that JSON can hold")
    if name == "prompts" and not all(isinstance(each, str) for each in plain.values()):
        raise _wrong_type(name, value, "a mapping of texts")
    return dict(sorted(plain.items(), key=lambda item: (len(item[0]), item[0])))


def _wrong_type(name: str, value: object, rule: str) -> BenchError:
    got = repr(value)[:200]
    return BenchError(f"{name} in a run's metadata must be {rule}, got {got}. Leave out a field that is not known.")


@dataclass(frozen=True, slots=True)
class FieldDifference:
    """One field in which two identities differ.

    Attributes
    ----------
    field : str
        Its name; for a mapping, with the key: ``generation.temperature``.
    first, second : object
        The two values; None where one does not state it.
    """

    field: str
    first: object
    second: object

    def __str__(self) -> str:
        first, second = ("not stated" if value is None else repr(value) for value in (self.first, self.second))
        pairs = enumerate(zip(first, second, strict=False))
        same = next((place for place, (one, other) in pairs if one != other), min(len(first), len(second)))
        return f"{self.field}: {_shorten(first, same)} and {_shorten(second, same)}"


def _shorten(text: str, same: int) -> str:
    """Shorten a long text to the part in which it differs: after its first `same` characters."""
    if len(text) <= 80:
        return text
    start = 0 if same < 60 else same - 30
    shown = text[start : start + 80]
    return f"{'...' * (start > 0)}{shown}{'...' * (start + 80 < len(text))}"


def differences(a: RunMetadata, b: RunMetadata) -> tuple[FieldDifference, ...]:
    """List the fields in which two identities differ, in the order of the fields.

    Examples
    --------
    >>> a = RunMetadata(split="test", generation={"temperature": 0})
    >>> b = RunMetadata(split="test", generation={"temperature": 1, "seed": 3})
    >>> for each in differences(a, b):
    ...     print(each)
    generation.seed: not stated and 3
    generation.temperature: 0 and 1
    """
    found: list[FieldDifference] = []
    for name in FIELDS:
        first, second = getattr(a, name), getattr(b, name)
        if name in _MAPPINGS:
            keys = sorted(first.keys() | second.keys(), key=lambda key: (len(key), key))
            pairs = [(f"{name}.{key}", first.get(key), second.get(key)) for key in keys]
        else:
            pairs = [(name, first, second)]
        found += [FieldDifference(*pair) for pair in pairs if not _equal(pair[1], pair[2])]
    return tuple(found)


def _equal(first: object, second: object) -> bool:
    return first == second and isinstance(first, bool) == isinstance(second, bool)  # True == 1 in Python only


def check_comparable(a: RunMetadata, b: RunMetadata, allow: Collection[str] = ()) -> tuple[FieldDifference, ...]:
    """Refuse two results that differ in anything but the model.

    Parameters
    ----------
    a, b : RunMetadata
    allow : collection of str
        Fields that may differ as well: a whole mapping (``generation``) or one key of it (``generation.temperature``).

    Returns
    -------
    tuple of FieldDifference
        Those that were allowed, the model's among them: for the report to name.

    Raises
    ------
    BenchError
        Naming each other field with both values; also if ``allow`` names no field.

    Examples
    --------
    >>> check_comparable(RunMetadata(split="test", model="a"), RunMetadata(split="train", model="b"))
    Traceback (most recent call last):
    reasonknee_datasets.errors.BenchError: The two results differ in more than the model: split: 'test' and 'train'. \
Score both in the same way, or name the fields that may differ: allow=('split',) (--allow split).
    """
    if isinstance(allow, str):
        raise BenchError(f"allow must be a list of fields, got {allow!r}. Write allow=({allow!r},).")
    for name in allow:
        if name.partition(".")[0] not in FIELDS:
            raise BenchError(
                f"Results have no field {name!r} that could be allowed to differ. {nearest(name, FIELDS)}."
            )
    found = differences(a, b)
    if None in (a.box_convention, b.box_convention):  # a run without boxes: everything else is compared
        found = tuple(each for each in found if each.field != "box_convention")
    may = {*MODEL, *allow}
    other = [each for each in found if each.field not in may and each.field.partition(".")[0] not in may]
    if other:
        names = tuple(dict.fromkeys(each.field.partition(".")[0] for each in other))
        shown = "; ".join(map(str, other[:10])) + (f"; and {len(other) - 10} more" if len(other) > 10 else "")
        option = " ".join(f"--allow {name}" for name in names)
        raise BenchError(
            f"The two results differ in more than the model: {shown}. Score both in the same way, or name the "
            f"fields that may differ: allow={names!r} ({option})."
        )
    return found
