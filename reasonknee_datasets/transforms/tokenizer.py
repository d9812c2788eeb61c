"""`NamedTokenizer`: a tokenizer as a value.

A tokenizer is a large object whose state changes as it is used (padding and truncation are settings of the Rust
object, so that ``datasets`` would give a map over it another fingerprint after the first call). What it *does* is all
in its own JSON. So a transform holds a name and a digest of that JSON, of the special tokens and of the chat template:

* ``repr`` shows name and digest, and `eval` of it gives an equal value wherever the process has met that tokenizer;
* ``==``, ``hash`` and the fingerprint go by the digest: the same tokenizer loaded twice, or from another folder under
  the same name, is the same value, and one with another token, merge or chat template is not;
* a pickle carries the JSON itself, so that a worker needs nothing else, not even transformers.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from reasonknee_datasets.errors import explain, missing_extra
from reasonknee_datasets.transforms.base import TransformError

Specials = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Content:
    """All that a tokenizer does: its JSON, its special tokens by name, and its chat template."""

    json: str
    specials: Specials
    chat_template: str | None

    def special(self, name: str) -> str | None:
        """Give ``pad_token``, ``eos_token`` or ``bos_token``, or None."""
        return dict(self.specials).get(name)

    @property
    def digest(self) -> str:
        """A hash of all of it."""
        text = json.dumps([self.json, self.specials, self.chat_template])
        return hashlib.sha256(text.encode()).hexdigest()[:32]


_KNOWN: dict[str, Content] = {}


@dataclass(frozen=True, slots=True)
class NamedTokenizer:
    """A tokenizer by name and digest; its content is kept by the process and travels with a pickle.

    Parameters
    ----------
    name : str
        For people: the name that it was loaded by.
    digest : str
        Of its content.

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

    name: str
    digest: str

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
        """Take a tokenizer as it is now; what is done to it later does not reach the value.

        Parameters
        ----------
        tokenizer : transformers fast tokenizer, processor that has one, or tokenizers.Tokenizer
            What to name.
        pad_token, eos_token, bos_token, chat_template : str, optional
            Instead of its own. A ``tokenizers.Tokenizer`` knows of none but a pad token, if padding is enabled.

        Raises
        ------
        TransformError
            If it is no fast tokenizer.
        """
        given = {"pad_token": pad_token, "eos_token": eos_token, "bos_token": bos_token}
        content = _read(tokenizer, {name: token for name, token in given.items() if token}, chat_template)
        digest = content.digest
        _KNOWN[digest] = content
        # A folder's place differs between machines; its last part is the name.
        name = getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__
        return cls(PurePath(name).name if PurePath(name).is_absolute() else name, digest)

    @property
    def content(self) -> Content:
        """What it does.

        Raises
        ------
        TransformError
            If this process has never met it.
        """
        content = _KNOWN.get(self.digest)
        if content is None:
            remedy = "Load it, give it to NamedTokenizer.of, and then read the repr; a pickle needs nothing before it"
            raise TransformError(explain("tokenizer", "be known to this process", f"{self}", remedy))
        return content

    def __reduce__(self) -> tuple[Callable[..., NamedTokenizer], tuple[Any, ...]]:
        content = self.content
        # Interned, so that equal values pickle to equal bytes: a pickler writes an object that it has met in short.
        specials = tuple((sys.intern(name), sys.intern(token)) for name, token in content.specials)
        return _restore, (sys.intern(self.name), content.json, specials, content.chat_template)


def _restore(name: str, text: str, specials: Specials, chat_template: str | None) -> NamedTokenizer:
    content = Content(text, specials, chat_template)
    digest = content.digest
    _KNOWN.setdefault(digest, content)
    return NamedTokenizer(name, digest)


def get_tokenizer(tokenizer: Any) -> NamedTokenizer:
    """Take a tokenizer by its value, or name it."""
    return tokenizer if isinstance(tokenizer, NamedTokenizer) else NamedTokenizer.of(tokenizer)


def import_tokenizers() -> Any:
    """Import the library, or say which extra brings it."""
    try:
        import tokenizers
    except ImportError as error:
        raise missing_extra("tokenizers", "text", "TokenizeReasoning") from error
    return tokenizers


def _read(tokenizer: Any, given: Mapping[str, str], chat_template: str | None) -> Content:
    library = import_tokenizers()
    inner = getattr(tokenizer, "tokenizer", tokenizer)  # of a processor
    backend = inner if isinstance(inner, library.Tokenizer) else getattr(inner, "backend_tokenizer", None)
    if not isinstance(backend, library.Tokenizer):
        remedy = (
            "Load it with AutoTokenizer.from_pretrained(name), which gives the fast one where there is one, or wrap a "
            "tokenizers.Tokenizer in PreTrainedTokenizerFast"
        )
        rule = "be a fast tokenizer of transformers, or a tokenizers.Tokenizer"
        raise TransformError(explain("tokenizer", rule, type(tokenizer).__name__, remedy))
    text, padding = backend.to_str(), backend.padding
    if padding or backend.truncation:  # the state of the last call, and no part of what it does
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
    return Content(text, tuple(sorted({**specials, **given}.items())), template)
