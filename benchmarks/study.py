"""What a whole study costs, against loops that train one run after another.

    python benchmarks/study.py [tutorial growth workers] [--epochs 10]

- tutorial: 10 methods x 5 seeds of the PyTorch tutorial's pair on CIFAR-10, `--epochs`
  (1) each, in fp32 and in bf16, against the tutorial's loop for the same 50 runs, with 0 and
  with 2 workers of the data loader; both with and without the training of the teacher, which
  is in fp32. Ours is the whole command: start, tables, runs, test scores, MLflow,
  leaderboard. The loop's time is that of its steps, times their number.
- growth: cold start, and what one more seed and one more method add, on digits
- workers: one worker against two, on digits

CIFAR-10 is read from KDBENCH_DATA. Every measurement is a process of its own.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

EPOCH = 391  # batches of 128
STUDY = """
name: speed
data:    {{name: cifar10, validation: 5000, augment: none}}
student: {{model: lightnn}}
teacher: {{model: deepnn}}
recipe:  {{epochs: {epochs}, batch: 128, optimizer: adam, lr: 1.0e-3}}
methods:
  - {{method: kd, precision: {precision}}}
  - {{method: mse, precision: {precision}}}
  - {{method: logit-mse, precision: {precision}}}
  - {{method: dkd, precision: {precision}}}
  - {{method: cosine, precision: {precision}}}
  - {{method: hint, precision: {precision}}}
  - {{method: feature-mse, precision: {precision}}}
  - {{method: rkd, precision: {precision}}}
  - {{method: at, hparams: {{stages: stage2}}, precision: {precision}}}
  - {{method: sp, hparams: {{stages: stage2}}, precision: {precision}}}
final:   {{seeds: [0, 1, 2, 3, 4], train_on: all}}
report:  {{reference: kd}}
"""
RUNS = 50


def tutorial_loop(loader_workers: int) -> dict[str, float]:
    """Seconds a step of a plain loop as in the tutorial: transforms image by image, the
    teacher asked anew for each batch, the loss read back after each step."""
    import torch
    from torch.nn import functional
    from torchvision import datasets, transforms

    from kdbench import models

    shape, temperature = (3, 32, 32), 2.0
    change = transforms.Compose(
        [
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    images = datasets.CIFAR10(os.environ["KDBENCH_DATA"], train=True, transform=change)
    loader = torch.utils.data.DataLoader(
        images, batch_size=128, shuffle=True, num_workers=loader_workers
    )
    teacher, student = (models.build(name, shape, 10) for name in ("deepnn", "lightnn"))

    def timed(model: torch.nn.Module, guide: torch.nn.Module | None, steps: int) -> float:
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        model.train()
        running = 0.0
        for step, (inputs, labels) in enumerate(loader):
            if step == 5:
                started = time.perf_counter()
            if step == steps + 5:
                break
            optimizer.zero_grad()
            logits = model(inputs)
            loss = functional.cross_entropy(logits, labels)
            if guide is not None:
                with torch.no_grad():
                    wanted = functional.softmax(guide(inputs) / temperature, dim=-1)
                said = functional.log_softmax(logits / temperature, dim=-1)
                soft = (wanted * (wanted.log() - said)).sum() / len(said) * temperature**2
                loss = 0.25 * soft + 0.75 * loss
            loss.backward()
            optimizer.step()
            running += loss.item()
        return (time.perf_counter() - started) / steps

    teacher_step = timed(teacher, None, 20)
    ce = timed(student, None, 60)
    teacher.eval()
    return {"teacher": teacher_step, "ce": ce, "kd": timed(student, teacher, 40)}


def ours(study: str, root: str, *options: str) -> float:
    """Seconds of one `kdbench study`."""
    command = [sys.executable, "-m", "kdbench", "study", study, "--root", root, *options]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return time.perf_counter() - started


def afresh(*options: str) -> float:
    """Seconds of the digits study in a root of its own."""
    with tempfile.TemporaryDirectory() as root:
        return ours("digits", root, "--no-tune", *options)


def loop_in_a_process(loader_workers: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--loop", str(loader_workers)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: dict[str, float] = json.loads(told.splitlines()[-1])
    return found


def tutorial(epochs: int) -> None:
    seconds = {}
    with tempfile.TemporaryDirectory() as root:
        path = Path(root, "speed.yaml")
        # The teacher and one run first, so that the rest can be timed without the teacher.
        path.write_text(STUDY.format(epochs=epochs, precision="fp32"))
        teacher = ours(str(path), root, "--only", "kd", "--seeds", "0")
        shutil.rmtree(Path(root, "runs", "output_cache"))
        seconds["fp32"] = ours(str(path), root) * RUNS / (RUNS - 1)
        shutil.rmtree(Path(root, "runs", "output_cache"))
        path.write_text(STUDY.format(epochs=epochs, precision="bf16"))
        seconds["bf16"] = ours(str(path), root)
    print(f"kdbench study, runs of {epochs} epochs; the teacher and one run: {teacher:.0f} s")
    for precision, students in seconds.items():
        print(f"  {RUNS} runs in {precision}, whole command: {students:.0f} s")
    for count in (0, 2):
        step = loop_in_a_process(count)
        runs = epochs * EPOCH * RUNS * step["kd"]
        whole = epochs * EPOCH * step["teacher"] + runs
        print(
            f"  the loop with {count} loader workers: teacher {1e3 * step['teacher']:.0f} ms, "
            f"ce {1e3 * step['ce']:.1f} ms, kd {1e3 * step['kd']:.0f} ms a step"
        )
        for precision, students in seconds.items():
            print(
                f"    {runs / students:.1f} times ours in {precision}, with the teacher's "
                f"training {whole / (teacher + students):.1f} times"
            )


def growth() -> None:
    first = afresh("--only", "ce", "--seeds", "0")
    print(f"cold start: one method, one seed, teacher included: {first:.1f} s")
    few, many = (afresh("--only", "kd", "--seeds", seeds) for seeds in ("0-4", "0-14"))
    print(f"one more seed of two methods: {(many - few) / 10:.2f} s")
    names = "kd,dkd,mse,logit-mse,cosine,hint"
    more = afresh("--only", names, "--seeds", "0-4")
    print(f"one more method with 5 seeds: {(more - few) / 5:.2f} s")


def workers() -> None:
    one, two = (afresh("--workers", str(count)) for count in (1, 2))
    print(f"digits without tuning: 1 worker {one:.1f} s, 2 workers {two:.1f} s: {one / two:.2f}")


PARTS: dict[str, Callable[[argparse.Namespace], None]] = {
    "tutorial": lambda chosen: tutorial(chosen.epochs),
    "growth": lambda _: growth(),
    "workers": lambda _: workers(),
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--loop", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.loop is not None:
        print(json.dumps(tutorial_loop(chosen.loop)))
    else:
        for name in chosen.parts or PARTS:
            PARTS[name](chosen)
            sys.stdout.flush()
