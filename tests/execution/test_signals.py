"""One signal stops a study at any moment: exit code 130, nothing lost, nothing left running."""

import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support import crash


@dataclass
class Start:
    """One start of the study, in a session of its own."""

    root: Path
    number: int
    variables: Mapping[str, str] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.results_before = len(crash.finished(self.root))
        self.scores_before = self.scores
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                crash.command(self.root, 1),
                env={**crash.environment(), **self.variables},
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    @property
    def log_path(self) -> Path:
        return self.root.parent / f"log-{self.number}.txt"

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    @property
    def scores(self) -> int:
        return len(list(self.root.glob("runs/*/test.json")))

    @property
    def new_results(self) -> int:
        return len(crash.finished(self.root)) - self.results_before

    def catches_sigterm(self) -> bool:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (caught,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
        return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)

    def has_mapped(self, library: str) -> bool:
        return library in Path(f"/proc/{self.process.pid}/maps").read_text()

    def processes(self) -> Iterator[tuple[int, str]]:
        """Id and command line of every process of the session that has not ended."""
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            try:
                state, _, _, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
                line = (folder / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue  # it has ended meanwhile
            if int(session) == self.process.pid and state != "Z":
                yield int(folder.name), line

    def runs(self, words: str) -> bool:
        return any(words in line for _, line in self.processes())


@dataclass(frozen=True)
class Moment:
    """When a signal is sent: `delay` seconds after `reached`, `times` times."""

    name: str
    reached: Callable[[Start], bool]
    kind: signal.Signals
    delay: float = 0.0
    times: int = 1
    group: bool = True


INT, TERM = signal.SIGINT, signal.SIGTERM
SERVER = "multiprocessing.forkserver"
MOMENTS = (
    Moment("first line", Start.catches_sigterm, TERM, group=False),
    Moment("imports", lambda start: start.has_mapped("libtorch"), INT),
    Moment("opening MLflow", lambda start: (start.root / "mlflow.db").exists(), TERM),
    Moment("starting the fork server", lambda start: start.runs(SERVER), INT),
    Moment("starting workers", lambda start: start.runs(SERVER), TERM, delay=1.5),
    Moment("first run", lambda start: start.new_results > 0, INT),
    Moment("tuning", lambda start: start.new_results > 3, TERM, times=2, group=False),
    Moment("scoring", lambda start: start.scores > start.scores_before, INT),
    Moment("measuring costs", lambda start: "measuring" in start.log, INT),
    Moment("MLflow", lambda start: "bringing MLflow" in start.log, TERM, times=2),
    Moment("report", lambda start: any(start.root.glob("reports/crash/*")), INT),
)


def says_how_to_go_on(start: Start) -> None:
    """The last words of a study that was stopped are the command that continues it."""
    assert "Traceback" not in start.log
    (line,) = (x for x in start.log.splitlines() if "To continue: " in x)
    command = shlex.split(line.split("To continue: ")[1])
    assert command[1:] == crash.command(start.root, 1)[3:]


def stop(start: Start, moment: Moment) -> None:
    """Send the signal at its moment, and hold the study to what it promises."""
    process = start.process
    deadline = time.monotonic() + 300
    while not moment.reached(start):
        assert process.poll() is None, f"{moment.name} never came: {start.log}"
        assert time.monotonic() < deadline, start.log
        time.sleep(0.005)
    time.sleep(moment.delay)
    for _ in range(moment.times):
        (os.killpg if moment.group else os.kill)(process.pid, moment.kind)
        time.sleep(0.1 * (moment.times - 1))
    assert process.wait(timeout=120) == 130, f"{moment.name}: {start.log}"
    says_how_to_go_on(start)
    deadline = time.monotonic() + 30
    while left := list(start.processes()):
        assert time.monotonic() < deadline, f"{moment.name} left {left}"
        time.sleep(0.1)


@pytest.mark.long
def test_a_signal_stops_a_study_at_any_moment(tmp_path: Path, reference_root: Path) -> None:
    """At each in turn; then it comes to its end, which is that of a study left alone. The short
    form is that of `mixed_kills`."""
    home = tmp_path / "a folder"
    home.mkdir()
    shutil.copy(reference_root.parent / "crash.yaml", home)
    root = home / "root"
    finished: dict[str, str] = {}
    for number, moment in enumerate(MOMENTS):
        start = Start(root, number)
        stop(start, moment)
        finished = crash.finished(root) | finished
        assert not list(root.rglob("*.part"))
    start = Start(root, len(MOMENTS))
    assert start.process.wait(timeout=300) == 0, start.log
    assert list(crash.broken(root, reference_root, finished)) == []


@pytest.fixture
def silent_server() -> Iterator[str]:
    """The address of a server that takes every connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.parametrize(
    ("word", "delay"),
    [
        pytest.param("", 6.0, id="opening"),
        pytest.param("bringing MLflow", 1.0, id="catching up", marks=pytest.mark.long),
    ],
)
def test_a_signal_does_not_wait_for_a_silent_server(
    tmp_path: Path, reference_root: Path, silent_server: str, word: str, delay: float
) -> None:
    shutil.copy(reference_root.parent / "crash.yaml", tmp_path)
    root = tmp_path / "root"
    shutil.copytree(reference_root / "runs", root / "runs")  # finished: nothing to train
    start = Start(root, 0, {"MLFLOW_TRACKING_URI": silent_server})
    deadline = time.monotonic() + 120
    while word not in start.log or time.monotonic() < start.began + delay:
        assert time.monotonic() < deadline, start.log
        time.sleep(0.05)
    time.sleep(delay if word else 0.0)
    os.kill(start.process.pid, signal.SIGINT)
    assert start.process.wait(timeout=15) == 130, start.log
    says_how_to_go_on(start)


@pytest.mark.long
def test_two_that_wait_for_each_other_are_stopped_at_once(
    tmp_path: Path, reference_root: Path
) -> None:
    shutil.copy(reference_root.parent / "crash.yaml", tmp_path)
    first, second = Start(tmp_path / "root", 0), Start(tmp_path / "root", 1)
    deadline = time.monotonic() + 120
    while not (waiting := [s for s in (first, second) if "waiting for" in s.log]):
        assert time.monotonic() < deadline, first.log + second.log
        time.sleep(0.005)
    os.kill(waiting[0].process.pid, signal.SIGINT)
    assert waiting[0].process.wait(timeout=15) == 130, waiting[0].log
    for other in {first.number: first, second.number: second}.values():
        if other is not waiting[0]:
            assert other.process.wait(timeout=120) == 0, other.log
