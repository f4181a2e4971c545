"""From a study to its runs: equal budgets, seeds apart, and every network that a run needs."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pytest
from support.desk import COUNT, Desk, kinds, rows, source, study_of

from kdbench.data.datasets import DATASETS
from kdbench.data.load import TrainingData
from kdbench.methods import METHODS
from kdbench.methods.base import Incompatible, Method, Paper
from kdbench.methods.networks import Frozen, Stage, Trained
from kdbench.records.plan_file import PlanFile
from kdbench.study.load import StudyError
from kdbench.study.plan import Row
from kdbench.study.plan_file import plan_file
from kdbench.study.sampling import ROUND
from kdbench.study.schema import Entry, Study

# -- budgets and seeds


SERVING = [key for key in METHODS if key != "takd"]
#: A recipe that serves them all.
SGD = {"optimizer": "sgd", "momentum": 0.9}


def test_every_method_with_hparams_gets_the_same_trials(desk: Desk) -> None:
    assisted = {"method": "takd", "assistant": {"model": "digits-cnn-medium"}}
    study = study_of(*SERVING, assisted, recipe=SGD)
    plan = desk.plan(study)
    for entry in study.methods:
        found = rows(plan, entry.label)
        if METHODS[entry.method].searched():
            assert set(found) == {"default", "tuned"}
            trials = found["tuned"].trials
            assert [t.number for t in trials] == list(range(6))
            for trial in trials:
                assert len(trial.runs) == 1
                spec = plan.nodes[trial.runs[0]].spec
                assert (spec.recipe.epochs, spec.data.train_on, spec.seed) == (2, "fit", 100)
        else:
            assert set(found) == {"only"}
            assert not found["only"].trials


def test_trial_0_is_the_published_default(desk: Desk) -> None:
    study = study_of(*SERVING, recipe=SGD)
    plan = desk.plan(study)
    for row in plan.rows:
        if row.trials:
            spec = plan.nodes[row.trials[0].runs[0]].spec
            default = METHODS[row.method]()
            assert spec.hparams == {name: getattr(default, name) for name in default.hparams()}
            others = [plan.nodes[t.runs[0]].spec.hparams for t in row.trials[1:]]
            assert all(hparams != spec.hparams for hparams in others)
            assert len({json.dumps(k, sort_keys=True) for k in others}) == len(others)


def test_trials_stay_inside_the_ranges_and_share_their_draws(desk: Desk) -> None:
    plan = desk.plan(study_of("ce", "kd", "mse", "dkd"))
    tuned = {label: rows(plan, label)["tuned"].trials for label in ("kd", "mse", "dkd")}
    for label, trials in tuned.items():
        for trial in trials[1:]:
            for name, value in trial.hparams.items():
                limits = METHODS[label].searched()[name]
                assert limits.low <= value <= limits.high
    same = [name for name in ("temperature", "alpha") if _same_range("kd", "mse", name)]
    assert same
    for name in same:
        draws = [[t.hparams[name] for t in tuned[m][1:]] for m in ("kd", "mse")]
        assert draws[0] == draws[1]


def _same_range(one: str, other: str, name: str) -> bool:
    return METHODS[one].searched().get(name) == METHODS[other].searched().get(name)


def test_no_trial_has_a_final_seed_and_only_finals_are_scored(desk: Desk) -> None:
    plan = desk.plan(study_of("ce", "kd", "dml"))
    assert {n.spec.seed for n in kinds(plan, "trial")} == {100}
    assert {n.spec.seed for n in kinds(plan, "final")} == {0, 1, 2}
    assert not any(n.score for n in kinds(plan, "trial") + kinds(plan, "stage"))
    assert all(n.score for n in kinds(plan, "final") + kinds(plan, "teacher"))


def test_several_tuning_seeds_are_averaged(desk: Desk) -> None:
    study = study_of("ce", "kd", tune={"seeds": [100, 101], "trials": 2})
    plan = desk.plan(study)
    for number, scores in ((0, (0.9, 0.1)), (1, (0.6, 0.6))):
        runs = rows(plan, "kd")["tuned"].trials[number].runs
        for run, accuracy in zip(runs, scores, strict=True):
            desk.finish(plan.nodes[run], accuracy)
    assert rows(desk.plan(study), "kd")["tuned"].best_trial == 1


def test_finals_of_all_methods_are_paired(desk: Desk) -> None:
    plan = desk.plan(study_of("ce", "kd", "dml", "at"))
    shared = [
        {(n.spec.data, n.spec.recipe, n.spec.models["student"], n.spec.lineage)}
        for n in kinds(plan, "final")
    ]
    assert len(set.union(*shared)) == 1


def test_names_say_what_a_run_is(desk: Desk) -> None:
    study = study_of("ce", "kd")
    plan = desk.plan(study)
    names = {node.listing.name for node in plan.nodes.values()}
    assert {"ce seed 2", "kd trial 1", "kd seed 0 (default hyperparameters)"} <= names
    assert "teacher digits-cnn seed 0" in names
    assert len(names) == len(plan.nodes)


# -- hyperparameters of an entry


def test_what_an_entry_sets_stays_and_the_rest_is_tuned(desk: Desk) -> None:
    plan = desk.plan(study_of("ce", {"method": "kd", "hparams": {"temperature": 2.5}}))
    tuned = rows(plan, "kd")["tuned"]
    assert tuned.searched == ["alpha"]
    hparams = [plan.nodes[t.runs[0]].spec.hparams for t in tuned.trials]
    assert {k["temperature"] for k in hparams} == {2.5}
    assert len({k["alpha"] for k in hparams}) == len(hparams)
    assert hparams[0]["alpha"] == METHODS["kd"]().alpha


def test_an_entry_that_sets_all_is_pinned(desk: Desk) -> None:
    one = {"method": "kd", "label": "kd-t", "hparams": {"temperature": 2, "alpha": "2.5e-1"}}
    plan = desk.plan(study_of("ce", "kd", one))
    (row,) = rows(plan, "kd-t").values()
    assert row.row == "pinned"
    assert row.hparams == {"temperature": 2.0, "alpha": 0.25, "weights": "convex"}
    assert not row.trials
    assert len(row.runs) == 3


def test_where_nothing_is_tuned_values_set_by_hand_are_judged(desk: Desk) -> None:
    one = {"method": "kd", "label": "kd-t", "hparams": {"temperature": 2.0, "alpha": 0.25}}
    plan = desk.plan(study_of("ce", "kd", one, tune=None))
    for label in ("kd", "kd-t"):
        (row,) = rows(plan, label).values()
        assert (row.row, row.judged) == ("only", True)


def test_an_entry_that_sets_a_knob_that_nobody_searches_is_tuned_all_the_same(desk: Desk) -> None:
    plan = desk.plan(study_of("ce", {"method": "ban", "hparams": {"generations": 1}}))
    assert set(rows(plan, "ban")) == {"default", "tuned"}


def test_without_tuning_there_are_finals_only(desk: Desk) -> None:
    for plan in (desk.plan(study_of("ce", "kd"), tune=False), desk.plan(study_of(tune=None))):
        assert not kinds(plan, "trial")
        assert plan.open == 0
        assert {row.row for row in plan.rows} == {"only"}
        assert len(kinds(plan, "final")) == 6


def test_a_shared_learning_rate_is_tuned_for_every_method_alike(desk: Desk) -> None:
    study = study_of("ce", "kd", tune={"shared": {"lr": {"low": 1e-4, "high": 1e-1}}})
    plan = desk.plan(study)
    lrs = {}
    for label in ("ce", "kd"):
        trials = rows(plan, label)["tuned"].trials
        assert len(trials) == 6
        lrs[label] = [plan.nodes[t.runs[0]].spec.recipe.lr for t in trials]
    assert lrs["ce"] == lrs["kd"]
    assert lrs["ce"][0] == study.recipe.lr
    assert len(set(lrs["ce"])) == 6
    for trial, accuracy in zip(rows(plan, "ce")["tuned"].trials, range(6), strict=True):
        desk.finish(plan.nodes[trial.runs[0]], accuracy / 10)
    tuned = rows(desk.plan(study), "ce")["tuned"]
    again = desk.plan(study)
    assert {again.nodes[i].spec.recipe.lr for i in tuned.runs.values()} == {lrs["ce"][5]}
    assert tuned.hparams["recipe.lr"] == lrs["ce"][5]
    # The teacher's own recipe is not the method's to tune.
    assert {n.spec.recipe.lr for n in kinds(again, "teacher")} == {study.recipe.lr}


# -- choice


def tuned(desk: Desk, scores: Mapping[int, tuple[float, float] | None]) -> Row:
    study = study_of("ce", "kd", tune={"trials": len(scores)})
    trials = rows(desk.plan(study), "kd")["tuned"].trials
    plan = desk.plan(study)
    for number, score in scores.items():
        node = plan.nodes[trials[number].runs[0]]
        desk.finish(node, *(score or (0.99, 0.0)), ok=score is not None)
    return rows(desk.plan(study), "kd")["tuned"]


def test_the_best_validation_accuracy_wins(desk: Desk) -> None:
    row = tuned(desk, {0: (0.5, 1.0), 1: (0.7, 9.0), 2: (0.6, 0.1)})
    assert row.best_trial == 1
    assert row.hparams | row.trials[1].hparams == row.hparams
    assert len(row.runs) == 3


def test_ties_go_to_the_lower_nll_then_to_the_lower_number(desk: Desk) -> None:
    assert tuned(desk, {0: (0.7, 2.0), 1: (0.7, 1.0), 2: (0.7, 1.0)}).best_trial == 1


def test_a_diverged_trial_never_wins(desk: Desk) -> None:
    assert tuned(desk, {0: None, 1: (0.1, 5.0), 2: None}).best_trial == 1


def test_where_all_trials_diverged_the_row_says_so(desk: Desk) -> None:
    row = tuned(desk, {0: None, 1: None, 2: None})
    assert row.best_trial is None
    assert not row.runs
    assert "all 3 trials diverged" in (row.incompatible or "")


def test_no_final_of_tuned_hparams_before_the_last_trial(desk: Desk) -> None:
    study = study_of("ce", "kd", tune={"trials": 3})
    plan = desk.plan(study)
    trials = rows(plan, "kd")["tuned"].trials
    for trial in trials[:2]:
        desk.finish(plan.nodes[trial.runs[0]])
    plan = desk.plan(study)
    assert plan.open == 1
    assert not rows(plan, "kd")["tuned"].runs
    desk.finish(plan.nodes[trials[2].runs[0]])
    plan = desk.plan(study)
    assert plan.open == 0
    assert len(rows(plan, "kd")["tuned"].runs) == 3


def test_a_trial_whose_source_diverged_counts_as_diverged(desk: Desk) -> None:
    entry = {"method": "takd", "assistant": {"model": "digits-cnn-medium"}}
    study = study_of("ce", entry)
    plan = desk.plan(study)
    for node in kinds(plan, "teacher"):
        desk.finish(node)
    for node in kinds(plan, "stage"):
        desk.finish(node, ok=False)
    planner = desk.planner(study)
    plan = planner.plan()
    assert plan.open == 0
    assert "all 6 trials diverged" in (rows(plan, "takd")["tuned"].incompatible or "")
    default = rows(plan, "takd")["default"].incompatible or ""
    assert "diverged" in default
    assert "takd stage digits-cnn-medium kd" in default
    for node in kinds(plan, "final", "ce"):
        desk.finish(node)
        desk.store.record(node.id).score({}, {})
    for node in kinds(plan, "teacher"):
        desk.store.record(node.id).score({}, {})
    assert plan_file(planner, planner.plan()).complete


# -- tpe


def trained(desk: Desk, study: Study, stop_after: int | None = None) -> list[dict[str, float]]:
    """All points of `kd`, each round's trials finished as they are asked for."""
    done = 0
    while True:
        plan = desk.plan(study)
        trials = rows(plan, "kd")["tuned"].trials
        news = [t for t in trials if not t.finished]
        if not news:
            return [t.hparams for t in trials]
        for trial in news:
            if done == stop_after:
                return [t.hparams for t in trials]
            score = 0.9 - abs(trial.hparams["alpha"] - 0.3)
            desk.finish(plan.nodes[trial.runs[0]], score)
            done += 1


