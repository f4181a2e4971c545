"""The work of a step is counted, not described."""

from dataclasses import replace

import pytest
import torch

from kdbench import models
from kdbench.hours.measured import MEASURED
from kdbench.hours.work import Images, Work, forward_work, step_work
from kdbench.methods import METHODS
from kdbench.methods.networks import RoleModels
from kdbench.records.spec import DataSpec, Recipe, RunSpec

DIGITS = Images((1, 8, 8), 10, 1200)
TEACHER, STUDENT = "digits-cnn", "digits-cnn-small"
RECIPE = Recipe(10, 64, "sgd", 0.1, 0.9, 0.0, "constant", (), 0.0, "fp32", "auto")
#: The images that each measured network was shown.
SHOWN = {
    "mnist-mlp": Images((1, 28, 28), 10, 50_000),
    "digits-cnn-small": DIGITS,
    "digits-cnn": DIGITS,
}


def step(
    key: str, student: str = STUDENT, images: Images = DIGITS, batch: int = 64, **recipe: str
) -> Work:
    method = METHODS[key]()
    role_models = RoleModels(
        method.networks(),
        in_slot=lambda slot: TEACHER if slot == "teacher" else student,
        of_frozen=lambda _, run: TEACHER if run.model == "teacher" else student,
    ).by_role()
    hparams = {name: getattr(method, name) for name in method.hparams()}
    data = DataSpec("digits", "", 0, 0, "none", "all")
    spec = RunSpec(data, {}, key, 1, "", hparams, replace(RECIPE, **recipe), 0)
    return step_work(spec, role_models, images, batch)


@pytest.mark.parametrize("key", METHODS)
def test_every_method_can_be_counted_and_costs_no_less_than_the_labels_alone(key: str) -> None:
    state = torch.get_rng_state()
    work, alone = step(key), step("ce")
    assert work.calls >= alone.calls
    assert work.flops >= alone.flops
    assert work.bytes >= 0.9 * alone.bytes  # a student without its classifier reads less
    assert torch.equal(torch.get_rng_state(), state)


def test_a_forward_has_the_products_of_its_network() -> None:
    work = forward_work(TEACHER, DIGITS, 250)
    assert work.flops == 2 * 250 * models.macs(TEACHER, DIGITS.shape, DIGITS.classes)
    assert forward_work(TEACHER, DIGITS, 500).calls == work.calls
    assert forward_work(TEACHER, DIGITS, 500).flops == 2 * work.flops


def test_a_step_has_three_products_for_each_of_the_forwards_but_the_images_gradient() -> None:
    forward = forward_work(STUDENT, DIGITS, 64).flops
    assert 2 * forward < step("ce").flops < 3 * forward


def test_networks_of_the_run_are_counted_and_frozen_ones_are_not() -> None:
    alone = step("ce").flops
    assert step("dml").flops == pytest.approx(2 * alone)
    assert step("kd").flops == alone
    forward = forward_work(STUDENT, DIGITS, 64).flops
    assert step("mean-teacher").flops == pytest.approx(alone + forward)


def test_bf16_moves_fewer_bytes_for_the_same_products() -> None:
    images = Images((3, 32, 32), 10, 50_000)
    narrow, wide = (step("ce", "lightnn", images, precision=p) for p in ("bf16", "fp32"))
    assert narrow.flops == wide.flops
    assert 0.5 < narrow.bytes / wide.bytes < 0.75


@pytest.mark.parametrize("network", SHOWN)
def test_the_work_beside_a_measured_step_is_what_is_counted(network: str) -> None:
    (row,) = [row for row in MEASURED if row.network == network]
    counted = step("ce", network, SHOWN[network], row.batch)
    assert (counted.calls, counted.flops) == (row.work.calls, row.work.flops)
    assert counted.bytes == pytest.approx(row.work.bytes, rel=0.01)
