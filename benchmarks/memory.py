"""What a study over more images than fit into memory takes of its own: Linux only.

    python benchmarks/memory.py [--images 200000] [--packed 5000] [--augment crop-flip]

- packing: `--packed` images of noise of 3x224x224, through the code that packs a user's images
- a study: a teacher, ce and kd, one epoch, with one worker, over `--images` of 3x224x224. Their
  file is sparse (zeros that take no room on the disk); it is mapped and read like any other.

The peak is that of the memory that is a process's own (Pss_Anon and Pss_Shmem of
/proc/PID/smaps_rollup), summed over the study's processes; pages of the mapped file are the
system's, which drops them where memory is short.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np

from kdbench.data.files import Part, digest_of
from kdbench.data.own_images import PARTS, Example
from kdbench.data.packed import FOLDER, packed_set, remember

SHAPE = (224, 224, 3)
CLASSES = 10
NAME = "sparse@0123456789ab"
STUDY = f"""
name: memory
data: {{name: {NAME}, validation: 1000, augment: AUGMENT}}
student: {{model: "./nets.py:patches", options: {{width: 8}}}}
teacher: {{model: "./nets.py:patches", options: {{width: 16}}}}
recipe: {{epochs: 1, batch: 128, lr: 1.0e-3, teacher_outputs: live}}
methods: [ce, kd]
final: {{seeds: [0]}}
report: {{reference: ce}}
"""
NETS = """
from torch import nn

def patches(image_shape, classes, width):
    conv = nn.Conv2d(image_shape[0], width, 16, stride=16)
    pool = nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(conv, nn.ReLU(), pool, nn.Flatten(), nn.Linear(width, classes))
"""


class Noise:
    """Images of noise as a user's own."""

    published: ClassVar[bool] = False

    def __init__(self, images: int) -> None:
        self.images = images

    def name(self) -> str:
        return "noise@0123456789ab"

    def classes(self) -> tuple[str, ...]:
        return tuple(map(str, range(CLASSES)))

    def shape(self, part: Part) -> tuple[int, int, int, int]:
        return (self.images if part == "train" else CLASSES, *SHAPE)

    def examples(self) -> Iterator[Example]:
        random = np.random.default_rng(0)
        for part in PARTS:
            for number in range(self.shape(part)[0]):
                image = random.integers(0, 256, SHAPE, dtype=np.uint8)
                yield Example(part, image, number % CLASSES, f"{part}[{number}]")


def sparse(folder: Path, images: int) -> None:
    """Files as packing writes them, of images that are zeros."""
    place = folder / FOLDER / NAME
    place.mkdir(parents=True)
    files: dict[str, str] = {}
    for part, count in (("train", images), ("test", 1000)):
        pixels, labels = place / f"{part}-pixels.npy", place / f"{part}-labels.npy"
        np.lib.format.open_memmap(pixels, "w+", np.uint8, (count, *SHAPE))
        np.save(labels, np.arange(count) % CLASSES)
        files |= {path.name: digest_of(path, "SHA256") for path in (pixels, labels)}
    described = {
        "classes": list(map(str, range(CLASSES))),
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
        "files": files,
        "checksums": {"train": "0" * 12, "test": "1" * 12},
    }
    (place / "packed.json").write_text(json.dumps(described))


def own_memory(process: int) -> int:
    """Bytes of memory that are a process's own; what it shares with its parent counts by half."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended
        return 0
    return sum(int(x.split()[1]) for x in lines if x.startswith(("Pss_Anon", "Pss_Shmem"))) << 10


def with_children(process: int) -> list[int]:
    """A process and all that came from it."""
    try:
        text = Path(f"/proc/{process}/task/{process}/children").read_text()
    except OSError:
        return [process]
    return [process, *(pid for child in text.split() for pid in with_children(int(child)))]


def measure(what: str, command: list[str], folder: Path) -> None:
    """Run a command in a folder, and print its seconds and the most memory of its own, in all
    and by process."""
    start, most = time.perf_counter(), [0]
    environment = {**os.environ, "KDBENCH_DATA": str(folder)}
    environment.pop("MLFLOW_TRACKING_URI", None)
    with (
        (folder / "output").open("w") as output,
        subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output) as run,
    ):
        while run.poll() is None:
            most = max(most, [own_memory(pid) for pid in with_children(run.pid)], key=sum)
            time.sleep(1)
    if run.returncode:
        raise SystemExit((folder / "output").read_text())
    parts = " + ".join(f"{part / 1e9:.2f}" for part in sorted(most, reverse=True))
    seconds = time.perf_counter() - start
    print(f"{what}: {sum(most) / 1e9:.2f} GB ({parts}), {seconds:.0f} s", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--packed", type=int, default=5_000)
    parser.add_argument("--augment", default="crop-flip")
    parser.add_argument("--pack-into", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.pack_into:
        packed_set(remember(Noise(arguments.packed)), arguments.pack_into)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        gigabytes = np.prod(SHAPE) / 1e9
        command = [sys.executable, str(Path(__file__).resolve()), "--packed", str(arguments.packed)]
        command += ["--pack-into", str(folder / "noise")]
        measure(f"packing {arguments.packed * gigabytes:.1f} GB", command, folder)
        sparse(folder, arguments.images)
        (folder / "nets.py").write_text(NETS)
        (folder / "memory.yaml").write_text(STUDY.replace("AUGMENT", arguments.augment))
        command = [sys.executable, "-m", "kdbench", "study", "memory.yaml", "--workers", "1"]
        measure(f"a study over {arguments.images * gigabytes:.1f} GB", command, folder)


if __name__ == "__main__":
    main()
