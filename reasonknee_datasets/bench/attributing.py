"""`attribute`: one model's runs under several conditions, and where its points went."""

from __future__ import annotations

from collections.abc import Sequence

from reasonknee_datasets.bench.bootstrap import LEVEL
from reasonknee_datasets.bench.conditions import get_condition
from reasonknee_datasets.bench.evaluation import Evaluation
from reasonknee_datasets.bench.priors import read_priors
from reasonknee_datasets.bench.results import Losses, Sampling
from reasonknee_datasets.bench.run_metadata import Identity, differences
from reasonknee_datasets.bench.scoring import lost_points
from reasonknee_datasets.errors import BenchError, explain

# What another region changes, and nothing else may.
_REGION = frozenset({"condition", "frames", "box_convention", "generation.box_prompts"})


def attribute(
    region_given: Evaluation, others: Sequence[Evaluation], *, resamples: int = 2000, seed: int = 0
) -> Losses:
    """Part what a model lost into what grading lost and what the region lost.

    What is lost with the true region given is lost by grading. What another run of the same model loses beyond that
    (on its own region, or on the true one moved and scaled by known amounts), it loses because of the region.

    Parameters
    ----------
    region_given : Evaluation
        Of the run that was given the true region.
    others : sequence of Evaluation
        Of the same model on the same records: ``own_region``, ``jittered_region(shift=0.5)``, ``guided``.
    resamples, seed : int
        Of patients; all runs share the draws.

    Raises
    ------
    BenchError
        If the first was not given the true region, or another run differs from it in more than the region.
    """
    given = region_given.predictions.identity
    if given.condition is None or get_condition(given.condition).region != "true":
        remedy = "Name the run in the condition region_given first"
        raise BenchError(explain("the first run", "be given the true region", str(given.condition), remedy))
    if not others:
        raise BenchError(explain("other runs", "be given", "none", "Add the run in own_region, or a jittered_region"))
    runs = {}
    for other in others:
        identity = other.predictions.identity
        _check_same_but_region(given, identity)
        if other.truth.ids != region_given.truth.ids:
            got = f"{len(region_given.truth)} and {len(other.truth)} records that are not the same"
            raise BenchError(explain("two runs", "be of the same records", got, "Score both on the same sample"))
        name = str(identity.condition)
        if name in runs:
            raise BenchError(explain("runs", "be in different conditions", f"two in {name}", "Leave one out"))
        runs[name] = other.predictions.answers
    rows = lost_points(
        region_given.truth,
        region_given.predictions.answers,
        runs,
        priors=read_priors(region_given.repository).most_frequent,
        resamples=resamples,
        seed=seed,
    )
    sampling = Sampling(resamples, seed, LEVEL, rows[0].patients)
    return Losses(given, tuple(other.predictions.identity for other in others), sampling, rows)


def _check_same_but_region(given: Identity, other: Identity) -> None:
    found = [each for each in differences(given, other) if each.field not in _REGION]
    if found:
        shown = "; ".join(map(str, found[:10])) + (f"; and {len(found) - 10} more" if len(found) > 10 else "")
        remedy = "Ask the same model the same questions in both conditions"
        raise BenchError(
            explain(f"runs in {given.condition} and {other.condition}", "differ in the region alone", shown, remedy)
        )
    if given.condition == other.condition:
        remedy = "Add a run in own_region, jittered_region or guided"
        raise BenchError(explain("another run", "show another region", str(other.condition), remedy))
