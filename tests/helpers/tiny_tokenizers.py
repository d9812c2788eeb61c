"""Tokenizers of every usual kind, trained on the spot on the phantom's texts: nothing is downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from tests.helpers.reasoning_rows import rows

# The form of Qwen2.5-VL's own, for texts.
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CONTROL = ["<pad>", "</s>", "<s>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|video_pad|>"]
KINDS = ("qwen", "gpt2", "llama2", "mistral", "unigram", "bert", "words", "loose")


@cache
def texts() -> tuple[str, ...]:
    return tuple(
        "\n".join([row["question"], *row["reasoning"], str(row["box"]), row["answer"]]) for row in rows(volumes=2)
    )


@cache
def tokenizer_json(kind: str) -> str:
    """Train one kind, once, and give its JSON."""
    return _train(kind).to_str()


def make(kind: str) -> Tokenizer:
    """Return a fresh tokenizer of one kind."""
    return Tokenizer.from_str(tokenizer_json(kind))


def wrapped(kind: str = "qwen", **changes: Any) -> PreTrainedTokenizerFast:
    """Return one as transformers has it, with a chat template."""
    given = {"pad_token": "<pad>", "eos_token": "<|im_end|>", "chat_template": CHATML, "bos_token": "<s>"} | changes
    return PreTrainedTokenizerFast(tokenizer_object=make(kind), **given)


def _train(kind: str) -> Tokenizer:
    if kind in ("qwen", "gpt2"):
        return _byte_level(kind)
    if kind in ("llama2", "mistral", "loose"):
        return _like_sentencepiece(kind)
    if kind == "unigram":
        tokenizer = Tokenizer(models.Unigram())
        lines = pre_tokenizers.Split("\n", "isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(prepend_scheme="always"), lines])
        tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
        trainer = trainers.UnigramTrainer(
            vocab_size=600, special_tokens=[*CONTROL, "<unk>"], unk_token="<unk>", show_progress=False
        )
        tokenizer.train_from_iterator(texts()[:40], trainer)
        return tokenizer
    if kind == "bert":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(
            vocab_size=700, special_tokens=[*CONTROL, "[UNK]", "[CLS]", "[SEP]"], show_progress=False
        )
        tokenizer.train_from_iterator(texts(), trainer)
        ends = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
        tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
        return tokenizer
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Digits(True)])
    trainer = trainers.WordLevelTrainer(special_tokens=[*CONTROL, "<unk>"], show_progress=False)
    tokenizer.train_from_iterator(texts(), trainer)
    return tokenizer


def _byte_level(kind: str) -> Tokenizer:
    """Byte-level BPE: Qwen's words and single digits, or GPT-2's with the space before a word in its token."""
    tokenizer = Tokenizer(models.BPE())
    if kind == "qwen":
        tokenizer.normalizer = normalizers.NFC()
        words = pre_tokenizers.Split(Regex(QWEN_WORDS), "isolated")
        bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, bytes_])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(texts(), _bpe(900, initial_alphabet=alphabet))
    return tokenizer


def _like_sentencepiece(kind: str) -> Tokenizer:
    """BPE over whole texts with marked spaces: Llama 2 marks the start of every stretch, Mistral that of the text.

    ``loose`` learned tokens that reach over brackets and numbers, as no official tokenizer does.
    """
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    spaces = pre_tokenizers.Metaspace(prepend_scheme="always")
    lines_apart = pre_tokenizers.Split("\n", "isolated")
    strict = [spaces, pre_tokenizers.Digits(True), pre_tokenizers.Punctuation(), lines_apart]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([spaces, lines_apart] if kind == "loose" else strict)
    hexes = [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer.train_from_iterator(texts(), _bpe(900, special_tokens=[*CONTROL, "<unk>", *hexes]))
    state = tokenizer.to_str()
    tokenizer = Tokenizer.from_str(state)
    if kind == "mistral":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        tokenizer.decoder = decoders.Metaspace(prepend_scheme="first", split=False)
    else:
        tokenizer.pre_tokenizer = None
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
    start = ("<s>", tokenizer.token_to_id("<s>"))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[start])
    return tokenizer


def _bpe(size: int, special_tokens: Sequence[str] = CONTROL, **options: Any) -> trainers.BpeTrainer:
    special = [AddedToken(token, special=True, normalized=False) for token in special_tokens]
    return trainers.BpeTrainer(vocab_size=size, special_tokens=special, show_progress=False, **options)
