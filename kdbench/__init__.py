"""kdbench: which knowledge-distillation method is really better, and by how much.

From Python: `run_study` trains a study, `load_report` reads a report, and `load_student` gives
a trained student. Each imports what it needs when it is called, so `import kdbench` is quick.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from kdbench.execution.protocols import ProgressReporter
    from kdbench.report.leaderboard import Leaderboard
    from kdbench.study.schema import Study

__version__ = "0.1.0"

__all__ = ["__version__", "load_report", "load_student", "run_study"]


def run_study(
    study: "str | Path | Study",
    root: str | Path = ".",
    *,
    workers: int | None = None,
    device: str = "auto",
    data_dir: str | Path | None = None,
    only: Iterable[str] = (),
    seeds: Iterable[int] = (),
    changes: Mapping[str, Any] | None = None,
    tune: bool = True,
    retry: bool = True,
    reporter: "ProgressReporter | None" = None,
) -> Path:
    """Train what a study lacks, and write its report; the report's folder.

    A file with several students makes a study of each, and the folder is that of their pooled
    report; a study's own is beside it, as `mine-resnet8`, and `changes={"students": ["resnet8"]}`
    chooses it.

    `study` is a shipped study's name, a path to a YAML file, or a loaded study; `root` is the
    folder for `runs/`, `mlflow.db` and `reports/`. `only` keeps these labels (and the
    reference), `seeds` replaces the final seeds, and `changes` maps dotted keys of the study to
    values, as in `{"recipe.epochs": 2}`. `reporter` shows progress and the runs that failed; by
    default both are printed. A script needs `if __name__ == "__main__":` around its call, since
    worker processes are started.

    Raises `StudyError` for a study that cannot run, `DataError` where its images are missing or
    damaged, `InvalidOption`, `TeacherFailed`, and `Interrupted` (a `KeyboardInterrupt`) after
    Ctrl-C or SIGTERM; calling it again continues.
    """
    from kdbench.execution.study_file import run_study

    return run_study(
        study,
        root,
        workers=workers,
        device=device,
        data_dir=data_dir,
        only=only,
        seeds=seeds,
        changes=changes,
        tune=tune,
        retry=retry,
        reporter=reporter,
    )


def load_report(path: str | Path) -> "Leaderboard":
    """The leaderboard of a report, judged from the numbers that the report keeps.

    `path` is the report's folder, as `reports/digits`. `table` of the result is a DataFrame with
    one line a row of the leaderboard, best method first; accuracies and differences are in
    percentage points. `family.verdicts` has each method's verdict against the reference, and
    `captions` say what was tested and how. Needs neither torch nor MLflow.

    Raises `NoReportData` (a `FileNotFoundError`) where the folder holds no report.
    """
    from kdbench.report.data.report_data import load
    from kdbench.report.write import leaderboard_of

    return leaderboard_of(load(Path(path)))


def load_student(
    study: str,
    method: str,
    seed: int,
    root: str | Path = ".",
    row: str | None = None,
    data_dir: str | Path | None = None,
) -> "nn.Module":
    """The student that a study has trained, with its weights, in eval mode and on the CPU.

    `method` is a label of the study, `seed` one of its final seeds, `root` the folder with the
    study's `runs/`. `row` is `default`, `tuned`, `pinned` or `only`; by default the row that the
    leaderboard ranks. The weights are those that the study's selection rule names (the last
    epoch's, or the best validation epoch's). The student takes normalised images (batch x
    channels x height x width) and gives logits (batch x classes). Where it is a network of a
    user's file, the copy of that file in `root` is run.

    Raises `UnknownName` where the study, method, row or seed is not there, `FileNotFoundError`
    where the run is not finished, `DataError` where the study's data set is missing, which
    tells the shape of an image, and `CorruptRecord` where the weights are damaged.
    """
    from kdbench import data
    from kdbench.export.choice import final_run, find_row, load_plan
    from kdbench.records.store import Store
    from kdbench.training import teachers

    store = Store(Path(root).resolve())
    plan = load_plan(store, study)
    assert plan.data is not None, "checked when it was loaded"
    run = final_run(plan, find_row(plan, method, row), seed)
    images = data.load(plan.data.name, data_dir).without_pixels()
    return teachers.load_student(store, run, plan.selection, images)
