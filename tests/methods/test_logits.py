"""What the methods on class distributions and logits compute, against their formulas, and
their published defaults."""

import dataclasses
import math

import pytest
import torch
from torch.nn import functional as F

from kdbench import losses
from kdbench.methods import METHODS
from kdbench.methods.networks import Frozen, Stage
from kdbench.methods.types import Progress
from kdbench.testing import fakes

MIDDLE = fakes.MIDDLE


def run(key, progress=MIDDLE, **hparams):
    """Method, student's and teacher's logits, labels, terms and helpers, in float64."""
    method = METHODS[key](**hparams)
    sizes = fakes.shapes(method)
    out = fakes.outputs(method, sizes, dtype=torch.float64)
    helpers = fakes.helpers(method, sizes).double()
    labels = fakes.batch().labels
    terms = method.loss(out, fakes.batch(), helpers, progress)
    pair = tuple(out[role].logits for role in ("student", "teacher") if role in out)
    return method, pair, labels, terms, (helpers, out)


def same(value, expected):
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-13, check_dtype=False)


#: By method: hyperparameters apart from the defaults, and each term apart from `task`.
TERMS = {
    "nkd": (
        {"temperature": 2.0, "non_target_weight": 5.0},
        lambda p, y: {
            "target": losses.normalised_cross_entropy(*p, y, 2.0)[0],
            "non_target": 20 * losses.normalised_cross_entropy(*p, y, 2.0)[1],
        },
    ),
    "dist": (
        {"temperature": 3.0, "inter_weight": 5.0, "intra_weight": 7.0},
        lambda p, y: {
            "inter": 45 * losses.correlation_distance(*p, 3.0)[0],
            "intra": 63 * losses.correlation_distance(*p, 3.0)[1],
        },
    ),
    "ls-kd": (
        {"temperature": 3.0, "soft_weight": 5.0, "task_weight": 0.3},
        lambda p, y: {
            "task": 0.3 * F.cross_entropy(p[0], y),
            "soft": 45 * losses.kl(*map(losses.standardise, p), 3.0),
        },
    ),
    "norm-kd": (
        {"temperature_factor": 1.5, "alpha": 0.3},
        lambda p, y: {
            "task": 0.7 * F.cross_entropy(p[0], y),
            "soft": 0.3 * losses.normalised_kl(*p, 1.5),
        },
    ),
    "ttm": (
        {"exponent": 0.3, "soft_weight": 5.0},
        lambda p, y: {"soft": 5 * losses.transformed_kl(*p, 0.3)},
    ),
    "wttm": (
        {"exponent": 0.3, "soft_weight": 5.0},
        lambda p, y: {"soft": 5 * losses.weighted_transformed_kl(*p, 0.3)},
    ),
    "ikl": (
        {"temperature": 2.0, "soft_weight": 5.0, "logit_weight": 7.0, "weight_temperature": 3.0},
        lambda p, y: {
            "soft": 5 * losses.soft_cross_entropy(*(z / 2 for z in p)),
            "logits": 7 * losses.logit_variance(*p, 3.0),
        },
    ),
    "wsld": (
        {"temperature": 3.0, "soft_weight": 5.0},
        lambda p, y: {"soft": 45 * losses.weighted_soft_cross_entropy(*p, y, 3.0)},
    ),
    "rld": (
        {
            "temperature": 3.0,
            "target_temperature": 2.0,
            "target_weight": 5.0,
            "non_target_weight": 7.0,
        },
        lambda p, y: {
            "target": 20 * losses.refined_kl(*p, y, 3.0, 2.0)[0],
            "non_target": 63 * losses.refined_kl(*p, y, 3.0, 2.0)[1],
        },
    ),
    "abkd": (
        {"temperature": 3.0, "teacher_power": 0.5, "student_power": 0.9, "soft_weight": 5.0},
        lambda p, y: {"soft": 5 * losses.alpha_beta_divergence(*p, 0.5, 0.9, 3.0)},
    ),
    "ctkd": (
        {"alpha": 0.3, "start": 2.0, "width": 10.0},
        lambda p, y: {
            "task": 0.7 * F.cross_entropy(p[0], y),
            "soft": 0.3 * losses.tempered_kl(*p, 2 + 10 * torch.tensor(1.0).double().sigmoid()),
        },
    ),
    "ofa": (
        {"temperature": 2.0, "exponent": 1.5, "soft_weight": 5.0},
        lambda p, y: {"soft": 5 * losses.enhanced_cross_entropy(*p, y, 1.5, 2.0)},
    ),
    "mlkd": (
        {"alpha": 0.3},
        lambda p, y: {
            "task": 0.7 * F.cross_entropy(p[0], y),
            "instance": 0.3 * sum(t**2 * losses.kl(*p, t) for t in (2, 3, 4, 5, 6)),
            "batch": 0.3 * sum(losses.gram_distance(*p, t)[0] for t in (2, 3, 4, 5, 6)),
            "class": 0.3 * sum(losses.gram_distance(*p, t)[1] for t in (2, 3, 4, 5, 6)),
        },
    ),
    "tf-kd-reg": (
        {"temperature": 0.5, "alpha": 0.3, "multiplier": 5.0, "correct_probability": 0.8},
        lambda p, y: {
            "task": 0.7 * F.cross_entropy(p[0], y),
            "soft": 1.5
            * losses.kl_to_log_probs(
                p[0], losses.virtual_teacher(y, p[0].shape[1], 0.8, 0.5, p[0])
            ),
        },
    ),
    "tf-kd-self": (
        {"temperature": 3.0, "alpha": 0.3, "multiplier": 5.0},
        lambda p, y: {
            "task": 0.7 * F.cross_entropy(p[0], y),
            "soft": 13.5 * losses.kl(*p, 3.0),
        },
    ),
}

