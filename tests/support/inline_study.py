"""A study run in the test's own process, and what a driver reported meanwhile."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support import crash

from kdbench.data.load import TrainingData
from kdbench.execution.driver import StudyDriver
from kdbench.execution.engines.inline import InlineEngine
from kdbench.execution.engines.protocol import WorkerSettings
from kdbench.records.files import read_json
from kdbench.records.store import Store
from kdbench.study.load import parse_study
from kdbench.study.planner import Planner
from kdbench.tracking.optuna_log import OptunaLog

#: Changes that leave six runs: a teacher, no tuning, two methods, two seeds.
SMALL = {"tune": None, "final.seeds": [0, 1], "methods": ["ce", "kd"]}


def run_contents(root: Path) -> dict[str, Any]:
    """What each finished run came to, without times and without what is recorded beside it."""
    contents = {}
    for path in sorted(root.glob("runs/*/result.json")):
        result = read_json(path)
        with (path.parent / "metrics.jsonl").open() as file:
            epochs = [json.loads(line) for line in file]
        contents[path.parent.name] = (
            {key: result[key] for key in ("state", "epochs", "last", "best", "loss_weights")},
            [{k: v for k, v in epoch.items() if k != "seconds"} for epoch in epochs],
            read_json(path.parent / "test.json"),
            (path.parent / "weights.safetensors").read_bytes(),
        )
    return contents


class Recorder:
    """A tracker and a reporter that keep what they are told."""

    def __init__(self) -> None:
        self.touched: list[str] = []
        self.lines: list[str] = []

    def touch(self, run_id: str, listing: Mapping[str, Any]) -> None:
        self.touched.append(run_id)

    def update(self, runs: int, finished: int, work: float, work_done: float) -> None:
        assert 0 <= finished <= runs
        assert 0 <= work_done <= work

    def log(self, text: str) -> None:
        self.lines.append(text)


@dataclass
class InlineStudy:
    """The study of the crash test in `root`, with `changes` made."""

    root: Path
    data: TrainingData
    text: str = crash.STUDY
    changes: dict[str, Any] = field(default_factory=dict)

    def settings(self) -> WorkerSettings:
        return WorkerSettings(self.root, "digits", None, "cpu")

    def driver(self, engine: Any = None, retry: bool = True) -> tuple[StudyDriver, Recorder]:
        """A driver of its own, as another start of the command makes one."""
        store, recorder = Store(self.root), Recorder()
        planner = Planner(parse_study(self.text, "crash", self.changes), self.data, store)
        engine = engine or InlineEngine(self.settings())
        optuna_log = OptunaLog(self.root)
        driver = StudyDriver(planner, store, engine, recorder, recorder, optuna_log, retry)
        return driver, recorder

    def run(self, engine: Any = None) -> tuple[dict[str, Any], StudyDriver, Recorder]:
        """Run the study; the plan file at the end, the driver, and what it reported."""
        driver, recorder = self.driver(engine)
        return driver.run(), driver, recorder
