"""The model card of an export: what it is, how good, how it is loaded, whom to cite.

Markdown with the front matter that the Hugging Face hub reads.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from kdbench.data import DATASETS
from kdbench.errors import first_names
from kdbench.export.choice import Choice
from kdbench.export.description import Description, Proof, Quantisation
from kdbench.records.files import atomic_write
from kdbench.records.measures import MEASURES, Measure
from kdbench.records.plan_file import PlanFile
from kdbench.records.store import Record, Store
from kdbench.records.summary import test_score
from kdbench.report.rows import PRECEDENCE
from kdbench.report.writers.bibtex import to_bibtex
from kdbench.report.writers.markdown import escape
from kdbench.stats import mean_interval

CARD = "README.md"
#: Classes that are named; `config.json` has all.
NAMED = 20
#: Kinds of rows in words.
ROWS = {
    "tuned": "tuned hyperparameters",
    "only": "hyperparameters that are not tuned",
    "pinned": "hyperparameters that the study sets",
    "default": "published hyperparameters",
}
LOADING = {
    "safetensors": """import json

import torch
from safetensors.torch import load_file

from model import build_student

config = json.load(open("config.json"))
dtype = getattr(torch, config["dtype"])
network = build_student().to(dtype).eval()
network.load_state_dict(load_file("model.safetensors"))
mean, std = (torch.tensor(config[key]).view(1, -1, 1, 1) for key in ("mean", "std"))

images = torch.rand(2, *config["image_shape"])  # N x channels x height x width, values in 0..1
with torch.no_grad():
    logits = network(((images - mean) / std).to(dtype)).float()
print([config["classes"][k] for k in logits.argmax(1)])
""",
    "torch": """import json

import torch

config = json.load(open("config.json"))
network = torch.export.load("model.pt2").module()

images = torch.rand(2, *config["image_shape"])  # N x channels x height x width, values in 0..1
with torch.no_grad():
    logits = network(images)
print([config["classes"][k] for k in logits.argmax(1)])
""",
    "onnx": """import json

import numpy
import onnxruntime

config = json.load(open("config.json"))
session = onnxruntime.InferenceSession("model.onnx")

