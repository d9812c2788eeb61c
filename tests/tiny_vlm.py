"""A vision-language model of 42,000 random weights, with a tokenizer trained on the spot, as a folder to load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SPECIAL = ("<pad>", "<s>", "</s>", "<image>", "<|im_start|>", "<|im_end|>")

_CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for block in message['content'] %}"
    "{% if block['type'] == 'image' %}<image>{% elif block['type'] == 'text' %}{{ block['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=list(SPECIAL),
        show_progress=False,
    )
    tokenizer.train_from_iterator(['{"MOAKS_scores": {"grade": 1}}', "Is there a lesion in this knee?"] * 4, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="<|im_end|>",
        extra_special_tokens={"image_token": "<image>"},
    )


def write_tiny_vlm(folder: Path) -> Path:
    """Write a tiny LLaVA (a CLIP eye, a Llama mouth) with its processor.

    Not a Qwen2.5-VL: loading that processor takes torchvision, for videos, which the tested torch has no partner for.
    """
    import torch
    import transformers

    tokenizer = _tokenizer()
    # The one without torchvision bears this name since transformers 5.
    pictures = getattr(transformers, "CLIPImageProcessorPil", None) or transformers.CLIPImageProcessor
    processor = transformers.LlavaProcessor(
        image_processor=pictures(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        chat_template=_CHAT,
        num_additional_image_tokens=1,
    )
    eye = transformers.CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        projection_dim=16,
    )
    mouth = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=32768,
        bos_token_id=SPECIAL.index("<s>"),
        eos_token_id=SPECIAL.index("<|im_end|>"),
        pad_token_id=SPECIAL.index("<pad>"),
    )
    torch.manual_seed(0)
    model = transformers.LlavaForConditionalGeneration(
        transformers.LlavaConfig(
            vision_config=eye,
            text_config=mouth,
            image_token_index=SPECIAL.index("<image>"),
            vision_feature_layer=-1,
            vision_feature_select_strategy="default",
        )
    )
    model.generation_config.eos_token_id = SPECIAL.index("<|im_end|>")
    model.generation_config.pad_token_id = SPECIAL.index("<pad>")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
