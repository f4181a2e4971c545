"""What an export says of itself: `config.json`."""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from kdbench.errors import one_line
from kdbench.export.errors import NoExport
from kdbench.records.bounded import MOST_TEXT, read_bounded
from kdbench.records.files import write_json

CONFIG = "config.json"
#: Raised with every change that a reader of the other version would misread.
VERSION = 1


@dataclass(frozen=True)
class Proof:
    """How an exported network was compared with the record of its run, on all `images` of the test
    part: the largest difference of a logit and the `tolerance` for it, both in logits, and how
    many images got another class (`ties`: their two highest logits lie within twice the tolerance,
    since each of the two may differ by the tolerance)."""

    images: int
    largest_difference: float
    tolerance: float
    ties: int


@dataclass(frozen=True)
class Quantisation:
    """What quantising costs, in percentage points of `measure` on test, by seed against the float
    network: the mean `difference` with its interval at `level`, and the `verdict` in words;
    `calibrated_on` training images were looked at. Below 3 seeds there is no interval."""

    kind: str
    measure: str
    scores: dict[str, float]
    float_scores: dict[str, float]
    difference: float
    low: float | None
    high: float | None
    level: float
    margin: float
    verdict: str
    calibrated_on: int = 0


@dataclass(frozen=True)
class Description:
    """Which student was exported, and how.

    `image_shape` is channels, height, width; images have values in 0..1, and `normalised` says
    whether the network subtracts `mean` and divides by `std` (per channel) itself. `dtype` is the
    type in which it computes, `weights` the epoch's weights (`last` or `best`).
    """

    format: str
    file: str
    study: str
    method: str
    row: str
    seed: int
    seed_chosen: str
    run: str
    weights: str
    model: str
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    normalised: bool
    dtype: str
    data: str
    data_checksum: str
    training_images: int
    teacher: str | None
    spec: dict[str, Any]
    versions: dict[str, str] = field(default_factory=dict)
    proof: Proof | None = None
    quantisation: Quantisation | None = None
    version: int = VERSION

    def dump(self, folder: Path) -> None:
        """Write it into the folder of an export."""
        write_json(folder / CONFIG, asdict(self))

    @property
    def metadata(self) -> dict[str, str]:
        """What a file of weights says beside them, as texts."""
        names = ("study", "method", "row", "seed", "run", "weights", "model", "data")
        told = {f"kdbench.{name}": str(getattr(self, name)) for name in names}
        numbers = {name: json.dumps(getattr(self, name)) for name in ("classes", "mean", "std")}
        return {**told, **numbers, "image_shape": json.dumps(self.image_shape)}


def read_description(folder: Path) -> Description:
    """What the export in a folder says of itself. Raises `NoExport`."""
    path = folder / CONFIG
    try:
        raw = json.loads(read_bounded(path, folder, MOST_TEXT))
        if raw.get("version") != VERSION:
            raise ValueError(f"it is of version {raw.get('version')}, and this one reads {VERSION}")
        tuples = {f.name: tuple(raw[f.name]) for f in fields(Description)
                  if f.name in ("classes", "image_shape", "mean", "std")}  # fmt: skip
        proof, quantised = raw.get("proof"), raw.get("quantisation")
        parts = {
            "proof": Proof(**proof) if proof else None,
            "quantisation": Quantisation(**quantised) if quantised else None,
        }
        return Description(**{**raw, **tuples, **parts})
    except FileNotFoundError:
        raise NoExport(
            f"{folder} holds no {CONFIG}; name a folder that `kdbench export` has made"
        ) from None
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        raise NoExport(f"{path} cannot be read: {one_line(error)}; export again") from error
