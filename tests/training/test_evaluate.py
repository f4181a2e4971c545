"""The test scores by their definitions, and the proof that the test set is sealed."""

import ast
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn import metrics

import kdbench
from kdbench import models
from kdbench.data.datasets import DATASETS
from kdbench.data.test_set import open_test_set
from kdbench.execution.driver import StudyDriver
from kdbench.execution.engines.inline import InlineEngine
from kdbench.execution.engines.protocol import WorkerSettings
from kdbench.records.store import Store
from kdbench.study.planner import Planner
from kdbench.training import evaluate
from kdbench.training.evaluate import score, score_run

# -- the scores


def by_hand(logits: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """ECE of Guo et al. 2017: bins of equal width; a confidence of 1 is in the last one."""
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    probabilities = shifted / shifted.sum(1, keepdims=True)
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    total = 0.0
    for index in range(bins):
        inside = place == index
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total


def drawn(scale: float, classes: int = 7, images: int = 400, seed: int = 0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=images)
    logits = rng.normal(size=(images, classes)) * scale
    logits[np.arange(images), labels] += scale
    return logits.astype(np.float32), labels


@pytest.mark.parametrize("scale", [0.3, 2.0, 30.0], ids=["timid", "middling", "certain"])
def test_scores_are_what_their_names_say(scale):
    logits, labels = drawn(scale)
    found = score(torch.from_numpy(logits), torch.from_numpy(labels), 7)
    said = logits.argmax(1)
    exact = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    probabilities = exact / exact.sum(1, keepdims=True)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(labels, said))
    each = -np.log(probabilities[np.arange(len(labels)), labels])
    assert found["nll"] == pytest.approx(each.mean(), rel=1e-9)
    if scale < 30:  # scikit-learn clips probabilities of 0
        assert found["nll"] == pytest.approx(metrics.log_loss(labels, probabilities), rel=1e-6)
    assert found["f1"] == pytest.approx(metrics.f1_score(labels, said, average="macro"), rel=1e-5)
    recall = metrics.recall_score(labels, said, average=None)
    assert found["per_class"] == pytest.approx(recall.tolist(), rel=1e-5)
    assert found["ece"] == pytest.approx(by_hand(logits.astype(np.float64), labels), abs=1e-5)


def test_certainty_shares_the_last_bin():
    """Probabilities that round to 1 belong to the bin that ends there, not to one of their
    own: errors of opposite sign within a bin cancel."""
    logits = torch.tensor([[40.0, 0.0], [40.0, 0.0], [3.0, 0.0], [3.0, 0.0]])
    labels = torch.tensor([0, 1, 0, 0])
    assert torch.softmax(logits, 1)[0, 0] == 1
    expected = by_hand(logits.double().numpy(), labels.numpy())
    assert score(logits, labels, 2)["ece"] == pytest.approx(expected, abs=1e-6)


def test_logits_that_look_like_probabilities_are_still_logits():
    logits = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [1.0, 0.0, 0.5]])
    labels = torch.tensor([0, 1, 2])
    expected = by_hand(logits.double().numpy(), labels.numpy())
    assert score(logits, labels, 3)["ece"] == pytest.approx(expected, abs=1e-6)


def test_f1_leaves_out_a_class_that_is_neither_there_nor_predicted():
    logits = torch.eye(4)[[0, 1, 1, 0]] * 5
    labels = torch.tensor([0, 1, 0, 0])
    expected = metrics.f1_score(labels, logits.argmax(1), average="macro")
    assert score(logits, labels, 4)["f1"] == pytest.approx(expected)


def test_a_run_is_scored_with_its_last_and_its_best_weights(world, digits):
    job = world.job("ce", student="digits-cnn-small", recipe={"lr": 0.05})
    world.keep(job)
    test = open_test_set("digits")
    scores, arrays = score_run(world.store, job.spec.id, world.data, test, torch.device("cpu"))
    assert scores["images"] == len(test.labels) == 597
    assert scores["checksum"] == test.checksum
    assert np.array_equal(arrays["labels"], test.labels.numpy())
    stored = load_file(world.store.record(job.spec.id).weights_path)
    pixels = (test.images.float() / test.scale - test.mean[0]) / test.std[0]
    for which in ("last", "best"):
        network = models.build("digits-cnn-small", world.data.shape, 10).eval()
        network.load_state_dict(
            {k.removeprefix(f"{which}/"): v for k, v in stored.items() if k.startswith(which)}
        )
        with torch.no_grad():
            logits = network(pixels)
        np.testing.assert_allclose(arrays[which], logits.numpy(), rtol=1e-4, atol=1e-4)
        right = (logits.argmax(1) == test.labels).double().mean()
        assert scores[which]["accuracy"] == pytest.approx(float(right))
    assert arrays["last"].dtype == np.float32
    # JSON can hold it.
    json.dumps(scores, allow_nan=False)


def test_a_second_score_is_refused(world):
    job = world.job("ce", seed=1, student="digits-cnn-small")
    world.keep(job)
    record = world.store.record(job.spec.id)
    assert record.test is None
    given = score_run(
        world.store, job.spec.id, world.data, open_test_set("digits"), torch.device("cpu")
    )
    record.score(*given)
    kept = (record.folder / "test.json").read_bytes()
    with pytest.raises(RuntimeError, match="scored on the test set already"):
        record.score({"last": None}, {})
    assert (record.folder / "test.json").read_bytes() == kept
    assert record.predictions().keys() == given[1].keys()


# -- the seal

PACKAGE = Path(kdbench.__file__).parent