DEFAULTS = {
    "nkd": {"temperature": 3.0, "non_target_weight": 3.5},
    "dist": {"temperature": 4.0, "inter_weight": 2.0, "intra_weight": 2.0},
    "ls-kd": {"temperature": 2.0, "soft_weight": 9.0, "task_weight": 0.1},
    "norm-kd": {"temperature_factor": 2.0, "alpha": 0.9},
    "ttm": {"exponent": 0.1, "soft_weight": 45.0},
    "wttm": {"exponent": 0.2, "soft_weight": 4.0},
    "ikl": {
        "temperature": 4.0,
        "soft_weight": 1.0,
        "logit_weight": 12.0,
        "weight_temperature": 100.0,
        "warmup": 20 / 240,
    },
    "wsld": {"temperature": 4.0, "soft_weight": 2.25},
    "rld": {
        "temperature": 4.0,
        "target_weight": 1.0,
        "non_target_weight": 8.0,
        "target_temperature": 1.0,
        "warmup": 20 / 240,
    },
    "abkd": {"temperature": 4.0, "teacher_power": 0.8, "student_power": 0.3, "soft_weight": 32.0},
    "ctkd": {"alpha": 0.9, "start": 1.0, "width": 20.0, "reversal": 1.0, "warmup": 10 / 240},
    "annealing-kd": {"init_share": 200 / 300, "max_temperature": 10},
    "ofa": {"temperature": 1.0, "exponent": 1.0, "soft_weight": 1.0},
    "dhkd": {"temperature": 2.0, "soft_weight": 1.0},
    "mlkd": {"alpha": 0.9},
    "tf-kd-reg": {
        "temperature": 20.0,
        "alpha": 0.1,
        "multiplier": 1.0,
        "correct_probability": 0.99,
    },
    "tf-kd-self": {"temperature": 6.0, "alpha": 0.95, "multiplier": 0.5},
}


@pytest.mark.parametrize("key", DEFAULTS)
def test_published_defaults(key):
    assert dataclasses.asdict(METHODS[key]()) == DEFAULTS[key]


@pytest.mark.parametrize("key", TERMS)
def test_every_term_is_the_formulas(key):
    hparams, formula = TERMS[key]
    assert all(value != DEFAULTS[key][name] for name, value in hparams.items())
    _, pair, labels, terms, _ = run(key, **hparams)
    expected = {"task": F.cross_entropy(pair[0], labels), **formula(pair, labels)}
    assert terms.keys() == expected.keys()
    for name, term in terms.items():
        same(term, expected[name])
        assert term.item() > 0


