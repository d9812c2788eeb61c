"""`TokenizeReasoning`: convert question, reasoning, box and answer to tokens, with the span of each of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from typing import Any

from reasonknee_datasets.errors import check_type
from reasonknee_datasets.transforms.base import Example, Transform, TransformError
from reasonknee_datasets.transforms.fields import as_convention, box_numbers, check_box_key, official_numbers
from reasonknee_datasets.transforms.piece_cache import TextEncoder, TokenCacheInfo, get_encoder
from reasonknee_datasets.transforms.regrid import set_numbers
from reasonknee_datasets.transforms.template_encoder import Filled, Step, Writers, compile_items, control_ids
from reasonknee_datasets.transforms.template_layout import Layout, lay_out_template
from reasonknee_datasets.transforms.templates import Template, Vision, get_template
from reasonknee_datasets.transforms.tokenizer import get_tokenizer

IGNORED = -100  # the label of a token that the loss leaves out


@dataclass(frozen=True, slots=True)
class TokenizeReasoning(Transform):
    """Tokenize an example: the prompt, which the loss ignores, and the answer that the model should write.

    Adds ``input_ids``, ``attention_mask`` and ``labels`` (-100 over the prompt), and spans of tokens, each a first
    token and one past the last: ``reasoning_spans`` (one a step), ``box_span`` and ``grade_spans`` (one a slot of the
    question, in their order); [-1, -1] for a box that the template does not write. A token that reaches over an edge
    belongs to both sides. With ``for_generation`` there is the prompt alone, and of an example nothing is read but what
    the prompt names.

    **Nothing is ever cut**, neither the answer nor placeholders nor reasoning: what does not fit into ``max_length``,
    or into the maximum that the tokenizer states for its model, is an error with the numbers.

    **Control tokens inside a text are read as text**, be it a question, a step or an answer: the template alone places
    them. Words that were added to the tokenizer and are not special stay words.

    **No text is tokenized twice** while it is remembered, and the tokens are those of the whole text (`encoder` says
    how). Prompt and completion always part where they do, so that a model is trained on the prompt that it will get.

    Parameters
    ----------
    tokenizer : fast tokenizer or processor of transformers, or tokenizers.Tokenizer
        It is copied: later changes do not reach the transform. It needs a pad token, for batches. A
        ``tokenizers.Tokenizer`` has no other special tokens and no chat template; wrap it in
        ``transformers.PreTrainedTokenizerFast(tokenizer_object=..., pad_token=..., eos_token=...)`` to name them.
    template : Template or str
        A name in `TEMPLATES`, or your own.
    max_length : int, optional
        Tokens at most. By default the tokenizer's ``model_max_length``, where it states one.
    box : {"box", "box_volume", "frame_box"}, optional
        Which box ``{box}`` writes: in the current grid, in the stored volume, or in the frames of `ToFrames`. By
        default the one in what the model sees: ``frame_box`` where the example has frames, else ``box``. For a target
        without a box choose ``template="chat_without_box"`` or ``"plain_without_box"``.
    box_convention : BoxConvention or str
        How its six numbers are written; by default as the row has them, half-open in array order. An official answer
        with a box has the stored volume's box: pass the release's convention, from the manifest.
    vision : Vision, optional
        The placeholders that replace ``{vision}``.
    for_generation : bool
        Whether to hold the prompt alone. Batches of prompts are padded on the left, whatever the tokenizer's side, so
        that generation continues from the last token of each.

    Raises
    ------
    TransformError
        If the tokenizer is slow, has no pad token or no chat template where one is needed, if the template names an
        unknown field, if ``vision`` is not a special token of the tokenizer, and, for an example, if it does not fit.

    Examples
    --------
    >>> from tokenizers import Tokenizer, models, pre_tokenizers
    >>> from transformers import PreTrainedTokenizerFast
    >>> words = ["<pad>", "</s>", "Any", "tear", "?", "Look", "No", "0", '{"', '":', "}", "presence", "[", "]", ","]
    >>> tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="<pad>"))
    >>> tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    >>> _ = tokenizer.add_special_tokens(["</s>"])
    >>> fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>")
    >>> tokenize = TokenizeReasoning(fast, Template("{question} ", "{reasoning} {answer}{eos}", separator=" "))
    >>> example = {
    ...     "id": "9016403/00M/right/q63", "question_id": 63, "question": "Any tear?",
    ...     "reasoning": ["Look", "No tear"], "answer": '{"presence": 0}',
    ... }
    >>> tokens = tokenize(example)
    >>> tokens["input_ids"]
    [2, 3, 4, 5, 6, 3, 8, 11, 9, 7, 10, 1]
    >>> tokens["labels"]
    [-100, -100, -100, 5, 6, 3, 8, 11, 9, 7, 10, 1]
    >>> tokens["reasoning_spans"], tokens["grade_spans"], tokens["box_span"]
    ([[3, 4], [4, 6]], [[9, 10]], [-1, -1])
    """

    tokenizer: Any
    template: Template | str = "chat"
    _: KW_ONLY
    max_length: int | None = None
    box: str | None = None
    box_convention: str = "slice0-x1-y2-corners-exclusive-voxel"
    vision: Vision | None = None
    for_generation: bool = False
    _layout: Layout | None = field(default=None, repr=False, compare=False, kw_only=True)
    _steps: tuple[list[Step], list[Step]] | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokenizer", get_tokenizer(self.tokenizer))
        object.__setattr__(self, "box_convention", str(as_convention(self.box_convention)))
        check_box_key(self.box)
        check_type("for_generation", self.for_generation, bool, "True or False")
        check_type("vision", self.vision, Vision | None, 'a Vision, such as Vision("<|video_pad|>", 64), or None')
        template = get_template(self.template)
        set_numbers(self, "max_length", kind=int, least=1)
        if self.vision is not None and "vision" not in template.fields:
            raise TransformError(
                "vision= needs a template with {vision}, and this one has none. Write {vision} where the pictures "
                "belong, or leave vision= out."
            )
        if self._layout is None:
            encoder = get_encoder(self.tokenizer)
            layout = lay_out_template(template, self.tokenizer.content, encoder, pictures=self.vision is not None)
            object.__setattr__(self, "_layout", layout)
            self._check_tokens(encoder)

    @property
    def pad_token_id(self) -> int:
        """The number of the pad token, for a collator."""
        number = get_encoder(self.tokenizer).token_id(self.tokenizer.content.special("pad_token"))
        if number is None:
            raise TransformError(
                "The tokenizer has no pad token, which batches need. Set tokenizer.pad_token = tokenizer.eos_token, or "
                "for a tokenizers.Tokenizer call enable_padding(pad_token=...)."
            )
        return number

    @property
    def padding_side(self) -> str:
        """Side that a collator pads: the tokenizer's own for training, left for generation."""
        return "left" if self.for_generation else self.tokenizer.content.padding_side

    @property
    def pad_to_multiple_of(self) -> int | None:
        """A collator pads to multiples of this length, as the tokenizer states it."""
        multiple: int | None = self.tokenizer.content.pad_to_multiple_of
        return multiple

    def cache_info(self) -> TokenCacheInfo:
        """Return how many texts this process tokenized with this tokenizer, and how many tokens are cached."""
        return get_encoder(self.tokenizer).info()

    def apply(self, example: Example, params: None = None) -> dict[str, Any]:
        """Write an example as tokens."""
        prompt, completion = self._steps or self._compile()
        filled = Filled()
        for step in prompt:
            step(filled, example)
        start = len(filled.ids)
        if not self.for_generation:
            for step in completion:
                step(filled, example)
        ids = filled.ids
        longest = self.max_length or self.tokenizer.content.model_max_length
        if longest is not None and len(ids) > longest:
            raise self._too_long(filled, start, longest)
        changes: dict[str, Any] = {"input_ids": ids, "attention_mask": [1] * len(ids)}
        if not self.for_generation:
            changes["labels"] = [IGNORED] * start + ids[start:]
            changes["reasoning_spans"] = filled.steps
            changes["grade_spans"] = filled.grades
            changes["box_span"] = filled.box
        return changes

    def added_features(self, features: Mapping[str, Any]) -> dict[str, Any]:
        """Return the feature types of tokens, labels and spans."""
        from datasets import List, Value  # at use: importing datasets takes a second

        del features
        tokens, span = List(Value("int32")), List(Value("int32"), length=2)
        added = {"input_ids": tokens, "attention_mask": List(Value("int8"))}
        if not self.for_generation:
            added |= {"labels": tokens, "reasoning_spans": List(span), "grade_spans": List(span), "box_span": span}
        return added

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Pickle with the layout, so that a worker renders no chat template and imports no transformers."""
        # A slotted dataclass is created again, and super() without arguments would name the class before.
        _, (_, settings) = super(TokenizeReasoning, self).__reduce__()
        return _restore, (tuple(pair for pair in settings if not pair[0].startswith("_")), self._layout)

    def _check_tokens(self, encoder: TextEncoder) -> None:
        assert self.pad_token_id >= 0
        if self.vision is not None:
            for text in (self.vision.start, self.vision.token, self.vision.stop):
                control_ids(text, encoder)

    def _compile(self) -> tuple[list[Step], list[Step]]:
        assert self._layout is not None
        encoder, convention = get_encoder(self.tokenizer), as_convention(self.box_convention)
        writers: Writers = {
            "box": box_numbers(self.box, convention),
            "official_answer": partial(official_numbers, convention=convention),
        }
        prefix = encoder.prefix if self._layout.prefixed else ()
        prompt = compile_items(self._layout.prompt, encoder, self.vision, writers, prefix)
        completion = compile_items(self._layout.completion, encoder, self.vision, writers)
        object.__setattr__(self, "_steps", (prompt, completion))
        return prompt, completion

    def _too_long(self, filled: Filled, start: int, longest: int) -> TransformError:
        ids = filled.ids
        pictures = f" ({filled.pictures} of them placeholders)" if filled.pictures else ""
        name = "max_length" if self.max_length else "the tokenizer's model_max_length"
        return TransformError(
            f"The example has {len(ids)} tokens ({start} of the prompt{pictures}, {len(ids) - start} of the answer), "
            f"more than {name}={longest}. Nothing is ever cut: set max_length={len(ids)} if the model allows it, "
            "use fewer frames or a shorter template, or filter out long rows."
        )


def _restore(settings: tuple[tuple[str, Any], ...], layout: Layout) -> TokenizeReasoning:
    return TokenizeReasoning(**dict(settings), _layout=layout)
