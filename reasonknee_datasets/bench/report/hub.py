"""The Hub's evaluation results: what goes into ``.eval_results/`` of a model's repository."""

from __future__ import annotations

from reasonknee_datasets.bench.report.numbers import number
from reasonknee_datasets.bench.results import TOTALS, Results
from reasonknee_datasets.errors import BenchError, explain

DATASET = "rajpurkarlab/3DReasonKnee"


def to_eval_results(results: Results, *, dataset_id: str = DATASET) -> str:
    """Write the four totals, and the mean IoU where there are boxes, as the Hub's evaluation-results YAML.

    Parameters
    ----------
    results : Results
    dataset_id : str
        The benchmark's repository on the Hub.

    Raises
    ------
    BenchError
        If the results are of synthetic data: no leaderboard should ever hold those.

    Notes
    -----
    Format: https://huggingface.co/docs/hub/eval-results, through ``huggingface_hub``'s own entries. The revision there
    is a commit of the Hub; the digest of the prepared repository stands in the notes.
    """
    import yaml
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    identity = results.identity
    if identity is None or identity.synthetic is not False:
        got = "an unknown origin" if identity is None or identity.synthetic is None else "synthetic data"
        raise BenchError(
            explain("results for the Hub", "be of real data", got, "results.json holds them for your own use")
        )
    scores = results.group().totals["wrong"].metrics
    values = {name: scores[name] for name in TOTALS}
    boxes = results.group().localisation
    if boxes is not None:
        values["iou"] = boxes.units["record"]["iou"]
    entries = []
    for name, value in values.items():
        if value.value is None:
            continue
        interval = f"95 % interval {number(value.low)} to {number(value.high)}; " if value.low is not None else ""
        notes = (
            f"{interval}{identity.condition or 'condition not stated'}; split {identity.split}, "
            f"{identity.records} records of {identity.patients} patients; prepared repository "
            f"{identity.dataset_revision}; reasonknee_datasets {identity.package_version}"
        )
        entries.append(EvalResultEntry(dataset_id=dataset_id, task_id=name, value=round(value.value, 6), notes=notes))
    return str(yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False))