def test_tpe_reveals_its_trials_round_by_round(desk: Desk) -> None:
    study = study_of("ce", "kd", tune={"sampler": "tpe", "trials": 2 * ROUND + 1})
    assert len(rows(desk.plan(study), "kd")["tuned"].trials) == ROUND
    trained(desk, study, stop_after=ROUND - 1)
    assert len(rows(desk.plan(study), "kd")["tuned"].trials) == ROUND
    trained(desk, study, stop_after=1)
    assert len(rows(desk.plan(study), "kd")["tuned"].trials) == 2 * ROUND
    assert len(trained(desk, study)) == 2 * ROUND + 1
    assert rows(desk.plan(study), "kd")["tuned"].best_trial is not None


def test_tpe_points_do_not_depend_on_how_the_tuning_was_interrupted(
    tmp_path: Path, images: TrainingData
) -> None:
    study = study_of("ce", "kd", tune={"sampler": "tpe", "trials": 2 * ROUND})
    straight = trained(Desk(tmp_path / "straight", images), study)
    broken = Desk(tmp_path / "broken", images)
    for stop in (1, 2, 1, 3):
        trained(broken, study, stop_after=stop)
    assert trained(broken, study) == straight


# -- ids: an edited study never mixes with its past


@pytest.mark.parametrize(
    "parts",
    [
        {"recipe": {"epochs": 5}},
        {"recipe": {"lr": 0.02}},
        {"recipe": {"batch": 32}},
        {"recipe": {"optimizer": "sgd"}},
        {"recipe": {"schedule": "cosine"}},
        {"recipe": {"precision": "bf16"}},
        {"recipe": {"teacher_outputs": "live"}},
        {"recipe": {"storage": "fp16"}},
        {"data": {"validation": 100}},
        {"data": {"augment": "flip"}},
        {"student": {"model": "digits-cnn-medium"}},
    ],
    ids=str,
)
def test_what_matters_gives_new_ids(desk: Desk, parts: dict) -> None:
    before, after = desk.plan(study_of()), desk.plan(study_of(**parts))
    finals = {n.id for n in kinds(before, "final")} & {n.id for n in kinds(after, "final")}
    assert not finals


