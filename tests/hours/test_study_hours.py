"""The hours of a study: its plan's runs, each with its steps."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support import crash

from kdbench.data import TrainingData
from kdbench.hours.cards import CARDS
from kdbench.hours.study import Part, StudyHours, epoch_steps, study_hours
from kdbench.methods import METHODS
from kdbench.records.plan_file import PlanFile
from kdbench.records.store import Store
from kdbench.study.load import parse_study
from kdbench.study.planner import Planner
from kdbench.training.context import TrainingContext
from kdbench.training.examples import examples_of, steps_of

Hours = Callable[..., StudyHours]
PLAIN = {"tune": None, "methods": ["ce", "kd"]}


@pytest.fixture
def hours(tmp_path: Path, digits: TrainingData) -> Hours:
    """The hours of the crash test's study with changes made."""

    def of(card: str = "cpu", workers: int = 1, most: int = 12, **changes: Any) -> StudyHours:
        renamed = {key.replace("__", "."): value for key, value in changes.items()}
        study = parse_study(crash.STUDY, "crash", renamed)
        planner = Planner(study, digits, Store(tmp_path))
        return study_hours(planner, CARDS[card], workers, most)

    return of


def seconds(of: StudyHours) -> dict[str, float]:
    return {part.name: part.seconds for part in of.parts}


@pytest.mark.parametrize("card", ["cpu", "h100"])
def test_more_epochs_take_longer(hours: Hours, card: str) -> None:
    totals = [sum(seconds(hours(card, recipe__epochs=n)).values()) for n in (1, 3, 9)]
    assert totals == sorted(set(totals))


def test_on_a_cpu_a_run_takes_its_epochs(hours: Hours) -> None:
    once, thrice = (seconds(hours(recipe__epochs=n, **PLAIN)) for n in (2, 6))
    assert thrice["finals"] == pytest.approx(3 * once["finals"])
    assert thrice["teachers"] == pytest.approx(3 * once["teachers"])


def test_runs_add_up(hours: Hours) -> None:
    every = hours(**PLAIN)
    each = [seconds(hours(final__seeds=[seed], **PLAIN))["finals"] for seed in (0, 1, 2)]
    assert seconds(every)["finals"] == pytest.approx(sum(each))
    ce, kd, dml, both = (
        seconds(hours(tune=None, methods=["ce", *more]))["finals"]
        for more in ([], ["kd"], ["dml"], ["kd", "dml"])
    )
    assert both - kd == pytest.approx(dml - ce)
    assert dml > 3 * ce  # two students beside the one


def test_the_runs_are_those_that_the_study_makes(hours: Hours, reference_root: Path) -> None:
    plan = PlanFile.load(Store(reference_root).plan_path("crash"))
    assert plan is not None
    made = Counter(run.kind for run in plan.listing.values())
    found = {part.name: part.runs for part in hours().parts}
    assert found["teachers"] == made["teacher"]
    assert found["earlier stages"] == made["stage"]
    # What tuning chooses may be the default, whose runs are then the default's own.
    assert made["trial"] <= found["tuning"] <= made["trial"] + 2
    assert made["final"] <= found["finals"] <= made["final"] + 6


def test_the_second_stage_of_tuning_and_what_its_seeds_need(hours: Hours) -> None:
    one_stage = hours(methods=["ce", "kd"])
    confirm = {"points": 1, "seeds": [101, 102]}
    two = hours(methods=["ce", "kd"], tune__confirm=confirm)
    runs = [{p.name: p.runs for p in each.parts}["tuning"] for each in (one_stage, two)]
    assert runs == [3, 3 + 2 * 2]
    assert seconds(two)["tuning"] == pytest.approx(seconds(one_stage)["tuning"] * 7 / 3)
    ban = ["ce", "ban"]
    runs = [
        {p.name: p.runs for p in each.parts}["tuning"]
        for each in (hours(methods=ban), hours(methods=ban, tune__confirm=confirm))
    ]
    assert runs[1] - runs[0] == 2 * 2 + 2 * 2  # two generations before for each seed


def test_later_looks_are_the_seeds_that_the_first_has_not(hours: Hours) -> None:
    seeds = [*range(6)]
    split = hours(**PLAIN, final__seeds=seeds, final__looks=[3, 6])
    whole = hours(**PLAIN, final__seeds=seeds)
    assert seconds(split)["finals"] == pytest.approx(seconds(whole)["finals"] / 2)
    (later,) = split.later
    assert later.seconds == pytest.approx(seconds(split)["finals"])
    assert split.cache_bytes == whole.cache_bytes


def test_caches_have_a_row_for_every_view_of_every_image(
    hours: Hours, digits: TrainingData
) -> None:
    rows = 4 * len(digits.labels) * 10
    of_one_teacher = hours(**PLAIN, final__train_on="fit")
    assert of_one_teacher.cache_bytes == rows
    flipped = hours(**PLAIN, final__train_on="fit", data__augment="flip")
    assert flipped.cache_bytes == 2 * rows
    halves = hours(**PLAIN, final__train_on="fit", recipe__storage="fp16")
    assert halves.cache_bytes == rows // 2


def test_a_live_teacher_is_shared(hours: Hours) -> None:
    live = {"tune": None, "methods": ["ce", "kd", "dkd"], "recipe__teacher_outputs": "live"}
    shared, alone = (seconds(hours(most=n, **live)) for n in (12, 1))
    cached = seconds(hours(**{**live, "recipe__teacher_outputs": "cache"}))
    asked = alone["finals"] - cached["finals"]
    assert shared["finals"] - cached["finals"] == pytest.approx(asked / 2)
    assert hours(**live).cache_bytes == 0


def test_workers_share_the_runs_but_not_the_longest() -> None:
    part = Part("finals").with_runs(3600, 3).with_runs(7200)
    assert (part.runs, part.hours(1), part.hours(2)) == (4, 5, 2.5)
    assert part.hours(100) == 2


@pytest.mark.parametrize("changes", [{}, {"data.labelled": 30}, {"final.train_on": "all"}], ids=str)
def test_an_epoch_has_as_many_steps_as_in_training(
    changes: dict[str, Any], digits: TrainingData, tmp_path: Path
) -> None:
    study = parse_study(crash.STUDY, "crash", {"tune": None, "methods": ["ce", "kd"], **changes})
    planner = Planner(study, digits, Store(tmp_path))
    context = TrainingContext(planner.store, digits, torch.device("cpu"))
    for node in planner.plan().nodes.values():
        steps = steps_of(node.spec, examples_of(node.spec, context), 0)
        # Methods that learn nothing from images without labels are not shown them.
        ratio = steps.ratio if METHODS[node.spec.method].unlabelled else 0
        count = epoch_steps(node.spec, len(digits.labels))
        assert count == (steps.count, steps.size * (1 + ratio))


def test_a_pinned_reference_has_the_seeds_of_later_looks(hours: Hours) -> None:
    seeds = [*range(6)]
    reference = {"method": "kd", "hparams": {"alpha": 0.5, "temperature": 2.0}}
    study = {"tune": None, "methods": ["ce", reference], "report__reference": "kd"}
    split = hours(**study, final__seeds=seeds, final__looks=[3, 6])
    whole = hours(**study, final__seeds=seeds)
    (later,) = split.later
    assert seconds(split)["finals"] + later.seconds == pytest.approx(seconds(whole)["finals"])