def imports(path: Path) -> set[str]:
    """Every module that a file imports, and every name that it takes from one."""
    found: set[str] = set()
    package = [PACKAGE.name, *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return found


def test_only_the_scoring_module_can_open_the_test_set():
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 50
    opening = {
        path.relative_to(PACKAGE).as_posix()
        for path in files
        if any(name.startswith("kdbench.data.test_set") for name in imports(path))
    }
    assert opening == {"training/evaluate.py"}
    # Nor does anybody go round it, by the module's name in a string or by its reader.
    for path in files:
        text = path.read_text()
        inside = path.relative_to(PACKAGE).as_posix()
        if inside not in {"training/evaluate.py", "data/test_set.py"}:
            assert "import_module" not in text or "test_set" not in text, inside
        # A plug-in's data set is checked as arrays, where nothing is trained.
        if not inside.startswith("data/") and inside != "testing/data.py":
            assert "kdbench.data.files.arrays" not in imports(path), inside


class Null:
    """A tracker, a reporter and an Optuna log that do nothing."""

    def touch(self, run_id, listing):
        pass

    def update(self, runs, finished, work, work_done):
        pass

    def log(self, text):
        pass

    def write(self, study):
        return True


#: Hyperparameters of the tuned method are chosen from two trials, on validation images.
TUNE = {"trials": 2, "epochs": 2, "seeds": [100]}


def carried_out(world, digits, root: Path) -> Store:
    """A miniature study with tuning, carried out to its scores; its store."""
    study = world.study(
        "ce",
        "kd",
        "ps-kd",
        student="digits-cnn-small",
        recipe={"epochs": 2, "batch": 64},
        data={"name": "digits", "validation": 200},
        tune=TUNE,
        final={"seeds": [0], "epoch": "best"},
    )
    store, nobody = Store(root), Null()
    planner = Planner(study, digits, store)
    engine = InlineEngine(WorkerSettings(root, "digits", None, "cpu"))
    StudyDriver(planner, store, engine, nobody, nobody, nobody).run()
    return store


def less_time(value):
    """A JSON value without what says when or how fast, and without checksums over that."""
    if isinstance(value, dict):
        gone = {"seconds", "finished", "sha256", "sha256_of_files"}
        return {k: less_time(v) for k, v in value.items() if k not in gone}
    return [less_time(v) for v in value] if isinstance(value, list) else value


#: What the opening of the test set writes, and the measured cost.
AFTER = {"test.json", "test.npz", "small.cost.json"}


def contents(store: Store) -> dict[str, object]:
    """All that a study has written, scores and times left out."""
    found: dict[str, object] = {}
    for path in sorted(store.root.rglob("*")):
        if path.is_dir() or path.name in AFTER or path.suffix == ".lock" or path.name == ".lock":
            continue
        name = path.relative_to(store.root).as_posix()
        if path.suffix == ".json":
            found[name] = less_time(json.loads(path.read_text()))
        elif path.suffix == ".jsonl":
            found[name] = [less_time(json.loads(x)) for x in path.read_text().splitlines()]
        else:
            found[name] = path.read_bytes()
    return found


def noise(name, folder=None):
    """The test set with images and labels that mean nothing."""
    test = open_test_set(name, folder)
    drawn = torch.Generator().manual_seed(1)
    return replace(
        test,
        labels=torch.randint(0, 10, test.labels.shape, generator=drawn),
        images=torch.randint(0, 17, test.images.shape, generator=drawn).to(torch.uint8),
        checksum="noise",
    )


def test_with_noise_for_a_test_set_all_is_the_same_up_to_the_score(
    world, digits, tmp_path, monkeypatch
):
    true = carried_out(world, digits, tmp_path / "true")
    monkeypatch.setattr(evaluate, "open_test_set", noise)
    noisy = carried_out(world, digits, tmp_path / "noise")

    one, other = contents(true), contents(noisy)
    assert one.keys() == other.keys()
    for name in one:
        assert one[name] == other[name], name
    kinds = {Path(name).name for name in one}
    assert {"spec.json", "metrics.jsonl", "result.json", "weights.safetensors"} <= kinds
    assert any(name.endswith(".npy") for name in one)

    # It is a whole study: a choice was made and every final run was scored.
    plan = json.loads(true.plan_path("small").read_text())
    assert plan["complete"]
    rows = {(row["label"], row["row"]): row for row in plan["rows"]}
    assert set(rows) == {
        ("ce", "only"),
        ("kd", "default"),
        ("kd", "tuned"),
        ("ps-kd", "default"),
        ("ps-kd", "tuned"),
    }
    assert len(rows["kd", "tuned"]["trials"]) == 2
    finals = [row["runs"]["0"] for row in rows.values()] + list(plan["teachers"].values())
    for run_id in finals:
        real, scrambled = (store.record(run_id).test for store in (true, noisy))
        assert real["last"]["accuracy"] > 0.5
        assert scrambled["last"]["accuracy"] < 0.3
    # No trial was ever scored on test images.
    for row in rows.values():
        for trial in row["trials"]:
            for run_id in trial["runs"]:
                if run_id not in finals:
                    assert true.record(run_id).test is None


def test_training_data_needs_no_test_part(monkeypatch):
    """The training part is read, named and normalised without it."""
    described = DATASETS["digits"]
    asked = []

    def read(part, folder):
        asked.append(part)
        return described.read(part, folder)

    monkeypatch.setitem(DATASETS, "digits", replace(described, read=read))
    kdbench_data = __import__("kdbench.data", fromlist=["load"])
    kdbench_data.load("digits")
    assert asked == ["train"]
