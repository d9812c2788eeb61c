"""`NamedTokenizer`: a tokenizer as a value.

A tokenizer is a large object whose state changes as it is used (padding and truncation are settings of the Rust
object, so that ``datasets`` would give a map over it another fingerprint after the first call). What it *does* is all
in its own JSON and a few settings. So a transform keeps a name and a digest of that JSON, of the special tokens, of the
chat template and of the settings for batches (`TokenizerContent`):

* ``repr`` shows name and digest, and `eval` of it gives an equal value wherever the process has met that tokenizer;
* ``==``, ``hash`` and the fingerprint go by the digest: the same tokenizer loaded twice, or from another folder under
  the same name, is the same value, and one with another token, merge, chat template, padding side or maximum is not;
* a pickle carries the JSON itself, so that a worker needs nothing else, not even transformers.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, fields, replace
from pathlib import PurePath
from typing import Any

from reasonknee_datasets.errors import missing_extra, shown
from reasonknee_datasets.transforms.base import TransformError

Specials = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class TokenizerContent:
    """Everything that a tokenizer does: its JSON (with added tokens), special tokens, chat template, settings."""

    json: str  # the tokenizer of the library ``tokenizers``, without the padding and truncation of its last call
    specials: Specials  # special tokens by name: ``pad_token``, ``eos_token``,
    chat_template: str | None
    # Padding is done by the collator. Nothing in this package truncates.
    padding_side: str = "right"
    truncation_side: str = "right"
    pad_to_multiple_of: int | None = None  # batches are padded to a multiple of this length
    model_max_length: int | None = None  # longest input of the model, in tokens; None where the tokenizer states none

    def special(self, name: str) -> str | None:
        """Return ``pad_token``, ``eos_token`` or ``bos_token``, or None."""
        return dict(self.specials).get(name)

    @property
    def digest(self) -> str:
        """A hash of all of it."""
        return hashlib.sha256(json.dumps(astuple(self)).encode()).hexdigest()[:32]


_KNOWN: dict[str, TokenizerContent] = {}

# transformers writes 1e30 for "not stated".
_UNBOUNDED = 10**9


@dataclass(frozen=True, slots=True)
class NamedTokenizer:
    """A tokenizer by name and digest; its content is kept by the process and travels with a pickle.

    Examples
    --------
    >>> from tokenizers import Tokenizer, models
    >>> tokenizer = Tokenizer(models.WordLevel({"<pad>": 0, "tear": 1}, unk_token="<pad>"))
    >>> named = NamedTokenizer.of(tokenizer, pad_token="<pad>")
    >>> eval(repr(named)) == named
    True
    >>> named.content.special("pad_token")
    '<pad>'
    """

    name: str  # for people: the name that it was loaded by
    digest: str  # digest of its content

    @classmethod
    def of(
        cls,
        tokenizer: Any,
        *,
        pad_token: str | None = None,
        eos_token: str | None = None,
        bos_token: str | None = None,
        chat_template: str | None = None,
    ) -> NamedTokenizer:
        """Copy a tokenizer's present content; later changes of the tokenizer do not reach the value.

        Parameters
        ----------
        tokenizer : transformers fast tokenizer, processor that has one, or tokenizers.Tokenizer
            Tokenizer to name.
        pad_token, eos_token, bos_token, chat_template : str, optional
            Replaces the tokenizer's. A ``tokenizers.Tokenizer`` has only a pad token, if padding is enabled.

        Raises
        ------
        TransformError
            If it is not a fast tokenizer, or pads every text to one fixed length.
        """
        given = {"pad_token": pad_token, "eos_token": eos_token, "bos_token": bos_token}
        content = _read(tokenizer, {name: token for name, token in given.items() if token}, chat_template)
        digest = content.digest
        _KNOWN[digest] = content
        # A folder's place differs between machines; its last part is the name.
        name = getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__
        return cls(PurePath(name).name if PurePath(name).is_absolute() else name, digest)

    @property
    def content(self) -> TokenizerContent:
        """Content of the tokenizer.

        Raises TransformError if this process has never met it.
        """
        content = _KNOWN.get(self.digest)
        if content is None:
            raise TransformError(
                f"This process has not loaded the tokenizer {self}. Create a TokenizeReasoning with it before reading "
                "a repr that names it; a pickle needs no such step."
            )
        return content

    def __reduce__(self) -> tuple[Callable[..., NamedTokenizer], tuple[Any, ...]]:
        content = self.content
        # Interned, so that equal values pickle to equal bytes: a pickler writes an object that it has met in short.
        specials = tuple((sys.intern(name), sys.intern(token)) for name, token in content.specials)
        sides: dict[str, Any] = {
            name: sys.intern(getattr(content, name)) for name in ("padding_side", "truncation_side")
        }
        interned = replace(content, specials=specials, **sides)
        return _restore, (sys.intern(self.name), *(getattr(interned, field.name) for field in fields(TokenizerContent)))


def _restore(name: str, *values: Any) -> NamedTokenizer:
    content = TokenizerContent(*values)
    digest = content.digest
    _KNOWN.setdefault(digest, content)
    return NamedTokenizer(name, digest)


def get_tokenizer(tokenizer: Any) -> NamedTokenizer:
    """Take a tokenizer by its value, or name it."""
    return tokenizer if isinstance(tokenizer, NamedTokenizer) else NamedTokenizer.of(tokenizer)


def import_tokenizers() -> Any:
    """Import the library, or raise the error that names its extra."""
    try:
        import tokenizers
    except ImportError as error:
        raise missing_extra("tokenizers", "text", "TokenizeReasoning") from error
    return tokenizers


def _read(tokenizer: Any, given: Mapping[str, str], chat_template: str | None) -> TokenizerContent:
    library = import_tokenizers()
    inner = getattr(tokenizer, "tokenizer", tokenizer)  # of a processor
    backend = inner if isinstance(inner, library.Tokenizer) else getattr(inner, "backend_tokenizer", None)
    if not isinstance(backend, library.Tokenizer):
        raise TransformError(
            f"tokenizer must be a fast tokenizer of transformers or a tokenizers.Tokenizer, not {shown(tokenizer)}. "
            "Load it with AutoTokenizer.from_pretrained(name), which returns the fast one where there is one."
        )
    text, padding, truncation = backend.to_str(), backend.padding, backend.truncation
    if padding or truncation:  # of transformers the state of the last call; of tokenizers kept as settings below
        bare = library.Tokenizer.from_str(text)
        bare.no_padding()
        bare.no_truncation()
        text = bare.to_str()
    specials: dict[str, str] = {"pad_token": padding["pad_token"]} if padding and inner is backend else {}
    if inner is not backend:
        specials = {name: str(token) for name, token in inner.special_tokens_map.items() if not isinstance(token, list)}
    template = chat_template or getattr(tokenizer, "chat_template", None) or getattr(inner, "chat_template", None)
    if isinstance(template, Mapping):
        template = template.get("default")
    known = tuple(sorted({**specials, **given}.items()))
    if inner is backend:
        return TokenizerContent(text, known, template, **_settings_of_last_call(padding or {}, truncation or {}))
    longest = getattr(inner, "model_max_length", None)
    return TokenizerContent(
        text,
        known,
        template,
        padding_side=str(inner.padding_side),
        truncation_side=str(inner.truncation_side),
        # Read from the JSON of a tokenizer that was saved with padding enabled; a call may still say otherwise.
        pad_to_multiple_of=getattr(inner, "init_kwargs", {}).get("pad_to_multiple_of"),
        model_max_length=None if longest is None or longest > _UNBOUNDED else int(longest),
    )


def _settings_of_last_call(padding: Mapping[str, Any], truncation: Mapping[str, Any]) -> dict[str, Any]:
    if padding.get("length"):
        raise TransformError(
            f"The tokenizer pads every text to {padding['length']} tokens, but the collator pads batches. Call "
            f"tokenizer.enable_padding without length=, and use QuintupleCollator(buckets=({padding['length']},))."
        )
    return {
        "padding_side": padding.get("direction", "right"),
        "truncation_side": truncation.get("direction", "right"),
        "pad_to_multiple_of": padding.get("pad_to_multiple_of"),
        "model_max_length": truncation.get("max_length"),
    }