images = numpy.random.rand(2, *config["image_shape"])  # N x channels x height x width, in 0..1
(logits,) = session.run(None, {"images": images.astype("float32")})
print([config["classes"][k] for k in logits.argmax(1)])
""",
}
"""How each format is loaded without kdbench, in the folder of the export."""


def write_card(
    folder: Path,
    description: Description,
    choice: Choice,
    seeds: Mapping[int, Record],
    store: Store,
) -> None:
    """Write the card of an export. `seeds` are the scored runs of its row."""
    measure = MEASURES[choice.plan.measure]
    score = _own_score(description, choice, measure)
    parts = [
        _front_matter(description, choice, score, measure),
        f"# {_title(description)}\n",
        _origin(description, choice),
        _scores(description, choice, seeds, store, score, measure),
        _proof(description.proof),
        _quantised(description.quantisation),
        _use(description),
        _citation(choice.plan, description),
    ]
    atomic_write(folder / CARD, "\n".join(part for part in parts if part).encode())


def _title(description: Description) -> str:
    return f"{_name(description.model)} by {description.method} on {_name(description.data)}"


def _name(text: str) -> str:
    """A model without its options; a data set without its address."""
    return text.partition("{")[0].partition("@")[0]


def _own_score(description: Description, choice: Choice, measure: Measure) -> float:
    """The score of the exported network itself, in percentage points."""
    if description.quantisation:
        return description.quantisation.scores[str(choice.seed)]
    return _score(choice.record, choice.plan)


def _score(record: Record, plan: PlanFile) -> float:
    test = record.test
    assert test is not None, "only scored runs are taken"
    return 100 * test_score(record, test, plan.selection, MEASURES[plan.measure])[0]


def _front_matter(description: Description, choice: Choice, score: float, measure: Measure) -> str:
    data = _name(description.data)
    kinds = {"onnx": "onnx", "torch": "pytorch", "safetensors": "pytorch"}
    result = {
        "task": {"type": "image-classification"},
        "dataset": {"name": data, "type": data, "split": "test"},
        "metrics": [
            {
                "type": measure.column,
                "value": round(score / 100, 6),
                "name": f"test {measure.words}, seed {choice.seed}",
            }
        ],
    }
    matter: dict[str, Any] = {
        "library_name": kinds[description.format],
        "pipeline_tag": "image-classification",
        "tags": ["knowledge-distillation", "kdbench", description.format],
        "metrics": [measure.column],
        "model-index": [{"name": _title(description), "results": [result]}],
    }
    if description.data in DATASETS:
        matter["datasets"] = [description.data]
    return f"---\n{yaml.safe_dump(matter, sort_keys=False, allow_unicode=True)}---\n"


def _origin(description: Description, choice: Choice) -> str:
    plan, spec = choice.plan, choice.spec
    hparams = ", ".join(f"{key}={value}" for key, value in sorted(spec.hparams.items()))
    epochs = {"last": "the last epoch", "best": "the best validation epoch"}[choice.which]
    teacher = f"{plan.models.get('teacher', 'none')}, run {choice.teacher or 'none'}"
    about = f": {plan.question}" if plan.question else "."
    classes = first_names([*map(escape, description.classes)], NAMED)
    lines = [
        f"A student that was trained by kdbench in the study *{plan.study}*{about}\n",
        "| | |\n|---|---|",
        f"| data | {description.data}, {description.training_images:,} training images, checksum "
        f"{description.data_checksum} |",
        f"| teacher | {teacher} |",
        f"| method | {description.method} ({ROWS[description.row]}){hparams and ': '}{hparams} |",
        f"| seed | {description.seed}: {description.seed_chosen} |",
        f"| weights | run {description.run}, {epochs} |",
        f"| classes | {len(description.classes)}: {classes} |",
    ]
    return "\n".join(lines) + "\n"


def _scores(
    description: Description,
    choice: Choice,
    seeds: Mapping[int, Record],
    store: Store,
    score: float,
    measure: Measure,
) -> str:
    plan = choice.plan
    lines = [
        f"## Scores\n\nTest {measure.words} in percent; intervals are Student's t over the seeds "
        "of a row, at 95 %.\n",
        "| | mean | interval | seeds |\n|---|---|---|---|",
        _score_line(f"{description.method} ({description.row})", plan, seeds.values()),
    ]
    if plan.reference and plan.reference != description.method:
        rows = [row for row in plan.rows if row.label == plan.reference]
        row = min(rows, key=lambda r: PRECEDENCE.index(r.row))
        lines.append(_score_line(f"{plan.reference} (reference)", plan, _scored(store, row.runs)))
    lines.append(_score_line("teacher", plan, _scored(store, plan.teachers)))
    lines.append(f"\nThis network, seed {choice.seed}: {score:.2f} %.")
    return "\n".join(lines) + "\n"


def _scored(store: Store, runs: Mapping[str, str]) -> list[Record]:
    records = [store.record(run) for run in dict.fromkeys(runs.values())]
    return [record for record in records if record.test is not None]


def _score_line(name: str, plan: PlanFile, records: Iterable[Record]) -> str:
    interval = mean_interval({n: _score(r, plan) for n, r in enumerate(records)})
    bounds = f"{interval.low:.2f} to {interval.high:.2f}" if interval.n > 1 else "none of one run"
    mean = f"{interval.mean:.2f}" if interval.n else "none"
    return f"| {name} | {mean} | {bounds if interval.n else ''} | {interval.n} |"


def _proof(proof: Proof | None) -> str:
    if proof is None:
        return ""
    near = (
        f", but for {proof.ties} whose two highest logits lie within twice the allowed difference"
    )
    ties = near if proof.ties else ""
    return (
        f"The float network was loaded by its own runtime and run on all {proof.images:,} test "
        f"images: the same classes as when its run was scored{ties}, and logits within "
        f"{proof.largest_difference:.1g} of those (allowed: {proof.tolerance:.1g}).\n"
    )


def _quantised(quantised: Quantisation | None) -> str:
    if quantised is None:
        return ""
    return f"## Quantisation\n\n{sentence(quantised)}\n"


def sentence(quantised: Quantisation) -> str:
    """What quantising cost, in words."""
    seeds = len(quantised.scores)
    interval = (
        f" ({100 * quantised.level:g} % interval {quantised.low:+.2f} to {quantised.high:+.2f}, "
        f"paired over {seeds} seeds)"
        if quantised.low is not None
        else f" ({seeds} {'seed' if seeds == 1 else 'seeds'})"
    )
    sample = (
        f" Ranges of activations come from {quantised.calibrated_on} training images."
        if quantised.calibrated_on
        else ""
    )
    return (
        f"{quantised.kind} against float: {quantised.difference:+.2f} points of test "
        f"{quantised.measure}{interval}: {quantised.verdict}, with a margin of "
        f"{quantised.margin:.2g} points.{sample}"
    )


def _use(description: Description) -> str:
    inside = (
        "The normalisation is inside."
        if description.normalised
        else "The normalisation is not inside; its mean and standard deviation stand in "
        "`config.json`."
    )
    shape = " x ".join(map(str, description.image_shape))
    return (
        f"## How to load it\n\nIn this folder, without kdbench. Images are N x {shape} (channels x "
        f"height x width), with values from 0 to 1. {inside}\n\n"
        f"```python\n{LOADING[description.format]}```\n"
    )


def _citation(plan: PlanFile, description: Description) -> str:
    row = next(r for r in plan.rows if r.label == description.method)
    models = plan.cites.get("models") or {}
    keys = {row.cite, plan.cites.get("data"), *models.values()}
    cited = {key: paper for key, paper in plan.references.items() if key in keys}
    return f"## Citation\n\n```bibtex\n{to_bibtex(replace(plan, references=cited))}```\n"
