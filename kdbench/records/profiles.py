"""The profile of a study: how large and how fast its networks are on one machine. No torch here."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kdbench.errors import KdbenchError
from kdbench.records.bounded import refuse_control
from kdbench.records.files import write_json
from kdbench.records.readers import CorruptRecord, read_object, sealed

#: The images of the batches that are timed.
BATCHES = (1, 32)
#: The format of the file that holds the weights alone.
WEIGHTS = "safetensors"
#: The folder of all profiles, below a root.
FOLDER = "runs/profiles"
TEACHER, ASSISTANT, STUDENT = "teacher", "assistant", "student"


class CorruptProfile(KdbenchError):
    """A profile that cannot be read."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"the profile {path} cannot be read: {why}. `kdbench profile {path.stem}` measures it "
            "again; `kdbench doctor` moves it aside."
        )
        self.why = why


@dataclass(frozen=True)
class Timing:
    """A network's forward on a batch of images: the median time in seconds and the quartiles
    `low` and `high` over the repetitions, and the bytes of tensors that are alive at most, those
    of the weights included."""

    batch: int
    median: float
    low: float
    high: float
    peak_bytes: int


@dataclass(frozen=True)
class ProfiledNetwork:
    """A network as it is used after training. `name` is that of the model, and for a network that
    answers through a method's head of that method too; `role` is teacher, assistant or student;
    `rows` are the rows of the leaderboard (label and row) whose runs made such a network; `macs`
    are the multiply-adds for one image; `sizes` are the bytes of its file by format."""

    name: str
    role: str
    rows: tuple[tuple[str, str], ...]
    parameters: int
    macs: int
    sizes: Mapping[str, int]
    timings: tuple[Timing, ...]

    def timing(self, batch: int) -> Timing:
        """What was measured for batches of this size. Raises `KeyError`."""
        return {timing.batch: timing for timing in self.timings}[batch]


@dataclass(frozen=True)
class Profile:
    """The networks of a study, and what their numbers are true for: the machine in words, the
    device, the number of threads, versions of libraries, and the time of the measurement (UTC,
    ISO 8601). The networks took turns, `repetitions` times for each size of batch."""

    machine: str
    device: str
    threads: int
    versions: Mapping[str, str]
    date: str
    repetitions: int
    networks: tuple[ProfiledNetwork, ...]

    def to_dict(self) -> dict[str, Any]:
        """The profile as plain dictionaries, for JSON."""
        return asdict(self)

    @staticmethod
    def from_dict(raw: Any) -> "Profile":
        """The profile that `to_dict` and JSON made `raw` from. Raises `ValueError`."""
        from pydantic import TypeAdapter

        profile = TypeAdapter(Profile).validate_python(raw)
        for network in profile.networks:
            numbers: list[float] = [network.parameters, network.macs, *network.sizes.values()]
            for t in network.timings:
                numbers += [t.batch, t.median, t.low, t.high, t.peak_bytes]
            if not all(0 < n < math.inf for n in numbers):
                raise ValueError(f"the numbers of {network.name!r:.60} are not all above zero")
            batches = tuple(timing.batch for timing in network.timings)
            if batches != BATCHES or WEIGHTS not in network.sizes:
                raise ValueError(f"numbers of {network.name!r:.60} are missing")
        return profile


def profile_path(root: Path, study: str) -> Path:
    """Where a root keeps the profile of a study."""
    return root / FOLDER / f"{study}.json"


def read_profile(path: Path) -> Profile | None:
    """The profile in a file, or None where there is no file. Raises `CorruptProfile`."""
    try:
        raw = read_object(path)
        refuse_control(raw)
        return None if raw is None else Profile.from_dict(raw)
    except CorruptRecord as error:
        raise CorruptProfile(path, error.why) from error
    except (RecursionError, ValueError) as error:
        raise CorruptProfile(path, "it is no profile") from error


def write_profile(path: Path, profile: Profile) -> None:
    """Write a profile as JSON with a checksum, whole or not at all."""
    write_json(path, sealed(profile.to_dict()))
