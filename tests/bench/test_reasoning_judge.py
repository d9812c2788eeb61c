"""Reasoning in logs of inspect_ai: kept apart by the provider, in think tags, and judged by another model."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from reasonknee_datasets.bench.conditions import get_condition
from reasonknee_datasets.bench.evaluation import ReadOptions, evaluate
from reasonknee_datasets.bench.run_spec import RunSpec, make_study
from tests.helpers.scripted_model import Asked, Scripted, scripted

from inspect_ai import eval as inspect_eval  # isort: skip  # after scripted_model, which skips without it
from inspect_ai.log import read_eval_log  # isort: skip
from inspect_ai.model import (  # isort: skip
    ChatCompletionChoice,
    ChatMessageAssistant,
    ContentReasoning,
    ContentText,
    ModelOutput,
    get_model,
)

from reasonknee_datasets.bench.task_scorers import JUDGE_PROMPT  # isort: skip
from reasonknee_datasets.bench.tasks import make_task  # isort: skip

pytestmark = pytest.mark.slow

_THOUGHTS = "The Hoffa fat pad is dark. The Hoffa-synovitis is grade 0."
_ANSWER = '{"MOAKS_scores": {"Hoffa-Synovitis": {"grade": 0}}}'


@pytest.fixture(scope="module")
def study(prepared: Path) -> RunSpec:
    return make_study(prepared, get_condition("text_only"), questions=[42])


def _apart(request: Asked) -> ModelOutput:
    content = [ContentReasoning(reasoning=_THOUGHTS), ContentText(text=_ANSWER)]
    message = ChatMessageAssistant(content=content, model="m", source="generate")
    return ModelOutput(model="m", choices=[ChatCompletionChoice(message=message, stop_reason="stop")])


@pytest.mark.parametrize(
    ("answer", "grounding"),
    [
        (_apart, 1.0),
        (lambda request: f"<think>{_THOUGHTS}</think>{_ANSWER}", 1.0),
        (lambda request: f"{_THOUGHTS}\n{_ANSWER}", 1.0),
        (lambda request: _ANSWER, None),
    ],
    ids=["apart", "tags", "text", "none"],
)
def test_evaluate_log_with_reasoning(answer: object, grounding: float | None, study: RunSpec, tmp_path: Path) -> None:
    (log,) = inspect_eval(
        make_task(study), model=scripted(answer), log_dir=str(tmp_path), log_format="eval", display="none"
    )
    assert log.status == "success"
    done = evaluate(log.location, study.repository, options=ReadOptions(questions=(42,)), resamples=0)
    scores = done.results.reasoning
    if grounding is None:
        assert scores is None
        return
    assert scores is not None
    assert scores.with_reasoning == scores.records > 0
    assert {name: scores.metrics[name].value.value for name in ("consistency", "coverage", "grounding")} == {
        "consistency": 1.0,
        "coverage": 1.0,
        "grounding": grounding,
    }
    assert scores.unseparated == 0


def test_judge_reads_reasoning_and_is_recorded(study: RunSpec, tmp_path: Path) -> None:
    asked: list[str] = []

    def judge(request: Asked) -> str:
        asked.append(request.text)
        return "It follows.\nGRADE: C" if len(asked) % 2 else "It does not.\nGRADE: I"

    api = get_model("scripted/judge").api
    assert isinstance(api, Scripted)
    api.answer = judge
    (log,) = inspect_eval(
        make_task(study, judge="scripted/judge"),
        model=scripted(_apart),
        log_dir=str(tmp_path),
        log_format="eval",
        display="none",
        max_samples=1,
    )
    assert log.status == "success", log.error
    assert len(asked) == len(study.records)
    assert all(_THOUGHTS in text and _ANSWER in text for text in asked)
    assert log.results is not None
    by_name = {score.name: score for score in log.results.scores}
    right = (len(asked) + 1) // 2
    assert by_name["reasoning_judge"].metrics["accuracy"].value == pytest.approx(right / len(asked))
    assert set(by_name) == {"grades", "reasoning_judge"}
    stated = (read_eval_log(log.location, header_only=True).eval.metadata or {})["reasoning_judge"]
    assert stated["model"] == "scripted/judge"
    assert stated["prompt"] == JUDGE_PROMPT
    assert stated["prompt_sha256"] == hashlib.sha256(JUDGE_PROMPT.encode()).hexdigest()
    # The judge changes no grade, and no number of the report.
    done = evaluate(log.location, study.repository, options=ReadOptions(questions=(42,)), resamples=0)
    assert done.problems == ()
    assert done.results.reasoning is not None


def test_no_judge_by_default(study: RunSpec) -> None:
    assert "reasoning_judge" not in (make_task(study).metadata or {})
