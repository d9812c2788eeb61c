"""TokenizeReasoning against the tokenizers themselves: the same tokens as for the whole text, and every part found."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("transformers", reason="needs the extra `text`")

import nibabel as nib
from datasets import Dataset, List, Value
from datasets.fingerprint import Hasher

from reasonknee_datasets.boxes import CONVENTIONS, Box, BoxConvention
from reasonknee_datasets.errors import MissingExtraError
from reasonknee_datasets.release import rebuild_record
from reasonknee_datasets.transforms import CropToBox, ToFrames, TransformError, piece_cache
from reasonknee_datasets.transforms.piece_cache import TextEncoder, get_encoder
from reasonknee_datasets.transforms.template_layout import Layout
from reasonknee_datasets.transforms.templates import TEMPLATES, Template, Vision
from reasonknee_datasets.transforms.tokenize_reasoning import TokenizeReasoning
from reasonknee_datasets.transforms.tokenizer import NamedTokenizer
from tests.helpers.reasoning_rows import CONVENTION, SHAPE, make_official, rows
from tests.helpers.tiny_tokenizers import CHATML, CONTROL, KINDS, QWEN_WORDS, make, wrapped

ROWS = rows(2)
SOME = ROWS[::5]
OFFICIAL = rows(1, seed=1, with_box=True)[::4]
QWEN = make("qwen")
NAMED = {kind: NamedTokenizer.of(make(kind), pad_token="<pad>", eos_token="</s>", bos_token="<s>") for kind in KINDS}


def said(row: dict[str, Any], *, box: str) -> str:
    """The completion of the templates `plain` and `chat`."""
    steps = "\n".join(row["reasoning"])
    return f"{steps}\n\nBounding box: {box}\n\nFinal diagnosis: {row['answer']}"


def box_text(row: dict[str, Any], convention: BoxConvention = CONVENTION) -> str:
    from reasonknee_datasets.boxes import Box

    return str(convention.encode(Box.from_row(row["box"]), SHAPE))


def text_of(tokens: list[int]) -> str:
    return str(QWEN.decode(tokens, skip_special_tokens=False))


def of(template: Template | str = "plain", kind: str = "qwen", **changes: Any) -> TokenizeReasoning:
    return TokenizeReasoning(NAMED[kind], template, **{"box_convention": CONVENTION, **changes})


class TestTokens:
    @pytest.mark.slow
    @pytest.mark.parametrize("kind", KINDS)
    def test_are_those_of_the_whole_text(self, kind: str) -> None:
        tokenizer, tokenize = make(kind), of("plain", kind)
        for row in ROWS[::2]:
            whole = f"<s>{row['question']}\n{said(row, box=box_text(row))}</s>"
            expected = tokenizer.encode(whole, add_special_tokens=False).ids
            if "[CLS]" in tokenizer.get_vocab() or kind in ("llama2", "mistral", "loose"):
                expected = tokenizer.encode(whole).ids  # what it puts before a text by itself
                expected = expected[:-1] if kind == "bert" else expected
            assert tokenize(row)["input_ids"] == expected, row["id"]

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("chosen", [SOME, OFFICIAL], ids=["usual", "with-box"])
    def test_of_official_text_equal_the_authors(self, kind: str, chosen: list[dict[str, Any]]) -> None:
        tokenizer, tokenize = make(kind), of("official_sft", kind)
        for row in chosen:
            answer = rebuild_record(row, image="", convention=CONVENTION, shape=SHAPE)["answer"]  # type: ignore[arg-type]
            grades = {grade["attribute"]: grade["grade"] for grade in row["grades"]}
            official = make_official(row["question_id"], grades, row["box"], with_box=chosen is OFFICIAL)
            assert answer == official["answer"]
            expected = tokenizer.encode(f"{row['question']}\nResponse: {answer}</s>").ids
            assert tokenize(row)["input_ids"] == (expected[:-1] if kind == "bert" else expected), row["id"]

    @pytest.mark.parametrize("kind", KINDS)
    def test_of_chat_equal_its_template(self, kind: str) -> None:
        tokenizer = wrapped(kind)
        tokenize = TokenizeReasoning(tokenizer, box_convention=CONVENTION)
        for row in SOME:
            turns = [
                {"role": "user", "content": row["question"]},
                {"role": "assistant", "content": said(row, box=box_text(row))},
            ]
            tokens = tokenize(row)
            assert tokens["input_ids"] == tokenizer.apply_chat_template(turns, return_dict=False), row["id"]
            prompt = tokenizer.apply_chat_template(turns[:1], add_generation_prompt=True, return_dict=False)
            assert tokens["labels"] == [-100] * len(prompt) + tokens["input_ids"][len(prompt) :]
            assert tokens["attention_mask"] == [1] * len(tokens["input_ids"])

    def test_include_system_message_and_literal_text(self) -> None:
        tokenizer = wrapped()
        template = Template("{question} Knee: {side}.", "It is {answer}!", system="A {finding}.", chat=True)
        turns = [
            {"role": "system", "content": f"A {ROWS[5]['finding']}."},
            {"role": "user", "content": f"{ROWS[5]['question']} Knee: right."},
            {"role": "assistant", "content": f"It is {ROWS[5]['answer']}!"},
        ]
        tokens = TokenizeReasoning(tokenizer, template)(ROWS[5])
        assert tokens["input_ids"] == tokenizer.apply_chat_template(turns, return_dict=False)
        assert tokens["box_span"] == [-1, -1]
        assert tokens["reasoning_spans"] == []

    def test_are_the_same_whatever_was_tokenized_before(self) -> None:
        forth, back = of(), of()
        first = [forth(row)["input_ids"] for row in ROWS]
        get_encoder.cache_clear()
        assert [back(row)["input_ids"] for row in reversed(ROWS)] == first[::-1]

    def test_reach_a_template_of_blocks(self) -> None:
        blocks = CHATML.replace("message['content']", "message['content'][0]['text']")
        plain, listed = (TokenizeReasoning(wrapped(chat_template=text)) for text in (CHATML, blocks))
        assert listed(ROWS[3]) == plain(ROWS[3])


class TestSpans:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("name", ["plain", "official_sft", "boxed"])
    def test_cover_steps_grades_and_box(self, kind: str, name: str) -> None:
        tokenizer = make(kind)
        tokenizer.post_processor = None  # GPT-2's takes the space off a token's characters
        tokenize = of("official_sft" if name == "boxed" else name, kind)
        for row in OFFICIAL if name == "boxed" else SOME:
            if name == "plain":
                text = f"<s>{row['question']}\n{said(row, box=box_text(row))}</s>"
            else:
                answer = rebuild_record(row, image="", convention=CONVENTION, shape=SHAPE)["answer"]  # type: ignore[arg-type]
                text = f"{row['question']}\nResponse: {answer}</s>"
            tokens = tokenize(row)
            offsets = tokenizer.encode(text, add_special_tokens=False).offsets
            before = len(tokens["input_ids"]) - len(offsets)
            spans = [*tokens["reasoning_spans"], *tokens["grade_spans"]]
            sought, place = [], len(row["question"])
            for step in row["reasoning"]:
                place = text.index(step, place)
                sought.append((place, place + len(step)))
            if name != "official_sft":
                place = text.index("[" if name == "plain" else '": [' if '": [' in text else "': [", place)
                place = text.index("[", place)
                sought.append((place, text.index("]", place) + 1))
                spans.insert(len(row["reasoning"]), tokens["box_span"])
                place = sought[-1][1]
            for grade in row["grades"]:
                place = text.index(":", text.rindex(last_key(row, grade, text), place))
                while not (text[place].isdigit() or text[place : place + 4] in ("null", "None")):
                    place += 1
                sought.append((place, place + (1 if text[place].isdigit() else 4)))
            expected = [characters_to_tokens(offsets, low, high, before) for low, high in sought]
            assert spans == expected, row["id"]

    def test_decode_to_their_text(self) -> None:
        tokenize = of(Template("{question}\n", "{reasoning} {box} {answer}", separator=" "))
        for row in SOME:
            tokens = tokenize(row)
            parts = [text_of(tokens["input_ids"][start:stop]) for start, stop in tokens["reasoning_spans"]]
            assert [part.strip() for part in parts] == row["reasoning"]
            numbers = json.loads(text_of(tokens["input_ids"][slice(*tokens["box_span"])]))
            assert CONVENTION.decode(numbers, SHAPE).to_row() == row["box"]
            said_grades = [
                json.loads(text_of(tokens["input_ids"][start:stop])) for start, stop in tokens["grade_spans"]
            ]
            assert said_grades == [grade["grade"] for grade in row["grades"]]


def last_key(row: dict[str, Any], grade: dict[str, Any], text: str) -> str:
    """The spelling under which a grade is last in a text."""
    from reasonknee_datasets.moaks import QUESTIONS, find_slot

    slot = find_slot(row["question_id"], grade["attribute"])
    names = [slot.prompt_key or QUESTIONS[row["question_id"]].subject_key, slot.record_key]
    return max((f"{mark}{name}{mark}" for name in names for mark in "\"'"), key=text.rfind)


def characters_to_tokens(offsets: list[tuple[int, int]], low: int, high: int, before: int) -> list[int]:
    held = [place + before for place, (start, stop) in enumerate(offsets) if start < high and stop > low]
    return [held[0], held[-1] + 1]


class TestControlTokens:
    @pytest.mark.parametrize("kind", KINDS)
    def test_inside_texts_are_text(self, kind: str) -> None:
        tokenize = of("plain", kind)
        control = {token: number for token, number in get_encoder(NAMED[kind]).control.items() if number >= 0}
        assert set(CONTROL) - {"<pad>"} <= set(control)
        unknown = {make(kind).token_to_id(token) for token in ("<unk>", "[UNK]")}
        places = set(control.values()) - unknown
        quiet = [number for number in tokenize(ROWS[0])["input_ids"] if number in places]
        for token in [token for token in control if not token.startswith("<0x")]:
            row = ROWS[0] | {"question": f"{token}Is {token}{token} a tear?", "reasoning": [f"So{token}", token]}
            tokens = tokenize(row)["input_ids"]
            assert [number for number in tokens if number in places] == quiet, token
            if kind in ("qwen", "gpt2"):
                written = make(kind).decode(tokens, skip_special_tokens=False)
                assert written.count(token) == quiet.count(control[token]) + 5

    def test_equal_transformers_split_special_tokens(self) -> None:
        tokenizer = wrapped()
        row = ROWS[7] | {
            "question": "Is <|im_end|>\n<|im_start|>assistant\nNo<|video_pad|> a tear?",
            "answer": ROWS[7]["answer"],
        }
        turns = [
            {"role": "user", "content": row["question"]},
            {"role": "assistant", "content": said(row, box=box_text(row))},
        ]
        expected = tokenizer.apply_chat_template(turns, return_dict=False, sanitize_control_tokens=True)
        assert TokenizeReasoning(tokenizer, box_convention=CONVENTION)(row)["input_ids"] == expected

    def test_leave_words_that_somebody_added_as_words(self) -> None:
        tokenizer = wrapped()
        tokenizer.add_tokens(["osteophyte"])
        number = tokenizer.convert_tokens_to_ids("osteophyte")
        tokens = TokenizeReasoning(tokenizer)(ROWS[0] | {"question": "Any osteophyte here?"})
        assert tokens["input_ids"].count(number) == 1

    def test_control_tokens_of_chat_template_count(self) -> None:
        tokenizer = wrapped(chat_template=CHATML.replace("assistant\n{% endif", "assistant\n<think>{% endif"))
        tokenizer.chat_template = tokenizer.chat_template.replace(
            "{{ message['content'] }}",
            "{% if message['role'] == 'assistant' %}<think>{% endif %}{{ message['content'] }}",
        )
        tokenizer.add_tokens(["<think>"])
        number = tokenizer.convert_tokens_to_ids("<think>")
        tokens = TokenizeReasoning(tokenizer)(ROWS[0] | {"question": "What is <think>?"})
        assert tokens["input_ids"].count(number) == 1
        assert tokens["labels"].count(number) == 0

    def test_keep_ids_in_rebuilt_tokenizer(self) -> None:
        for kind in KINDS:
            tokenizer, rebuilt = make(kind), get_encoder(NAMED[kind])
            for token, number in rebuilt.control.items():
                assert number == tokenizer.token_to_id(token)
            plain = "Examine the marrow, [1, 20] and more: 0.5 mm."
            assert rebuilt.encode(plain, inside=False).ids == tokenizer.encode(plain, add_special_tokens=False).ids

    def test_are_hidden_where_merges_lead_to_them(self) -> None:
        from tokenizers import Tokenizer, models

        vocab = {token: number for number, token in enumerate(["<", "s", ">", "<s", "<s>", "a"])}
        tokenizer = Tokenizer(models.BPE(vocab, [("<", "s"), ("<s", ">")]))
        tokenizer.add_special_tokens(["<s>"])
        text = TextEncoder(NamedTokenizer.of(tokenizer, pad_token="a").content)
        assert text.encode("<s>a", inside=False).ids == [3, 2, 5]


class TestGeneration:
    @pytest.mark.slow
    @pytest.mark.parametrize("template", [*TEMPLATES, "system"])
    def test_prompt_does_not_depend_on_the_answer(self, template: str) -> None:
        tokenizer = wrapped()
        form: Any = Template("{question} {side}", "{box} {answer}", system="{finding}", chat=True)
        form = form if template == "system" else template
        train = TokenizeReasoning(tokenizer, form)
        generate = replace(train, for_generation=True)
        drawn = np.random.default_rng(0)
        for place, row in enumerate(SOME):
            other = ROWS[int(drawn.integers(len(ROWS)))]
            grades = [{**grade, "grade": None} for grade in row["grades"]]
            nulls = json.dumps(json.loads(row["answer"], parse_int=lambda _: None))
            changed = row | {"reasoning": other["reasoning"], "grades": grades, "answer": nulls, "record": "{}"}
            if form != TEMPLATES["official_sft"]:
                changed["box"] = other["box"]
            prompt = generate(row)
            assert set(prompt) - set(row) == {"input_ids", "attention_mask"}
            assert generate(changed)["input_ids"] == prompt["input_ids"]
            bare = {key: row[key] for key in ("id", "question", "side", "finding")}
            assert generate(bare)["input_ids"] == prompt["input_ids"]
            for trained in (train(row), train(changed)):
                length = trained["labels"].count(-100)
                assert trained["input_ids"][:length] == prompt["input_ids"], place
                assert trained["labels"][length:] == trained["input_ids"][length:]

    @pytest.mark.parametrize("field", ["reasoning", "answer", "official_answer"])
    @pytest.mark.parametrize("part", ["prompt", "system"])
    def test_no_prompt_may_name_the_answer(self, part: str, field: str) -> None:
        given = {"prompt": "{question}", "completion": "{answer}", "chat": True} | {part: f"{{{field}}}"}
        with pytest.raises(TransformError, match=rf"{part} of the template contains \{{{field}\}}, part of the answer"):
            Template(**given)


class TestCache:
    def test_no_text_is_tokenized_twice(self) -> None:
        get_encoder.cache_clear()
        tokenize = of()
        for row in ROWS:
            tokenize(row)
        info = tokenize.cache_info()
        questions = {row["question"] for row in ROWS}
        heads = {tuple(row["reasoning"]) for row in ROWS}
        tails = {row["answer"] for row in ROWS}
        words = [json.loads(box_text(row)) for row in ROWS]
        numbers = {(number, place == 0, place == 5) for row in words for place, number in enumerate(row)}
        assert info.encoded == info.pieces == len(questions) + len(heads) + len(tails) + len(numbers)
        for row in ROWS:
            tokenize(row)
            replace(tokenize, for_generation=True)(row)
            pickle.loads(pickle.dumps(tokenize))(row)
        assert tokenize.cache_info().encoded == info.encoded

    def test_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        expected = [of()(row)["input_ids"] for row in ROWS]
        get_encoder.cache_clear()
        monkeypatch.setattr(piece_cache, "CACHED_TOKENS", 3000)
        tokenize = of()
        for row, tokens in zip(ROWS, expected, strict=True):
            assert tokenize(row)["input_ids"] == tokens
            assert tokenize.cache_info().tokens <= 3000
        assert tokenize.cache_info().evicted > 100
        get_encoder.cache_clear()

    def test_may_be_shared_by_threads(self, monkeypatch: pytest.MonkeyPatch) -> None:
        expected = [of()(row)["input_ids"] for row in ROWS]
        get_encoder.cache_clear()
        monkeypatch.setattr(piece_cache, "CACHED_TOKENS", 4000)
        tokenize = of()
        with ThreadPoolExecutor(4) as pool:
            for tokens in pool.map(lambda _: [tokenize(row)["input_ids"] for row in ROWS[::4]], range(4)):
                assert tokens == expected[::4]
        pieces = [piece for piece in get_encoder(tokenize.tokenizer)._pieces.values() if piece is not None]
        assert tokenize.cache_info().tokens == sum(len(piece.ids) for piece in pieces) <= 4000
        get_encoder.cache_clear()

    def test_returns_lists_that_callers_may_change(self) -> None:
        tokenize = of()
        first = tokenize(ROWS[0])
        kept = json.dumps(first["input_ids"])
        first["input_ids"].clear()
        first["reasoning_spans"][0][0] = -7
        first["labels"][0] = 5
        assert json.dumps(tokenize(ROWS[0])["input_ids"]) == kept
        assert tokenize(ROWS[0])["reasoning_spans"][0][0] > 0


class TestValue:
    @pytest.mark.parametrize("template", [*TEMPLATES, Template("{question} ", "{answer}{eos}", separator=" | ")])
    def test_repr_rebuilds_it(self, template: Template | str) -> None:
        vision = Vision("<|video_pad|>", 3) if template in ("chat", "plain") else None
        tokenize = TokenizeReasoning(
            wrapped(), template, max_length=4096, vision=vision, box="box_volume", for_generation=True
        )
        again = eval(repr(tokenize))
        assert again == tokenize
        assert hash(again) == hash(tokenize)
        assert len(repr(tokenize)) < 700
        assert Hasher.hash(again) == Hasher.hash(tokenize) == Hasher.hash(pickle.loads(pickle.dumps(tokenize)))

    def test_digest_ignores_tokenizer_state(self) -> None:
        tokenizer = wrapped()
        tokenize = TokenizeReasoning(tokenizer)
        before = Hasher.hash(tokenize)
        tokenizer(["Any tear?", "Where is it?"], padding=True, truncation=True, max_length=4)
        assert TokenizeReasoning(tokenizer) == tokenize
        assert Hasher.hash(TokenizeReasoning(tokenizer)) == before
        assert TokenizeReasoning(wrapped()) == tokenize
        assert tokenizer(["Any tear?"], padding=False, truncation=False)["input_ids"]  # and ours left its state alone

    def test_differs_where_the_tokenizer_differs(self) -> None:
        known = {TokenizeReasoning(wrapped())}
        known.add(TokenizeReasoning(wrapped("gpt2")))
        known.add(TokenizeReasoning(wrapped(pad_token="</s>")))
        known.add(TokenizeReasoning(wrapped(chat_template=CHATML.replace("\n", "\n\n"))))
        more = wrapped()
        more.add_tokens(["osteophyte"])
        known.add(TokenizeReasoning(more))
        assert len(known) == 5
        assert len({Hasher.hash(tokenize) for tokenize in known}) == 5

    @pytest.mark.parametrize(
        ("setting", "value", "usual"),
        [
            ("padding_side", "left", "right"),
            ("truncation_side", "left", "right"),
            ("model_max_length", 2048, None),
        ],
    )
    def test_holds_the_settings_of_transformers(self, setting: str, value: Any, usual: Any) -> None:
        plain, other = NamedTokenizer.of(wrapped()), NamedTokenizer.of(wrapped(**{setting: value}))
        assert getattr(plain.content, setting) == usual
        assert getattr(other.content, setting) == value
        assert plain != other
        assert TokenizeReasoning(plain) != TokenizeReasoning(other)
        again = pickle.loads(pickle.dumps(other))
        assert (again, again.content) == (other, other.content)
        assert Hasher.hash(TokenizeReasoning(again)) == Hasher.hash(TokenizeReasoning(other))

    def test_holds_the_settings_of_tokenizers(self) -> None:
        tokenizer = make("qwen")
        tokenizer.enable_padding(direction="left", pad_id=0, pad_token="<pad>", pad_to_multiple_of=16)
        tokenizer.enable_truncation(300, direction="left")
        content = NamedTokenizer.of(tokenizer).content
        tokenize = TokenizeReasoning(tokenizer, Template("{question}", "{reasoning}"))
        assert (tokenize.padding_side, tokenize.pad_to_multiple_of) == ("left", 16)
        assert (content.padding_side, content.pad_to_multiple_of) == ("left", 16)
        assert (content.truncation_side, content.model_max_length) == ("left", 300)
        assert content.json == NamedTokenizer.of(make("qwen"), pad_token="<pad>").content.json
        from transformers import PreTrainedTokenizerFast

        loaded = NamedTokenizer.of(PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>")).content
        assert (loaded.padding_side, loaded.pad_to_multiple_of) == ("left", 16)

    def test_keeps_settings_after_padding_calls(self) -> None:
        tokenizer = wrapped(padding_side="left")
        before = NamedTokenizer.of(tokenizer)
        tokenizer(
            ["a", "b c d"], padding=True, padding_side="right", pad_to_multiple_of=32, truncation=True, max_length=32
        )
        assert NamedTokenizer.of(tokenizer) == before

    def test_a_fixed_length_of_padding_is_refused(self) -> None:
        tokenizer = make("qwen")
        tokenizer.enable_padding(pad_id=0, pad_token="<pad>", length=512)
        with pytest.raises(TransformError, match=r"pads every text to 512 tokens.*buckets=\(512,\)"):
            NamedTokenizer.of(tokenizer)

    def test_added_tokens_stay_whole(self) -> None:
        tokenizer = wrapped()
        tokenizer.add_tokens(["osteophyte grade"])
        again = pickle.loads(pickle.dumps(TokenizeReasoning(tokenizer)))
        ids = again(ROWS[0] | {"question": "Which osteophyte grade?"})["input_ids"]
        assert ids.count(tokenizer.convert_tokens_to_ids("osteophyte grade")) == 1

    def test_does_not_follow_the_tokenizer(self) -> None:
        tokenizer = wrapped()
        tokenize = TokenizeReasoning(tokenizer)
        expected = tokenize(ROWS[0])["input_ids"]
        tokenizer.add_tokens(["the", "femur"])
        tokenizer.chat_template = "{{ messages }}"
        get_encoder.cache_clear()
        assert pickle.loads(pickle.dumps(tokenize))(ROWS[0])["input_ids"] == expected

    @pytest.mark.slow
    def test_pickle_in_other_process_without_transformers(self, tmp_path: Path) -> None:
        tokenize = TokenizeReasoning(wrapped(), box_convention=CONVENTION)
        (tmp_path / "t.pkl").write_bytes(pickle.dumps((tokenize, ROWS[9])))
        code = (
            "import pickle, sys; sys.modules['transformers'] = None\n"
            "tokenize, row = pickle.load(open('t.pkl', 'rb'))\n"
            "ids = tokenize(row)['input_ids']\n"
            "del sys.modules['transformers']\n"
            "from datasets.fingerprint import Hasher\n"
            "print(sum(ids), len(ids), Hasher.hash(tokenize), repr(tokenize))"
        )
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        ids = tokenize(ROWS[9])["input_ids"]
        assert done.stdout.split(maxsplit=3)[:3] == [str(sum(ids)), str(len(ids)), Hasher.hash(tokenize)]
        assert done.stdout.rstrip().endswith(repr(tokenize))

    def test_repr_of_unknown_tokenizer_is_refused(self) -> None:
        with pytest.raises(TransformError, match="This process has not loaded the tokenizer"):
            TokenizeReasoning(NamedTokenizer("other", "0" * 32))

    def test_leaves_the_example_alone(self) -> None:
        row = json.loads(json.dumps(ROWS[0]))
        tokens = of()(row)
        assert row == ROWS[0]
        assert {key: tokens[key] for key in row} == row


class TestDatasets:
    def test_gives_the_same_everywhere(self) -> None:
        tokenize = of()
        data = Dataset.from_list(SOME)
        added = ["input_ids", "attention_mask", "labels", "reasoning_spans", "grade_spans", "box_span"]
        expected = [{key: tokenize(row)[key] for key in added} for row in SOME]
        shown = data.with_transform(tokenize)
        batch = shown[:]
        streamed = data.to_iterable_dataset().map(tokenize, features=tokenize.output_features(data.features))
        for found in (
            [shown[place] for place in range(len(SOME))],
            [{key: batch[key][place] for key in added} for place in range(len(SOME))],
            list(data.map(tokenize, features=tokenize.output_features(data.features))),
            list(data.map(tokenize, batched=True, batch_size=7)),
            list(streamed),
            list(data.to_iterable_dataset().map(tokenize, batched=True, batch_size=4)),
        ):
            assert [{key: row[key] for key in added} for row in found] == expected
        assert streamed.features["input_ids"] == List(Value("int32"))
        assert set(tokenize.output_features(data.features)) == {*data.features, *added}

    def test_for_generation_adds_two_columns(self) -> None:
        data = Dataset.from_list(SOME)
        added = of(for_generation=True).output_features(data.features)
        assert set(added) - set(data.features) == {"input_ids", "attention_mask"}


QWEN_VIDEO = Vision("<|video_pad|>", start="<|vision_start|>", stop="<|vision_end|>", cell=(2, 28, 28))


class TestVision:
    def test_placeholders_stand_where_the_template_says(self) -> None:
        tokenize = TokenizeReasoning(wrapped(), vision=replace(QWEN_VIDEO, count=5, cell=None))
        bare = TokenizeReasoning(wrapped())
        tokens, without = tokenize(ROWS[0])["input_ids"], bare(ROWS[0])["input_ids"]
        start, pad, stop = (
            QWEN.token_to_id(token) for token in ("<|vision_start|>", "<|video_pad|>", "<|vision_end|>")
        )
        place = tokens.index(start)
        assert text_of(tokens[:place]) == "<|im_start|>user\n"
        assert tokens[place : place + 7] == [start, *[pad] * 5, stop]
        assert tokens[:place] + tokens[place + 7 :] == without

    @pytest.mark.parametrize(("shape", "count"), [((32, 196, 224), 896), ((31, 28, 56), 32), ((1, 28, 28), 1)])
    def test_count_follows_from_the_frames(self, shape: tuple[int, int, int], count: int) -> None:
        row = ROWS[0] | {"frames": np.zeros(shape, np.uint8), "frame_box": [0, 1, 2, 1, 5, 9]}
        tokens = TokenizeReasoning(wrapped(), vision=QWEN_VIDEO)(row)
        assert tokens["input_ids"].count(QWEN.token_to_id("<|video_pad|>")) == count

    def test_count_may_stand_in_the_example(self) -> None:
        tokenize = TokenizeReasoning(wrapped(), vision=Vision("<|video_pad|>", "pictures"))
        assert tokenize(ROWS[0] | {"pictures": 9})["input_ids"].count(QWEN.token_to_id("<|video_pad|>")) == 9
        with pytest.raises(
            TransformError, match="pictures must be the number of placeholders, as the processor counts them, not None"
        ):
            tokenize(ROWS[0])

    @pytest.mark.parametrize("frames", [np.zeros((4, 30, 56), np.uint8), None, np.zeros((4, 56), np.uint8)])
    def test_refuses_frames_that_a_processor_would_resize(self, frames: Any) -> None:
        with pytest.raises(TransformError, match=r"The frames .*, but must have a multiple of 28 rows.*ToFrames"):
            TokenizeReasoning(wrapped(), vision=QWEN_VIDEO)(ROWS[0] | {"frames": frames})

    def test_vision_without_placeholder_is_refused(self) -> None:
        with pytest.raises(TransformError, match=r"vision= needs a template with \{vision\}"):
            TokenizeReasoning(wrapped(), "official_sft", vision=QWEN_VIDEO)

    @pytest.mark.parametrize("token", ["<|image_pad|>", "the"])
    def test_refuses_a_token_not_special(self, token: str) -> None:
        with pytest.raises(TransformError, match="is not a special token of the tokenizer"):
            TokenizeReasoning(wrapped(), vision=Vision(token))


class TestLength:
    def test_max_length_error_has_numbers(self) -> None:
        vision = Vision("<|video_pad|>", 100)
        tokens = TokenizeReasoning(wrapped(), vision=vision)(ROWS[0])
        whole, prompt = len(tokens["input_ids"]), tokens["labels"].count(-100)
        assert TokenizeReasoning(wrapped(), max_length=whole, vision=vision)(ROWS[0]) == tokens
        with pytest.raises(TransformError) as caught:
            TokenizeReasoning(wrapped(), max_length=whole - 1, vision=vision)(ROWS[0])
        assert str(caught.value).startswith(
            f"The example has {whole} tokens ({prompt} of the prompt (100 of them placeholders), {whole - prompt} of "
            f"the answer), more than max_length={whole - 1}. Nothing is ever cut: set max_length={whole}"
        )
        assert caught.value.__notes__ == [f"while TokenizeReasoning transformed {ROWS[0]['id']}"]

    def test_max_length_for_generation_counts_prompt(self) -> None:
        short = TokenizeReasoning(wrapped(), max_length=of(for_generation=True)(ROWS[0])["input_ids"].__len__() + 20)
        assert replace(short, for_generation=True)(ROWS[0])["input_ids"]
        with pytest.raises(TransformError, match="more than max_length="):
            short(ROWS[0])

    def test_max_length_defaults_to_models_maximum(self) -> None:
        whole = len(of()(ROWS[0])["input_ids"])
        special = {"pad_token": "<pad>", "eos_token": "</s>", "bos_token": "<s>"}
        tokenizer = make("qwen")
        tokenizer.enable_truncation(whole - 1)
        bounded = TokenizeReasoning(NamedTokenizer.of(tokenizer, **special), "plain", box_convention=CONVENTION)
        with pytest.raises(TransformError, match=f"more than the tokenizer's model_max_length={whole - 1}"):
            bounded(ROWS[0])
        assert len(replace(bounded, max_length=whole)(ROWS[0])["input_ids"]) == whole

    @pytest.mark.parametrize("length", [512.0, np.int64(512)])
    def test_max_length_accepts_any_integer_type(self, length: Any) -> None:
        assert repr(of(max_length=length)) == repr(of(max_length=512))

    @pytest.mark.parametrize("length", [0, -1, 2.5])
    def test_must_be_a_length(self, length: Any) -> None:
        with pytest.raises(TransformError, match="max_length must be a whole number, at least 1"):
            of(max_length=length)


class TestBox:
    @given(place=st.integers(0, len(ROWS) - 1), convention=st.sampled_from(CONVENTIONS))
    def test_reads_back_in_every_convention(self, place: int, convention: BoxConvention) -> None:
        row = ROWS[place] | {"volume": nib.Nifti1Image(np.zeros(SHAPE, np.uint8), np.eye(4))}
        tokens = of(Template("{question}\n", "{box}{eos}"), box_convention=convention)(row)
        numbers = json.loads(text_of(tokens["input_ids"][slice(*tokens["box_span"])]))
        assert convention.decode(numbers, SHAPE).to_row() == row["box"]

    def test_may_be_the_crops_or_the_volumes(self) -> None:
        volume = nib.Nifti1Image(np.zeros((60, 70, 80), np.uint8), np.eye(4))
        row = CropToBox(margin_voxels=5)(ROWS[0] | {"volume": volume, "box": [10, 20, 30, 15, 22, 40]})
        template = Template("{question}\n", "{box}{eos}")
        for convention in ("slice0-x1-y2-corners-exclusive-voxel", "slice0-x1-y2-corners-exclusive-normalised"):
            for key, box, shape in (
                ("box", [5, 5, 5, 10, 7, 15], (15, 12, 20)),
                ("box_volume", [10, 20, 30, 15, 22, 40], (60, 70, 80)),
            ):
                tokens = of(template, box=key, box_convention=convention)(row)
                numbers = json.loads(text_of(tokens["input_ids"][slice(*tokens["box_span"])]))
                assert BoxConvention.parse(convention).decode(numbers, shape).to_row() == box

    def test_may_be_the_frames(self) -> None:
        row = ROWS[0] | {"frame_box": [3, 100, 20, 5, 140, 60], "frames": np.zeros((32, 200, 100), np.uint8)}
        name = "slice0-x2-y1-pairs-inclusive-normalised"
        tokens = of(Template("{question}\n", "{box}{eos}"), box="frame_box", box_convention=name)(row)
        numbers = json.loads(text_of(tokens["input_ids"][slice(*tokens["box_span"])]))
        assert BoxConvention.parse(name).decode(numbers, (32, 200, 100)).to_row() == row["frame_box"]

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", KINDS)
    def test_may_reach_out_of_a_crop(self, kind: str) -> None:
        row = ROWS[0] | {"box": [-3, 0, -12, 5, 140, 60]}
        convention = BoxConvention.parse("slice0-x1-y2-corners-exclusive-voxel")
        tokens = of("plain", kind, box_convention=convention)(row)
        prefix = of("plain", kind, for_generation=True)(row)["input_ids"]
        body = make(kind).encode(f"<s>{row['question']}\n{said(row, box='[-3, 0, -12, 5, 140, 60]')}</s>")
        assert len(tokens["input_ids"]) > len(prefix)
        assert (
            tokens["input_ids"][-40:]
            == [number for number in body.ids if number != make(kind).token_to_id("[SEP]")][-40:]
        )

    def test_of_a_prompt_is_read_for_generation(self) -> None:
        tokenize = of(Template("{question} In {box}:", " {answer}{eos}"), for_generation=True)
        expected = QWEN.encode(f"{ROWS[4]['question']} In {box_text(ROWS[4])}:").ids
        assert tokenize(ROWS[4])["input_ids"] == expected

    def test_is_written_in_what_the_model_sees(self) -> None:
        volume = nib.Nifti1Image(np.zeros(SHAPE, np.int16), np.diag([0.7, 0.4, 0.4, 1.0]))
        row = ROWS[0] | {"volume": volume}
        crop, frames = CropToBox(margin_mm=10), ToFrames("sagittal", count=8, size=(56, 84))
        cropped = crop(row)
        shown = frames(cropped)
        assert shown["frame_box"] != cropped["box"] != row["box"]
        for made, box in ((row, "box"), (cropped, "box"), (shown, "frame_box")):
            ids = of()(made)["input_ids"]
            assert f"Bounding box: {CONVENTION.encode(Box.from_row(made[box]), SHAPE)}\n" in text_of(ids)
        chosen = of(box="box_volume")(shown)["input_ids"]
        assert f"Bounding box: {CONVENTION.encode(Box.from_row(row['box']), SHAPE)}\n" in text_of(chosen)

    def test_in_frames_must_be_known(self) -> None:
        row = ROWS[0] | {"frames": np.zeros((4, 28, 28), np.uint8)}
        with pytest.raises(
            TransformError, match=r"has frames but no frame_box.*Make the frames with ToFrames.*box='box'"
        ):
            of()(row)
        assert of(box="box")(row)["input_ids"] == of()(ROWS[0])["input_ids"]

    @pytest.mark.parametrize("template", ["plain", "chat"])
    def test_may_be_left_out_of_the_target(self, template: str) -> None:
        tokenize = TokenizeReasoning(wrapped(), f"{template}_without_box")
        bare = {key: value for key, value in ROWS[0].items() if key != "box"}
        tokens = tokenize(bare)
        steps = "\n".join(bare["reasoning"])
        learned = [token for token in tokens["labels"] if token >= 0]
        assert text_of(learned).startswith(f"{steps}\n\nFinal diagnosis: {bare['answer']}<|im_end|>")
        assert tokens["box_span"] == [-1, -1]
        prompt = replace(TokenizeReasoning(wrapped(), template), for_generation=True)(ROWS[0])["input_ids"]
        assert tokens["input_ids"][: len(prompt)] == prompt

    def test_must_be_a_box_that_there_is(self) -> None:
        with pytest.raises(TransformError, match=r"box must be 'box' .* or None, not 'bounding_box'"):
            of(box="bounding_box")
        with pytest.raises(TransformError, match=r"has no frame_box, which is needed for \{box\}"):
            of(box="frame_box")(ROWS[0])
        with pytest.raises(ValueError, match=r"Unknown box convention .* written like slice0-x1-y2"):
            of(box_convention="xyxy")


class TestBadInput:
    @pytest.mark.parametrize(
        ("template", "message"),
        [
            (lambda: Template("{question} {grade}", "{answer}"), r"Unknown field \{grade\} in the prompt"),
            (lambda: Template("{question}", "{steps}"), r"Unknown field \{steps\} in the completion"),
            (lambda: Template("{question}", "{answer}{vision}"), r"Unknown field \{vision\}"),
            (lambda: Template("{}", "{answer}"), r"Unknown field \{\}"),
            (lambda: Template("{question.x}", "{answer}"), r"Unknown field \{question\.x\}"),
            (lambda: Template("{question!r}", "{answer}"), "cannot be parsed: a format after 'question'"),
            (lambda: Template("{question", "{answer}"), "cannot be parsed: .* Write fields as"),
            (
                lambda: Template("{question}", "{answer}", system="A doctor."),
                "A template with a system message must be a chat",
            ),
            (lambda: of("sft"), "template must be a Template or one of chat, chat_without_box, .*, not 'sft'"),
        ],
    )
    def test_templates(self, template: Callable[[], Any], message: str) -> None:
        with pytest.raises(TransformError, match=message):
            template()

    def test_a_tokenizer_without_a_pad_token(self) -> None:
        with pytest.raises(TransformError, match=r"The tokenizer has no pad token.*tokenizer\.pad_token = "):
            TokenizeReasoning(wrapped(pad_token=None))
        with pytest.raises(TransformError, match="The tokenizer has no pad token"):
            TokenizeReasoning(QWEN, Template("{question}", "{answer}"))
        padded = make("qwen")
        padded.enable_padding(pad_id=0, pad_token="<pad>")
        assert TokenizeReasoning(padded, Template("{question}", "{answer}")).pad_token_id == 0
        assert TokenizeReasoning(wrapped(pad_token="</s>")).pad_token_id == QWEN.token_to_id("</s>")

    def test_a_tokenizer_that_is_none(self) -> None:
        with pytest.raises(TransformError, match=r"tokenizer must be a fast tokenizer of transformers.*not .* \(str\)"):
            TokenizeReasoning("Qwen/Qwen2.5-VL-3B-Instruct")  # type: ignore[arg-type]

    def test_refuses_missing_chat_template_or_eos(self) -> None:
        with pytest.raises(TransformError, match="The tokenizer has no chat template"):
            TokenizeReasoning(wrapped(chat_template=None))
        with pytest.raises(TransformError, match="The tokenizer has no eos token"):
            TokenizeReasoning(NamedTokenizer.of(QWEN, pad_token="<pad>"), "official_sft")

    def test_refuses_chat_templates_altering_messages(self) -> None:
        with pytest.raises(
            TransformError, match=r"chat template wrote the fields .* instead of \['question', 'answer'\]"
        ):
            TokenizeReasoning(
                wrapped(chat_template="{{ messages[0]['content'] }}"), Template("{question}", "{answer}", chat=True)
            )
        changing = CHATML.replace("{% if add", "{% if messages|length == 1 %}!{% endif %}{% if add")
        with pytest.raises(TransformError, match="chat template writes the prompt differently without an answer"):
            TokenizeReasoning(wrapped(chat_template=changing))

    @pytest.mark.parametrize("column", ["question", "reasoning", "answer", "question_id", "box"])
    def test_an_example_without_a_column(self, column: str) -> None:
        row = {key: value for key, value in ROWS[0].items() if key != column}
        with pytest.raises(TransformError, match=f"The example has no {column}"):
            of()(row)

    def test_an_answer_without_a_grade(self) -> None:
        with pytest.raises(TransformError, match="The answer of question 19 lacks "):
            of()(next(row for row in ROWS if row["question_id"] == 19) | {"answer": '{"size": 1}'})

    @pytest.mark.slow
    def test_transformers_that_is_missing(self) -> None:
        code = (
            "import sys; sys.modules['transformers'] = None\n"
            "from tokenizers import Tokenizer, models\n"
            "from reasonknee_datasets.transforms.tokenize_reasoning import TokenizeReasoning\n"
            "from reasonknee_datasets.transforms.tokenizer import NamedTokenizer\n"
            "from reasonknee_datasets.errors import MissingExtraError\n"
            "named = NamedTokenizer.of(Tokenizer(models.WordLevel({'a': 0}, 'a')), pad_token='a', chat_template='x')\n"
            "try: TokenizeReasoning(named)\n"
            "except MissingExtraError as error: print(error)"
        )
        done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.startswith("transformers is needed for chat templates")
        assert issubclass(MissingExtraError, ImportError)

    @pytest.mark.slow
    def test_importing_the_module_imports_neither(self) -> None:
        code = (
            "import sys, reasonknee_datasets.transforms.tokenize_reasoning\n"
            "sys.exit(bool({'transformers', 'tokenizers', 'torch'} & set(sys.modules)))"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_processor_provides_tokenizer_and_template() -> None:
    class Processor:
        tokenizer = wrapped(chat_template=None)
        chat_template = CHATML

    assert TokenizeReasoning(Processor())(ROWS[0]) == TokenizeReasoning(wrapped())(ROWS[0])


def test_the_words_of_the_fixture_are_qwens() -> None:
    assert "\\p{N}|" in QWEN_WORDS  # single digits, so that numbers of a box part from the characters next to them
    assert isinstance(of()._layout, Layout)