@pytest.mark.parametrize(
    "parts",
    [
        {"name": "other"},
        {"question": "What else?"},
        {"report": {"reference": "kd", "margin": 0.5}},
        {"final": {"seeds": [0, 1, 2, 3]}},
        {"recipe": {"momentum": 0.5, "gamma": 0.5}},
    ],
    ids=str,
)
def test_what_does_not_matter_keeps_the_runs(desk: Desk, parts: dict) -> None:
    before, after = desk.plan(study_of("ce", "kd")), desk.plan(study_of("ce", "kd", **parts))
    assert set(before.nodes) <= set(after.nodes)


def test_another_teacher_gives_new_students_except_of_methods_without(desk: Desk) -> None:
    before = desk.plan(study_of("ce", "kd"))
    for parts in ({"model": "digits-cnn-medium"}, {"seed": 1}, {"method": "label-smoothing"}):
        after = desk.plan(study_of("ce", "kd", teacher=parts))
        same = {n.listing.label for n in kinds(after, "final") if n.id in before.nodes}
        assert same == {"ce"}


def test_a_new_version_of_a_method_gives_new_runs(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = desk.plan(study_of("ce", "kd"))
    monkeypatch.setattr(METHODS["kd"], "version", 99)
    after = desk.plan(study_of("ce", "kd"))
    assert {n.listing.label for n in after.nodes.values() if n.id in before.nodes} == {
        "ce",
        "teacher",
    }


def test_the_plan_file_names_only_what_the_study_now_reads(desk: Desk) -> None:
    planner = desk.planner(study_of("ce", "kd", "at"))
    first = plan_file(planner, planner.plan())
    for node in planner.plan().nodes.values():
        desk.finish(node)
    edited = desk.planner(study_of("ce", "kd", recipe={"lr": 0.02}))
    second = plan_file(edited, edited.plan())
    assert not set(first.listing) & set(second.listing)
    assert not second.complete
    named = {run for row in second.rows for run in row.runs.values()}
    assert named <= set(second.listing)
    json.dumps(second.to_dict(), allow_nan=False)


# -- papers

SOURCE = {"authors": "Rossi, Ada", "title": "A Table", "venue": "A Journal", "year": 2024}
FIRST = {"reference": "ce", "margin": 0.2, "test": "paired-t"}
NUMBER = {"label": "theirs", "accuracy": 70, "cite": "rossi2024table"}


def written(desk: Desk, study: Study) -> PlanFile:
    planner = desk.planner(study)
    return plan_file(planner, planner.plan())


def test_the_plan_file_names_exactly_the_papers_in_use(desk: Desk) -> None:
    entry = {"method": "takd", "assistant": {"model": "wrn-16-1"}}
    report = {"reference": "ce", "published": [NUMBER], "sources": {"rossi2024table": SOURCE}}
    study = study_of(
        "ce", "hint", "feature-mse", entry, teacher={"model": "resnet8"}, report=report
    )
    found = written(desk, study)
    assert set(found.references) == {
        *{METHODS[key].paper.key for key in ("ce", "hint", "takd")},
        *("alpaydin1998optical", "he2016deep", "zagoruyko2016wide", "rossi2024table"),
        "smyth2004linear",
    }
    assert list(found.references) == sorted(found.references)
    assert found.references["rossi2024table"] == {**SOURCE, "kind": "misc", "url": None}
    assert found.cites == {
        "data": "alpaydin1998optical",
        "models": {"resnet8": "he2016deep", "wrn-16-1": "zagoruyko2016wide"},
    }
    assert {row.cite for row in found.rows} <= set(found.references)
    assert found.published == ({**NUMBER, "seeds": None, "note": ""},)


def test_data_and_models_without_a_paper(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = dataclasses.replace(DATASETS["digits"], paper=None)  # type: ignore[type-var]
    monkeypatch.setitem(DATASETS, "digits", bare)
    found = written(desk, study_of("ce"))
    assert found.cites == {"data": None, "models": {}}
    assert set(found.references) == {METHODS["ce"].paper.key, "smyth2004linear"}
    assert found.published == ()


def test_two_papers_under_one_key_are_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    other = dataclasses.replace(METHODS["kd"].paper, title="Another")
    monkeypatch.setattr(METHODS["dml"], "paper", other)
    with pytest.raises(StudyError, match=r"two papers .*'hinton2015distilling'.*'Another'"):
        study_of("ce", "kd", "dml")


def test_words_and_copied_numbers_are_no_part_of_the_hash(desk: Desk) -> None:
    report = {"reference": "ce", "published": [NUMBER], "sources": {"rossi2024table": SOURCE}}
    report["images"] = "CC BY 4.0"
    plain = written(desk, study_of()).hash
    assert written(desk, study_of(question="Why?", report=report)).hash == plain
    assert written(desk, study_of(report={"reference": "kd"})).hash != plain
    assert written(desk, study_of(report={"reference": "ce", "margin": 0.5})).hash != plain


# -- precision by entry


def test_an_entry_may_have_a_precision_of_its_own(desk: Desk) -> None:
    bf16 = {"method": "ban", "label": "ban-bf16", "precision": "bf16"}
    plan = desk.plan(study_of("ce", "ban", bf16))
    for label, precision in (("ce", "fp32"), ("ban", "fp32"), ("ban-bf16", "bf16")):
        mine = [n for n in plan.nodes.values() if n.listing.label == label]
        assert {n.spec.recipe.precision for n in mine} == {precision}
        assert {n.listing.kind for n in mine} >= {"final"}
    # Its trials and earlier generations too; the study's teacher is everybody's.
    assert {n.listing.kind for n in plan.nodes.values() if n.listing.label == "ban-bf16"} == {
        "final",
        "trial",
        "stage",
    }
    teachers = kinds(plan, "teacher")
    assert {n.spec.recipe.precision for n in teachers} == {"fp32"}
    assert len(teachers) == 1


def test_the_plan_file_has_the_precision_that_is_not_the_recipe_s(desk: Desk) -> None:
    fp32, bf16 = ({"method": "kd", "label": f"kd-{p}", "precision": p} for p in ("fp32", "bf16"))
    plan = written(desk, study_of("ce", fp32, bf16))
    found = {row["label"]: row.get("precision") for row in plan.to_dict()["rows"]}
    assert found == {"ce": None, "kd-fp32": None, "kd-bf16": "bf16"}
    assert PlanFile.from_dict(json.loads(json.dumps(plan.to_dict()))).rows == plan.rows


def test_a_precision_that_says_what_the_recipe_says_is_the_same_run(desk: Desk) -> None:
    one = desk.plan(study_of("ce", "kd"))
    other = desk.plan(study_of("ce", {"method": "kd", "label": "kd", "precision": "fp32"}))
    assert set(one.nodes) == set(other.nodes)


def test_the_hash_and_the_ids_of_a_study_stay_as_they_are(desk: Desk) -> None:
    """Records and reports of a study are found again by them. The test of differences has
    another default than the first reports had."""
    first = written(desk, study_of(report=FIRST)).hash
    assert first == "0321bb450c58"
    assert written(desk, study_of()).hash != first
    assert sorted(n.id for n in kinds(desk.plan(study_of()), "final", "ce")) == [
        "0fba887c3d12",
        "2e80777eec0f",
        "b32f72711c20",
    ]
    assert written(desk, study_of(recipe={"storage": "fp16"}, report=FIRST)).hash != first
    other = {"method": "kd", "label": "kd", "precision": "bf16"}
    assert written(desk, study_of("ce", other, report=FIRST)).hash != first


def test_the_plan_says_which_test_judges(desk: Desk) -> None:
    moderated, paired = written(desk, study_of()), written(desk, study_of(report=FIRST))
    assert (moderated.test, paired.test) == ("moderated-t", "paired-t")
    assert "smyth2004linear" in moderated.references
    assert "smyth2004linear" not in paired.references
    for plan in (moderated, paired):
        assert PlanFile.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan
    with pytest.raises(StudyError, match=r"report\.test: unknown test 'welch'"):
        study_of(report={**FIRST, "test": "welch"})


# -- how frozen networks are asked


def test_the_plan_says_how_frozen_networks_are_asked(desk: Desk) -> None:
    long = {"epochs": 54}
    for augment, recipe, way in (
        ("none", {}, "cache"),
        ("flip", {}, "cache"),
        ("crop-flip", {}, "live"),
        ("crop-flip", long, "cache"),
        ("none", {"teacher_outputs": "live"}, "live"),
    ):
        study = study_of("ce", "kd", "ensemble", data={"augment": augment}, recipe=recipe)
        planned = written(desk, study).rows
        ways = {row.label: row.outputs for row in planned if row.row != "tuned"}
        assert ways["ce"] == {}
        assert ways["kd"] == {"teacher": way}
        assert set(ways["ensemble"].values()) == {way}
        assert len(ways["ensemble"]) == 3
        # Trials are shorter, so that a table of all views may not be worth its making.
        trials = next(r.outputs for r in planned if r.row == "tuned" and r.label == "kd")
        assert trials == {"teacher": "live" if augment == "crop-flip" else way}


def test_what_the_whole_plan_reads_of_each_frozen_network(desk: Desk) -> None:
    planner = desk.planner(study_of("ce", "kd", "hint", "at", recipe={"teacher_outputs": "cache"}))
    plan = planner.plan()
    read = planner.outputs.layers_read(plan)
    assert set(read) == set(plan.teachers.values())
    (layers,) = read.values()
    for label in ("hint", "at"):
        node = kinds(plan, "final", label)[0]
        method = METHODS[node.spec.method](**node.spec.hparams)
        assert all(any(fnmatch(layer, wanted) for layer in layers) for wanted in method.layers())
    live = desk.planner(study_of("ce", "kd", recipe={"teacher_outputs": "live"}))
    assert live.outputs.layers_read(live.plan()) == {}


# -- teachers and stages


def test_a_fixed_teacher_serves_all_seeds_and_per_seed_teachers_one_each(desk: Desk) -> None:
    plan = desk.plan(study_of("ce", "kd"))
    assert len(kinds(plan, "teacher")) == 1
    assert {source(plan, n).id for n in kinds(plan, "final", "kd")} == set(plan.teachers.values())
    plan = desk.plan(study_of("ce", "kd", teacher={"seed": "per-seed"}))
    assert len(plan.teachers) == 3
    for node in kinds(plan, "final", "kd") + kinds(plan, "trial", "kd"):
        assert source(plan, node).spec.seed == node.spec.seed
        assert source(plan, node).spec.models == {"student": "digits-cnn"}
    assert {n.spec.seed for n in kinds(plan, "teacher")} == {0, 1, 2, 100}


def test_finals_trained_on_all_have_a_teacher_of_their_own_trained_on_all(desk: Desk) -> None:
    plan = desk.plan(study_of("ce", "kd", final={"train_on": "all"}))
    assert len(kinds(plan, "teacher")) == 2
    for node in kinds(plan, "final"):
        assert node.spec.data.train_on == "all"
        for role in node.spec.frozen_runs:
            assert source(plan, node, role).spec.data.train_on == "all"
    for node in kinds(plan, "trial", "kd"):
        assert node.spec.data.train_on == "fit"
        assert source(plan, node).spec.data.train_on == "fit"
    assert len({n.listing.name for n in kinds(plan, "teacher")}) == 2
    scored = {n.id for n in kinds(plan, "teacher") if n.score}
    assert scored == set(plan.teachers.values())


def test_ban_is_a_chain_of_own_seeds_and_distinct_lineages(desk: Desk) -> None:
    entry = {"method": "ban", "hparams": {"generations": 3, "temperature": 2, "alpha": 0.3}}
    plan = desk.plan(study_of("ce", entry))
    for node in kinds(plan, "final", "ban"):
        chain = [node]
        while chain[-1].spec.frozen_runs:
            chain.append(source(plan, chain[-1]))
        assert [n.spec.method for n in chain] == ["ban", "ban", "ban", "ce"]
        assert [n.spec.hparams.get("generations") for n in chain] == [3, 2, 1, None]
        assert {n.spec.seed for n in chain} == {node.spec.seed}
        assert len({n.spec.lineage for n in chain}) == 4
        assert node.spec.lineage == 0
        assert {n.spec.models["student"] for n in chain} == {"digits-cnn-small"}
        # Earlier generations take the published hyperparameters and the whole recipe.
        assert chain[1].spec.hparams["temperature"] == METHODS["ban"]().temperature
        assert {n.spec.recipe for n in chain} == {node.spec.recipe}


def test_the_trials_of_ban_share_one_earlier_generation(desk: Desk) -> None:
    plan = desk.plan(study_of("ce", "ban"))
    trials = kinds(plan, "trial", "ban")
    assert len({n.spec.frozen_runs["teacher"] for n in trials}) == 1
    assert source(plan, trials[0]).spec.recipe.epochs == 4  # a stage is never a short one


def test_the_assistant_learns_from_the_studys_teacher(desk: Desk) -> None:
    entry = {"method": "takd", "assistant": {"model": "digits-cnn-medium"}}
    plan = desk.plan(study_of("ce", entry))
    for node in kinds(plan, "final", "takd"):
        assistant = source(plan, node)
        assert assistant.spec.models["student"] == "digits-cnn-medium"
        assert assistant.spec.method == "kd"
        default = METHODS["kd"]()
        assert assistant.spec.hparams == dataclasses.asdict(default)
        assert assistant.spec.frozen_runs["teacher"] in plan.teachers.values()
        assert node.listing.teacher in plan.teachers.values()


def test_ensemble_members_are_the_teacher_and_others_of_distinct_lineage(desk: Desk) -> None:
    plan = desk.plan(study_of("ce", "ensemble"))
    node = kinds(plan, "final", "ensemble")[0]
    members = [plan.nodes[i] for i in node.spec.frozen_runs.values()]
    assert len(members) == 3
    assert members[0].id in plan.teachers.values()
    assert len({n.spec.lineage for n in members}) == 3
    assert {n.spec.models["student"] for n in members} == {"digits-cnn"}
    # All students learn from the same members.
    assert len({tuple(n.spec.frozen_runs.items()) for n in kinds(plan, "final", "ensemble")}) == 1


def test_ensemble_members_are_trained_as_the_studys_teacher_is(desk: Desk) -> None:
    plan = desk.plan(study_of("ce", "ensemble", teacher={"method": "label-smoothing"}))
    node = kinds(plan, "final", "ensemble")[0]
    members = [plan.nodes[i].spec for i in node.spec.frozen_runs.values()]
    assert {m.method for m in members} == {"label-smoothing"}


def test_a_teacher_that_is_stopped_early_has_a_share_of_the_epochs(desk: Desk) -> None:
    every = {"method": "eskd", "label": "every-epoch", "hparams": {"teacher_epochs": 1}}
    none = {"method": "eskd", "label": "one-epoch", "hparams": {"teacher_epochs": 0.001}}
    half = {"method": "eskd", "label": "half", "hparams": {"teacher_epochs": 0.5}}
    study = study_of("ce", every, half, none, teacher={"method": "label-smoothing"})
    plan = desk.plan(study)
    epochs = {}
    for label in ("every-epoch", "half", "one-epoch"):
        (teacher,) = {source(plan, n).id for n in kinds(plan, "final", label)}
        spec = plan.nodes[teacher].spec
        whole = dataclasses.replace(spec.recipe, epochs=study.recipe.epochs)
        assert whole == study.recipe.resolve()
        assert (spec.models["student"], spec.method) == ("digits-cnn", "label-smoothing")
        epochs[label] = spec.recipe.epochs
        assert (teacher in plan.teachers.values()) == (label == "every-epoch")
    assert epochs == {"every-epoch": 4, "half": 2, "one-epoch": 1}
    for trial in kinds(plan, "trial", "half"):  # as long in tuning, whose own runs are shorter
        assert source(plan, trial).spec.recipe.epochs == 2
        assert trial.spec.recipe.epochs == 2


def test_an_entry_may_fill_the_teachers_slot(desk: Desk) -> None:
    plan = desk.plan(
        study_of("ce", "kd", {"method": "ensemble", "teacher": {"model": "digits-cnn-medium"}})
    )
    node = kinds(plan, "final", "ensemble")[0]
    members = [plan.nodes[i] for i in node.spec.frozen_runs.values()]
    assert {n.spec.models["student"] for n in members} == {"digits-cnn-medium"}
    assert not {n.id for n in members} & set(plan.teachers.values())
    assert len({n.spec.lineage for n in members}) == 3
    assert all(source(plan, n).id in plan.teachers.values() for n in kinds(plan, "final", "kd"))


def test_a_born_again_teacher_has_earlier_generations_of_its_own_kind(desk: Desk) -> None:
    plan = desk.plan(study_of("ce", "kd", teacher={"method": "ban"}))
    (teacher,) = {plan.nodes[i].id for i in plan.teachers.values()}
    node = plan.nodes[teacher]
    while node.spec.frozen_runs:
        assert node.spec.models["student"] == "digits-cnn"
        node = source(plan, node)
    assert node.spec.models["student"] == "digits-cnn"


def test_a_teacher_of_the_students_kind_is_not_the_student_itself(desk: Desk) -> None:
    plan = desk.plan(study_of("ce", "kd", teacher={"model": "digits-cnn-small", "seed": 0}))
    (teacher,) = set(plan.teachers.values())
    for node in kinds(plan, "final"):
        assert node.id != teacher
        starts = (node.spec.seed, node.spec.lineage)
        assert starts != (plan.nodes[teacher].spec.seed, plan.nodes[teacher].spec.lineage)


@dataclass(frozen=True)
class Looped(Method):
    """Needs a run of itself, which no order of training can give."""

    paper = Paper("nobody2000", "Nobody", "Nothing", "Nowhere", 2000)

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen(Stage("student", "looped"))}


@dataclass(frozen=True)
class NeedsTeacher(Looped):
    """Learns from the study's teacher, which here is trained by it."""

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}


