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

    Not a Qwen2.5-VL (see `make_tiny_qwen`): its processor takes torchvision, which a server would have to be given.
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


_QWEN = """{% for message in messages %}<|im_start|>{{ message.role }}
{% for block in message.content %}{% if block.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>\
{% elif block.type == 'video' %}<|vision_start|><|video_pad|><|vision_end|>\
{% else %}{{ block.text }}{% endif %}{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def make_tiny_qwen(pixels: int) -> tuple[Any, Any]:
    """Make a tiny Qwen2.5-VL and its processor, for frames of so many pixels; it takes torchvision."""
    import torch
    import transformers

    names = ("endoftext", "im_start", "im_end", "vision_start", "vision_end", "image_pad", "video_pad")
    tokenizer = transformers.Qwen2Tokenizer(eos_token="<|im_end|>").train_new_from_iterator(
        ["Is there a lesion in this knee?"] * 4,
        400,
        new_special_tokens=[f"<|{name}|>" for name in names],
        show_progress=False,
    )
    ids = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in names}
    size = {"min_pixels": pixels, "max_pixels": pixels}
    processor = transformers.Qwen2_5_VLProcessor(
        transformers.Qwen2VLImageProcessor(**size),
        tokenizer,
        transformers.Qwen2VLVideoProcessor(**size, cap_pixels_per_frame=False),
        chat_template=_QWEN,
    )
    ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = transformers.Qwen2_5_VLConfig(
        text_config={
            **ends,
            "hidden_size": 64,
            "intermediate_size": 128,
            "vocab_size": len(tokenizer),
            "num_hidden_layers": 1,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]},
        },
        vision_config={
            "depth": 1,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 64,
            "fullatt_block_indexes": [0],
            "tokens_per_second": 2,
        },
        image_token_id=ids["image_pad"],
        video_token_id=ids["video_pad"],
        vision_start_token_id=ids["vision_start"],
        vision_end_token_id=ids["vision_end"],
    )
    torch.manual_seed(0)
    return transformers.Qwen2_5_VLForConditionalGeneration(config), processor