@pytest.mark.parametrize(
    ("key", "term"),
    [("ikl", "soft"), ("ikl", "logits"), ("rld", "target"), ("rld", "non_target")],
)
@pytest.mark.parametrize(("warmup", "ramp"), [(0.2, 0.25), (0.05, 1.0), (0.0, 1.0)])
def test_warm_up(key, term, warmup, ramp):
    progress = Progress(0.0, 0.05, 0.0)
    *_, terms, _ = run(key, progress, warmup=warmup)
    *_, whole, _ = run(key)
    same(terms[term], ramp * whole[term])
    same(terms["task"], whole["task"])


def test_the_logit_distillation_of_two_heads():
    _, (_, teacher), labels, terms, (helpers, out) = run("dhkd", temperature=3.0, soft_weight=5.0)
    first, _, second = helpers["head"]
    hidden = F.relu(first(out["student"].features["embedding"]))
    same(terms["soft"], 45 * losses.binary_kl(second(hidden), teacher, 3.0))
    same(terms["task"], F.cross_entropy(out["student"].logits, labels))
    terms["soft"].backward()
    assert out["student"].logits.grad is None
    assert out["student"].features["embedding"].grad.any()


@pytest.mark.parametrize(
    ("step", "share"), [(0.0, 1 / 4), (0.12, 1 / 4), (0.2, 2 / 4), (0.49, 4 / 4)]
)
def test_annealing_raises_the_scale_of_the_logits(step, share):
    hparams = {"init_share": 0.5, "max_temperature": 4}
    _, (student, teacher), _, terms, _ = run("annealing-kd", Progress(0.0, 0.1, step), **hparams)
    same(terms["soft"], (student - share * teacher).square().mean())
    assert terms["task"] == 0


def test_annealing_ends_with_the_labels():
    _, (student, _), labels, terms, _ = run("annealing-kd", Progress(0.5, 0.6, 0.5), init_share=0.5)
    same(terms["task"], F.cross_entropy(student, labels))
    assert terms["soft"] == 0


def gradient_of_the_temperature(progress, **hparams):
    *_, terms, (helpers, _) = run("ctkd", progress, **hparams)
    terms["soft"].backward()
    return helpers["temperature"].raw.grad.item()


@pytest.mark.parametrize(
    ("epoch_end", "factor"), [(0.05, 0.5), (0.1, 1.0), (0.9, 1.0), (0.025, (1 - 0.5**0.5) / 2)]
)
def test_the_temperature_ascends_the_soft_term_more_and_more(epoch_end, factor):
    progress = Progress(0.0, epoch_end, 0.0)
    moved = gradient_of_the_temperature(progress, warmup=0.1, reversal=3.0)
    raw = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    _, pair, *_ = run("ctkd")
    (0.9 * losses.tempered_kl(*pair, 1 + 20 * raw.sigmoid())).backward()
    assert moved == pytest.approx(-3 * factor * raw.grad.item(), rel=1e-6)


def test_a_temperature_without_reversal_stays():
    assert gradient_of_the_temperature(MIDDLE, reversal=0.0) == 0
    assert math.isfinite(gradient_of_the_temperature(MIDDLE, warmup=0.0))


def test_tf_kd_self_learns_from_a_finished_student_of_its_own_kind():
    teacher = METHODS["tf-kd-self"]().networks()["teacher"]
    assert teacher == Frozen(Stage("student", "ce", own_seed=True))
    assert "teacher" not in METHODS["tf-kd-reg"]().networks()


def test_tf_kd_self_is_ban_with_other_weights():
    *_, ours, _ = run("tf-kd-self", temperature=2.0, alpha=0.5, multiplier=1.0)
    *_, theirs, _ = run("ban", temperature=2.0, alpha=0.5, generations=1)
    same(ours["soft"], theirs["soft"])
    same(ours["task"], 0.5 * theirs["task"])  # ban adds its terms, this one mixes them


@pytest.mark.parametrize("key", ["norm-kd", "ctkd", "mlkd", "tf-kd-reg", "tf-kd-self"])
def test_alpha_zero_is_the_labels_alone(key):
    _, (student, *_), labels, terms, _ = run(key, alpha=0.0)
    same(sum(terms.values()), F.cross_entropy(student, labels))