@dataclass(frozen=True)
class Refusing(Looped):
    """Serves no pair."""

    def networks(self):
        return {"student": Trained("student")}

    def helpers(self, shapes):
        raise Incompatible("channel counts differ")


def registered(monkeypatch: pytest.MonkeyPatch, key: str, kind: type[Method]) -> Entry:
    monkeypatch.setitem(METHODS, key, kind)
    return Entry.model_construct(method=key, label=key, hparams={}, slots={})


def test_a_cycle_of_stages_is_an_error(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    looped = registered(monkeypatch, "looped", Looped)
    study = study_of("ce").model_copy(update={"methods": (looped,)})
    with pytest.raises(StudyError, match=r"needs itself.*looped -> looped"):
        desk.plan(study)


def test_a_teacher_that_needs_the_teacher_is_an_error(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered(monkeypatch, "needs", NeedsTeacher)
    study = study_of("ce")
    teacher = study.teacher.model_copy(update={"method": "needs"})
    with pytest.raises(StudyError, match=r"needs itself.*needs -> needs"):
        desk.plan(study.model_copy(update={"teacher": teacher}))


# -- methods that cannot serve


def test_a_method_that_cannot_serve_gives_its_reason(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing = registered(monkeypatch, "refusing", Refusing)
    study = study_of("ce", "kd")
    plan = desk.plan(study.model_copy(update={"methods": (*study.methods, refusing)}))
    (row,) = rows(plan, "refusing").values()
    assert row.incompatible == "channel counts differ"
    assert not row.runs
    assert not row.trials
    assert not kinds(plan, "final", "refusing")


def test_a_tap_that_somebody_asked_for_and_the_model_lacks_is_an_error(desk: Desk) -> None:
    with pytest.raises(StudyError) as raised:
        desk.plan(study_of("ce", {"method": "hint", "hparams": {"layer": "stage9"}}))
    for word in ("hint", "digits-cnn", "'stage9'", "stage1", "embedding"):
        assert word in str(raised.value)


def test_a_tap_that_the_method_itself_wants_is_a_reason(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(METHODS["rkd"], "layers", lambda self: ("stage9",))
    for entry in ("rkd", {"method": "rkd", "hparams": {"angle_weight": 1.0}}):
        plan = desk.plan(study_of("ce", entry))
        (row,) = rows(plan, "rkd").values()
        assert "no layer 'stage9'" in (row.incompatible or "")


@pytest.mark.parametrize("held_out", [3, COUNT - 3, COUNT, 10 * COUNT])
def test_a_validation_part_that_cannot_be_had_is_an_error(desk: Desk, held_out: int) -> None:
    with pytest.raises(StudyError, match=rf"data\.validation: .*{held_out}"):
        desk.planner(study_of("ce", data={"validation": held_out}))


def test_planning_writes_nothing(desk: Desk) -> None:
    planner = desk.planner(study_of("ce", "kd", "ban"))
    plan_file(planner, planner.plan())
    assert list(desk.store.root.iterdir()) == []


def test_planning_twice_gives_the_same(desk: Desk) -> None:
    study = study_of("ce", "kd", "ban", "ensemble")
    first, second = desk.plan(study), desk.plan(study)
    assert list(first.nodes) == list(second.nodes)
    assert first.rows == second.rows


def test_a_question_with_an_address_is_kept_without_its_password(
    tmp_path: Path, images: TrainingData
) -> None:
    planner = Desk(tmp_path, images).planner(study_of(question="As at http://me:hush@host/x?"))
    assert plan_file(planner, planner.plan()).question == "As at http://***@host/x?"
