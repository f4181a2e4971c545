"""A row's tuning as an Optuna study: its trials with their curves and times, and which of them was
chosen, by which rule.

optuna-dashboard calls the trial with the highest value the best one, and where values are equal
the first. That need not be the trial that was chosen.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from kdbench.records.measures import MEASURES
from kdbench.records.plan_file import PlanFile, PlannedTrial, PlanRow
from kdbench.records.store import Store
from kdbench.tracking.known import mlflow_run
from kdbench.tracking.links import run_page, server
from kdbench.tracking.optuna_storage import experimental
from kdbench.tracking.payload import end_of, start_of

if TYPE_CHECKING:
    import optuna

#: optuna-dashboard's attributes for the note of a study, and the most characters of one part.
NOTE, NOTE_VERSION, NOTE_PART = "dashboard:note_str:", "dashboard:note_ver", 2045


@dataclass(frozen=True)
class Tuning:
    """The tuning of a row that has ended, of the study whose plan this is."""

    plan: PlanFile
    row: PlanRow

    @property
    def name(self) -> str:
        """The name of its Optuna study."""
        return f"{self.plan.study}/{self.row.label}"

    @property
    def note(self) -> str:
        """Which trial was chosen, by which rule; Markdown."""
        words, tune, row = MEASURES[self.plan.measure].words, self.plan.tune, self.row
        if row.best_trial is None:
            return f"No trial was chosen: {row.incompatible}."
        rule = (
            f"highest validation {words}, the mean over the tuning seeds; then lower validation "
            "NLL; then lower number"
        )
        if tune and tune.confirm:
            rule = (
                f"the default (trial 0) and the {tune.confirm.points} best others by the {rule}, "
                "were trained again with other seeds; the highest mean of those was chosen if it "
                "beats the default by more than one standard error of their paired differences, "
                "else the default"
            )
        return (
            f"Trial **{row.best_trial}** was chosen (its attribute `chosen`). The rule: {rule}. "
            "What is called the best trial here has the highest value, whatever its NLL."
        )


def replace_study(
    storage: "optuna.storages.BaseStorage", tuning: Tuning, store: Store, uri: str
) -> None:
    """Make an Optuna study hold the trials of a tuning, in their order, and no others; nothing is
    written where it does. `uri` is that of MLflow's store, whose pages are linked."""
    import optuna

    row, name, note = tuning.row, tuning.name, tuning.note
    attributes = [_attributes(tuning, trial, store, uri) for trial in row.trials]
    if name in optuna.get_all_study_names(storage):
        study = optuna.load_study(study_name=name, storage=storage)
        # A run's id holds all that its scores depend on.
        if [t.user_attrs for t in study.trials] == attributes and study.user_attrs.get(
            "note"
        ) == note:
            return
        optuna.delete_study(study_name=name, storage=storage)
    # No trial is ever asked of this study; a sampler is given to make that plain.
    sampler = optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(
        study_name=name, storage=storage, direction="maximize", sampler=sampler
    )
    with experimental():
        study.set_metric_names([f"validation {MEASURES[tuning.plan.measure].words}"])
    study.set_user_attr("note", note)
    study.set_user_attr("chosen trial", row.best_trial)
    for key, value in _dashboard_note(note).items():
        storage.set_study_system_attr(study._study_id, key, value)
    study.add_trials(
        [
            optuna_trial(tuning, trial, attribute, store)
            for trial, attribute in zip(row.trials, attributes, strict=True)
        ]
    )


def _dashboard_note(note: str) -> Mapping[str, Any]:
    parts = [note[start : start + NOTE_PART] for start in range(0, len(note), NOTE_PART)]
    return {NOTE_VERSION: 1, **{f"{NOTE}{i}": part for i, part in enumerate(parts)}}


def _attributes(tuning: Tuning, trial: PlannedTrial, store: Store, uri: str) -> dict[str, Any]:
    """What the dashboard shows of a trial beside its values, as JSON gives it back."""
    attributes: dict[str, Any] = {"number": trial.number, "runs": list(trial.runs)}
    if trial.nll is not None:
        attributes["val.nll"] = trial.nll
    if trial.number == tuning.row.best_trial:
        attributes["chosen"] = True
    base = server(uri)
    known = [mlflow_run(store.record(run), tuning.plan.study, uri) for run in trial.runs]
    if base and (links := [run_page(base, *place) for place in known if place]):
        attributes["mlflow"] = links
    return attributes


def optuna_trial(
    tuning: Tuning, trial: PlannedTrial, attributes: Mapping[str, Any], store: Store
) -> "optuna.trial.FrozenTrial":
    """A finished trial as Optuna's; a value outside of its range widens the range."""
    import optuna

    space: dict[str, Any] = {}
    for name, searched in tuning.row.ranges.items():
        value = float(trial.hparams[name])
        low, high = min(searched.low, value), max(searched.high, value)
        space[name] = optuna.distributions.FloatDistribution(
            low, high, log=searched.log and low > 0
        )
    diverged = trial.accuracy is None
    made = optuna.trial.create_trial(
        state=optuna.trial.TrialState.FAIL if diverged else optuna.trial.TrialState.COMPLETE,
        value=trial.accuracy,
        params={name: float(trial.hparams[name]) for name in tuning.row.ranges},
        distributions=space,
        user_attrs=dict(attributes),
        intermediate_values=_curve(tuning.plan, trial, store),
    )
    records = [store.record(run) for run in trial.runs]
    starts = [start for record in records if (start := start_of(record))]
    ends = [end for record in records if (end := end_of(record.result))]
    if starts and ends:
        made.datetime_start = datetime.fromtimestamp(min(starts) / 1000)
        made.datetime_complete = datetime.fromtimestamp(max(ends) / 1000)
    return made


def _curve(plan: PlanFile, trial: PlannedTrial, store: Store) -> dict[int, float]:
    """The validation score by epoch, the mean over the runs that the trial's value is the mean of,
    for the epochs that all of them have."""
    key = MEASURES[plan.measure].validation
    runs = trial.runs[: len(plan.tune.seeds)] if plan.tune else trial.runs
    curves = [
        {row["epoch"]: row[key] for row in store.record(run).epochs() if key in row} for run in runs
    ]
    means = _mean_curve(curves)
    return {epoch: value for epoch, value in means.items() if math.isfinite(value)}


def _mean_curve(curves: Sequence[Mapping[int, float]]) -> dict[int, float]:
    epochs = set(curves[0]).intersection(*curves) if curves else set()
    return {e: sum(curve[e] for curve in curves) / len(curves) for e in sorted(epochs)}
