"""ToConversation against the code that reads its rows: transformers' processors and templates, and datasets."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("transformers", reason="needs the extra `text`")
pytest.importorskip("PIL", reason="needs the extra `text`")

from datasets import Dataset
from datasets.fingerprint import Hasher
from PIL import Image

from reasonknee_datasets.boxes import Box, BoxConvention
from reasonknee_datasets.release import rebuild_record
from reasonknee_datasets.transforms import (
    FRAME_RECIPES,
    Compose,
    CropToBox,
    Template,
    ToConversation,
    ToFrames,
    TokenizeReasoning,
    TransformError,
    Vision,
)
from tests.helpers.reasoning_rows import CONVENTION, SHAPE, rows
from tests.helpers.tiny_tokenizers import wrapped

FRAMES = (np.arange(7)[:, None, None] * 30 + np.zeros((7, 56, 84))).astype(np.uint8)
FRAME_BOX = [1, 10, 20, 3, 30, 50]
ROWS = [row | {"frames": FRAMES, "frame_fps": 4.0, "frame_box": FRAME_BOX} for row in rows(2)[:70]]
STYLES = ("trl", "trl_messages", "llama_factory", "ms_swift")

# The form of Qwen2.5-VL's own.
BLOCKS = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}"
    "{{ message['content'] }}{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' or 'image' in content or 'image_url' in content %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% elif content['type'] == 'video' or 'video' in content %}"
    "<|vision_start|><|video_pad|><|vision_end|>{% elif 'text' in content %}{{ content['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def to(style: str = "trl", **changes: Any) -> ToConversation:
    return ToConversation(style, **{"box_convention": CONVENTION, **changes})


def batch_of(examples: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {key: [example[key] for example in examples] for key in examples[0]}


def messages_of(row: dict[str, Any]) -> list[dict[str, Any]]:
    return row["messages"] if "messages" in row else row["prompt"] + row.get("completion", [])  # type: ignore[no-any-return]


def said(message: dict[str, Any]) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(block.get("text") or "" for block in content)


class TestRow:
    @pytest.mark.parametrize("style", STYLES)
    @pytest.mark.parametrize("media", ["video", "images", "none"])
    def test_says_the_same_in_every_style(self, style: str, media: str) -> None:
        row = to(style, media=media)(ROWS[0])
        question, answer = messages_of(row)
        box = CONVENTION.encode(Box.from_row(ROWS[0]["box"] if media == "none" else FRAME_BOX), SHAPE)
        steps = "\n".join(ROWS[0]["reasoning"])
        assert (question["role"], answer["role"]) == ("user", "assistant")
        assert said(question).removeprefix("<video>").replace("<image>", "") == ROWS[0]["question"]
        assert said(answer) == f"{steps}\n\nBounding box: {box}\n\nFinal diagnosis: {ROWS[0]['answer']}"
        assert row["ids"] == [ROWS[0]["id"]]
        expected = {"video": {"videos", "video_metadata"}, "images": {"images"}, "none": set()}[media]
        spoken = {"prompt", "completion"} if style == "trl" else {"messages"}
        assert set(row) == {"ids"} | spoken | expected

    @pytest.mark.parametrize("style", STYLES)
    @pytest.mark.parametrize("media", ["video", "images"])
    def test_row_has_placeholder_for_each_frame(self, style: str, media: str) -> None:
        row = to(style, media=media)(ROWS[0])
        question = messages_of(row)[0]["content"]
        tag = "video" if media == "video" else "image"
        number = 1 if media == "video" else len(FRAMES)
        if style.startswith("trl"):
            assert [block["type"] for block in question] == [tag] * number + ["text"]
            assert not any({"image", "video"} & set(block) for block in question)
        else:
            assert question.startswith(f"<{tag}>" * number)
            assert question.count("<") == ROWS[0]["question"].count("<") + number
        pictures = row["videos"][0] if media == "video" else row["images"]
        assert [picture.mode for picture in pictures] == ["RGB"] * len(FRAMES)
        assert np.array_equal(np.stack([np.asarray(picture)[..., 0] for picture in pictures]), FRAMES)

    def test_metadata_tells_when_each_frame_was(self) -> None:
        from transformers.video_utils import VideoMetadata, make_batched_metadata

        row = to()(ROWS[0])
        metadata = VideoMetadata(**row["video_metadata"][0])
        assert metadata.sampled_fps == 4.0
        assert metadata.timestamps == [place / 4 for place in range(7)]
        frames = [np.stack([np.asarray(picture) for picture in row["videos"][0]])]
        assumed = make_batched_metadata(frames, None)[0]
        assert assumed.sampled_fps == 24  # what a processor takes without it
        assert (assumed.total_num_frames, assumed.height, assumed.width) == (7, metadata.height, metadata.width)
        assert metadata.duration == 7 / 4

    def test_holds_the_official_answer(self) -> None:
        for row in rows(1, seed=1, with_box=True)[:9]:
            answer = rebuild_record(row, image="", convention=CONVENTION, shape=SHAPE)["answer"]  # type: ignore[arg-type]
            template = Template("{question}", "{official_answer}")
            assert said(messages_of(to(media="none", template=template)(row))[1]) == answer

    def test_leaves_the_example_alone(self) -> None:
        before = pickle.dumps(ROWS[0])
        to()(ROWS[0])
        to("ms_swift", turns=3)(batch_of(ROWS))
        assert pickle.dumps(ROWS[0]) == before

    @pytest.mark.parametrize("style", STYLES)
    def test_for_generation_holds_the_prompt_alone(self, style: str) -> None:
        ask = to(style, for_generation=True)
        row = ask(ROWS[0])
        assert [message["role"] for message in messages_of(row)] == ["user"]
        assert "completion" not in row
        bare = {key: ROWS[0][key] for key in ("id", "question", "frames", "frame_fps")}
        assert messages_of(ask(bare)) == messages_of(row) == messages_of(to(style)(ROWS[0]))[:1]

    def test_begins_with_the_system_message(self) -> None:
        template = Template("{question}", "{answer}", system="You look at a {side} knee.", chat=True)
        messages = to("llama_factory", template=template)(ROWS[0])["messages"]
        assert messages[0] == {"role": "system", "content": "You look at a right knee."}
        assert messages[1]["content"].startswith("<video>")


class TestBox:
    @pytest.mark.parametrize("style", STYLES)
    @pytest.mark.parametrize("media", ["video", "images", "none"])
    def test_is_written_in_what_the_model_sees(self, style: str, media: str) -> None:
        volume = nib.Nifti1Image(np.zeros(SHAPE, np.int16), np.diag([0.7, 0.4, 0.4, 1.0]))
        cropped = CropToBox(margin_mm=10)(rows(1)[0] | {"volume": volume})
        frames = ToFrames("sagittal", count=8, size=(56, 84))
        shown = frames(cropped)
        key = "box" if media == "none" else "frame_box"
        assert shown["frame_box"] != shown["box"] != shown["box_volume"]
        template = Template("{question}", "{box}")
        for make, example in (
            (to(style, media=media, template=template), shown),
            (to(style, media=media, template=template, frames=frames), cropped),
        ):
            assert said(messages_of(make(example))[1]) == str(CONVENTION.encode(Box.from_row(shown[key]), SHAPE))
        chosen = to(style, media=media, template=template, box="box_volume")(shown)
        assert said(messages_of(chosen)[1]) == str(CONVENTION.encode(Box.from_row(rows(1)[0]["box"]), SHAPE))

    def test_of_unknown_frames_is_refused(self) -> None:
        unknown = {key: value for key, value in ROWS[0].items() if key != "frame_box"}
        with pytest.raises(TransformError, match=r"has frames but no frame_box"):
            to()(unknown)
        assert to(template="chat_without_box")(unknown)

    def test_may_be_left_out_of_the_target(self) -> None:
        volume = nib.Nifti1Image(np.zeros(SHAPE, np.int16), np.eye(4))
        row = {key: value for key, value in rows(1)[0].items() if key != "box"} | {"volume": volume}
        made = to(template="chat_without_box", frames=4)(row)
        steps = "\n".join(row["reasoning"])
        assert said(made["completion"][0]) == f"{steps}\n\nFinal diagnosis: {row['answer']}"


class TestFrames:
    @pytest.mark.parametrize("count", [16, np.int64(16)])
    def test_may_be_a_number(self, count: Any) -> None:
        volume = nib.Nifti1Image(np.zeros(SHAPE, np.int16), np.eye(4))
        made = to(frames=count)
        assert made == to(frames=ToFrames("sagittal", count=16))
        row = made(rows(1)[0] | {"volume": volume})
        assert len(row["videos"][0]) == row["video_metadata"][0]["total_num_frames"] == 16

    @pytest.mark.parametrize(
        ("frames", "message"),
        [
            ("16", r"not '16' \(str\)"),
            (16.0, r"not 16.0 \(float\)"),
            (True, r"not True \(bool\)"),
            (ToFrames, "not the class ToFrames"),
            (FRAMES, "not a value of type ndarray"),
        ],
    )
    def test_of_another_type_are_refused_at_once(self, frames: Any, message: str) -> None:
        with pytest.raises(TransformError, match=f"frames must be a ToFrames, a number of frames or None, {message}"):
            to(frames=frames)


class TestTrl:
    @pytest.mark.slow
    @pytest.mark.parametrize("without_box", [False, True])
    def test_takes_the_loss_over_the_answer_alone(self, tmp_path: Path, without_box: bool) -> None:
        pytest.importorskip("trl", reason="needs the extra `train`")
        from transformers import LlamaConfig, LlamaForCausalLM
        from trl import SFTConfig, SFTTrainer

        tokenizer = wrapped(chat_template=BLOCKS)
        sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes))
        make = to(media="none", template="chat_without_box" if without_box else "chat")
        made = [make(row) for row in ROWS[:4]]
        config = SFTConfig(
            str(tmp_path), report_to="none", use_cpu=True, per_device_train_batch_size=4, **make.settings(made[0])
        )
        trainer = SFTTrainer(model, config, train_dataset=Dataset.from_list(made), processing_class=tokenizer)
        batch = next(iter(trainer.get_train_dataloader()))
        learned = {tokenizer.decode(row[row >= 0]).replace("<|im_end|>", "").strip() for row in batch["labels"]}
        assert learned == {said(row["completion"][0]) for row in made}


class TestTurns:
    @pytest.mark.parametrize("style", ["trl_messages", "llama_factory", "ms_swift"])
    def test_share_one_conversation_and_its_pictures(self, style: str) -> None:
        made = to(style, turns=25)(batch_of(ROWS))
        assert [len(ids) for ids in made["ids"]] == [25, 25, 12, 8]  # 62 rows of a volume, then 8 of the next
        assert [one for ids in made["ids"] for one in ids] == [row["id"] for row in ROWS]
        alone = [to(style)(row) for row in ROWS]
        place = 0
        for messages, videos in zip(made["messages"], made["videos"], strict=True):
            assert len(videos) == 1
            for turn in range(0, len(messages), 2):
                question, answer = messages[turn : turn + 2]
                assert said(answer) == said(alone[place]["messages"][1])
                assert said(question).removeprefix("<video>") == ROWS[place]["question"]
                shown = "<video>" in said(question) or (style == "trl_messages" and len(question["content"]) > 1)
                assert shown is (turn == 0)
                place += 1

    def test_frames_are_made_once_a_conversation(self, monkeypatch: pytest.MonkeyPatch) -> None:
        volume = nib.Nifti1Image(np.arange(20 * 30 * 40, dtype=np.int16).reshape(20, 30, 40), np.eye(4))
        examples = [row | {"volume": volume, "box": [2, 3, 4, 9, 11, 12]} for row in rows(1)[:10]]
        made: list[str] = []
        apply = ToFrames.apply
        monkeypatch.setattr(ToFrames, "apply", lambda self, one, *rest: made.append(one["id"]) or apply(self, one))
        frames = ToFrames("sagittal", count=6, size=(28, 56))
        name = "slice0-x2-y1-corners-exclusive-voxel"
        template = Template("{question}", "{box}")
        together = to("trl_messages", turns=5, frames=frames, box_convention=name, template=template)(
            batch_of(examples)
        )
        assert made == [examples[0]["id"], examples[5]["id"]]
        alone = frames(examples[0])
        written = str(BoxConvention.parse(name).encode(Box.from_row(alone["frame_box"]), (6, 28, 56)))
        assert {said(message) for messages in together["messages"] for message in messages[1::2]} == {written}
        assert np.array_equal(np.asarray(together["videos"][0][0][3])[..., 1], alone["frames"][3])
        separate = Compose([frames, to("trl_messages", box_convention=name, template=template)])(examples[0])
        assert said(separate["messages"][1]) == written

    def test_do_not_go_with_crops(self) -> None:
        volume = nib.Nifti1Image(np.zeros((60, 70, 80), np.uint8), np.eye(4))
        boxes = [[2, 3, 4, 9, 11, 12], [20, 30, 40, 33, 41, 52]]
        cropped = [CropToBox()(row | {"volume": volume, "box": box}) for row, box in zip(rows(1), boxes, strict=False)]
        with pytest.raises(TransformError, match=r"are about different regions.*Leave CropToBox out") as caught:
            to("trl_messages", turns=2, media="none")(batch_of(cropped))
        assert caught.value.__notes__ == [f"while ToConversation transformed {ROWS[0]['id']}"]
        assert len(to(media="none")(batch_of(cropped))["ids"]) == 2

    @pytest.mark.parametrize("changes", [{"style": "trl"}, {"for_generation": True}])
    def test_turns_refuse_answers_in_the_prompt(self, changes: dict[str, Any]) -> None:
        with pytest.raises(TransformError, match="takes one question a row, not turns=2"):
            to(**{"style": "trl_messages", "turns": 2, **changes})


class TestProcessors:
    def test_trl_renders_what_tokenize_reasoning_writes(self) -> None:
        tokenizer = wrapped(chat_template=BLOCKS)
        vision = Vision("<|video_pad|>", start="<|vision_start|>", stop="<|vision_end|>")
        tokenize = TokenizeReasoning(tokenizer, box_convention=CONVENTION, vision=vision)
        for row in ROWS[:20]:
            ids = tokenizer.apply_chat_template(to("trl_messages")(row)["messages"], return_dict=False)
            assert ids == tokenize(row)["input_ids"]
            prompt = to("trl")(row)["prompt"]
            ids = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False)
            assert ids == replace(tokenize, for_generation=True)(row)["input_ids"]

    @pytest.mark.slow
    def test_pictures_pass_an_image_processor(self) -> None:
        pytest.importorskip("torch", reason="needs the extra `torch`")
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

        processor = Qwen2VLImageProcessorPil(size={"shortest_edge": 28 * 28, "longest_edge": 28 * 28 * 768})
        made = [to(media="images")(row) for row in ROWS[:2]]
        given = ToConversation.processor_kwargs(made)
        assert list(given) == ["images"]
        output = processor(images=given["images"], return_tensors="np")
        assert output["image_grid_thw"].tolist() == [[1, 4, 6]] * 14
        brightness = output["pixel_values"].reshape(14, -1).mean(axis=1)
        assert (np.diff(brightness[:7]) > 0).all()

    def test_processor_kwargs_of_videos(self) -> None:
        given = ToConversation.processor_kwargs([to()(row) for row in ROWS[:3]])
        assert given["do_sample_frames"] is False
        assert len(given["videos"]) == len(given["video_metadata"]) == 3
        assert ToConversation.processor_kwargs([to(media="none")(ROWS[0])]) == {}

    def test_settings_for_llama_factory(self, tmp_path: Path) -> None:
        row = to("llama_factory")(ROWS[0])
        settings = to("llama_factory").settings(row)
        assert settings.pop("dataset_info")["columns"] == {"messages": "messages", "videos": "videos"}
        pixels = 56 * 84
        assert settings == {
            "video_fps": 4.0,
            "video_maxlen": 7,
            "video_min_pixels": pixels,
            "video_max_pixels": pixels,
        }
        for folder in (None, str(tmp_path)):  # pictures, and the paths of their files
            images = to("llama_factory", media="images", folder=folder)
            settings = images.settings(images(ROWS[0]))
            assert settings.pop("dataset_info")["columns"] == {"messages": "messages", "images": "images"}
            assert settings == {"image_min_pixels": pixels, "image_max_pixels": pixels}

    def test_settings_for_ms_swift_max_pixels(self) -> None:
        settings = to("ms_swift").settings(to("ms_swift")(ROWS[0]))
        assert settings.pop("FPS") == "4.0"
        least, most = (int(settings[f"VIDEO_{name}_TOKEN_NUM"]) for name in ("MIN", "MAX"))
        for side in (28, 32):
            assert least * side**2 <= 56 * 84 <= most * side**2
        assert to("ms_swift", media="images").settings(to("ms_swift", media="images")(ROWS[0])) == {}

    def test_settings_for_trl(self) -> None:
        kept = {"completion_only_loss": True, "max_length": None, "remove_unused_columns": False}
        assert to().settings(to()(ROWS[0])) == {**kept, "dataset_kwargs": {"skip_prepare_dataset": True}}
        assert to(media="images").settings(to(media="images")(ROWS[0])) == kept
        assert to(media="none").settings(to(media="none")(ROWS[0])) == {
            "completion_only_loss": True,
            "max_length": None,
        }
        messages = to("trl_messages", media="none")
        assert messages.settings(messages(ROWS[0])) == {"assistant_only_loss": True, "max_length": None}


class TestFiles:
    @pytest.mark.parametrize("media", ["video", "images"])
    def test_hold_each_frame_once(self, tmp_path: Path, media: str) -> None:
        write = to("llama_factory", media=media, folder=str(tmp_path / "frames"))
        first, second = write(ROWS[0]), write(ROWS[1])
        paths = first["videos"][0] if media == "video" else first["images"]
        assert (second["videos"][0] if media == "video" else second["images"]) == paths
        assert len(list(tmp_path.rglob("*"))) == 4 + 7  # frames, the id's three folders and seven files
        assert all(Path(path).is_absolute() for path in paths)
        shown = np.stack([np.asarray(Image.open(path)) for path in paths])
        assert np.array_equal(shown[..., 0], FRAMES)
        assert json.loads(json.dumps(first)) == first  # as a line of a JSON file
        write(ROWS[0] | {"frames": FRAMES + 1})
        assert len(list(tmp_path.rglob("*.png"))) == 14


class TestValue:
    @pytest.mark.parametrize(
        "made",
        [
            to(),
            to("ms_swift", turns=4, media="images", frames=FRAME_RECIPES["clean_qwen"]),
            to(template=Template("{question}", "a")),
        ],
    )
    def test_repr_rebuilds_it(self, made: ToConversation) -> None:
        from reasonknee_datasets.transforms import Window

        again = eval(repr(made), {**globals(), "Window": Window})
        assert again == made
        assert hash(again) == hash(made)
        assert Hasher.hash(again) == Hasher.hash(made) == Hasher.hash(pickle.loads(pickle.dumps(made)))

    @pytest.mark.parametrize("style", STYLES)
    @pytest.mark.parametrize("media", ["video", "images", "none"])
    def test_gives_the_same_everywhere(self, style: str, media: str, tmp_path: Path) -> None:
        make = to(style, media=media, folder=str(tmp_path))
        written = [row | {"frames": FRAMES[:2, :4, :6].tolist()} for row in ROWS[:4]]
        data = Dataset.from_list(written)
        expected = [make(row) for row in written]
        features = make.output_features(data.features)
        shown = data.with_transform(make)
        mapped = data.map(make, remove_columns=data.column_names, features=features)
        streamed = data.to_iterable_dataset().map(make, remove_columns=data.column_names, features=features)
        batched = data.map(make, batched=True, remove_columns=data.column_names, features=features)
        assert [shown[place] for place in range(4)] == expected
        assert set(features) == set(expected[0])
        for found in (mapped, streamed, batched):
            assert [without_none(row) for row in found] == expected

    def test_turns_shorten_a_mapped_dataset(self) -> None:
        data = Dataset.from_list([{key: row[key] for key in row if key != "frames"} for row in ROWS])
        make = to("llama_factory", media="none", turns=20)
        mapped = data.map(
            make, batched=True, remove_columns=data.column_names, features=make.output_features(data.features)
        )
        assert [len(ids) for ids in mapped["ids"]] == [20, 20, 20, 2, 8]
        assert mapped[:] == data.with_transform(make)[:]

    def test_mapped_pictures_read_back(self) -> None:
        data = Dataset.from_list([{key: row[key] for key in row if key != "frames"} for row in ROWS[:2]])
        make = to(media="images")
        mapped = data.map(
            lambda row: make({**row, "frames": FRAMES}),
            remove_columns=data.column_names,
            features=make.output_features(data.features),
        )
        assert np.array_equal(np.stack([np.asarray(image)[..., 2] for image in mapped[1]["images"]]), FRAMES)


def without_none(value: Any) -> Any:
    """Take off what Arrow adds: a block of text and a block of a picture have the same keys there."""
    if isinstance(value, dict):
        return {key: without_none(one) for key, one in value.items() if one is not None}
    return [without_none(one) for one in value] if isinstance(value, list) else value


class TestBadInput:
    @pytest.mark.parametrize("style", ["llama_factory", "ms_swift"])
    @pytest.mark.parametrize("tag", ["<image>", "<video>", "<bbox>"])
    def test_texts_that_a_framework_would_replace(self, style: str, tag: str) -> None:
        row = ROWS[0] | {"question": f"What is {tag}?"}
        with pytest.raises(TransformError, match=f"contains {tag}, which {style} would replace by a picture"):
            to(style)(row)
        assert to("trl")(row)["prompt"][0]["content"][1]["text"] == f"What is {tag}?"

    def test_no_frames(self) -> None:
        with pytest.raises(TransformError, match="The example has no frames, which media='video' needs"):
            to()(rows(1)[0])

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"style": "axolotl"}, "style must be one of trl, trl_messages, llama_factory, ms_swift"),
            ({"media": "gif"}, "media must be one of video, images, none"),
            ({"turns": 0}, "turns must be a whole number, at least 1"),
            ({"template": "chatty"}, "template must be a Template or one of"),
            ({"box": "region"}, "box must be 'box' .* or None, not 'region'"),
        ],
    )
    def test_settings(self, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(TransformError, match=message):
            ToConversation(**changes)

    def test_pillow_that_is_missing(self) -> None:
        code = (
            "import sys; sys.modules['PIL'] = None\n"
            "import numpy as np\n"
            "from reasonknee_datasets.errors import MissingExtraError\n"
            "from reasonknee_datasets.transforms.conversation import Template, ToConversation\n"
            "row = {'id': 'a', 'question': 'b', 'frames': np.zeros((1, 2, 2), np.uint8)}\n"
            "try: ToConversation(template=Template('{question}', ''))(row)\n"
            "except MissingExtraError as error: print(error)"
        )
        done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.startswith("pillow is needed for ToConversation")
        assert 'pip install "reasonknee_datasets[text]"' in done.stdout
