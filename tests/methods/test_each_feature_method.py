"""What the methods on features and relations compute, against their formula written out."""

import math

import pytest
import torch
from support.terms import Run, same
from torch.nn import functional as F

from kdbench import losses
from kdbench.methods import METHODS
from kdbench.methods.types import Progress
from kdbench.testing import fakes

WIDER = "wider, larger, deeper"
#: The published defaults.
DEFAULTS = {
    "pkt": {"task": 1.0, "representation": 30000.0},
    "cc": {"task": 1.0, "representation": 0.02},
    "cc-rbf": {"task": 1.0, "representation": 100.0},
    "nst": {"task": 1.0, "representation": 50.0},
    "ickd": {"task": 1.0, "representation": 2.5},
    "vid": {"task": 1.0, "representation": 1.0},
    "wkd-f": {"task": 1.0, "mean": 0.32, "deviation": 0.08},
    "reviewkd": {"task": 1.0, "representation": 5.0},
    "semckd": {"task": 1.0, "soft": 16.0, "representation": 400.0},
    "mgd": {"task": 1.0, "representation": 7e-5},
    "vkd": {"task": 1.0, "soft": 1.0, "representation": 1.0},
    "srd": {"task": 1.0, "soft": 1.0, "representation": 2.0},
    "nd": {"task": 1.0, "soft": 16.0, "representation": 2.0, "centres": 1.0},
    "ft": {"task": 1.0, "representation": 500.0, "reconstruction": 1.0},
}
OTHERS = {
    "cc": {"width": 128},
    "cc-rbf": {"gamma": 0.4, "order": 2},
    "wkd-f": {"grid": 1, "decay": 0.625},
    "reviewkd": {"warmup": 1 / 12},
    "semckd": {"width": 64, "temperature": 4.0},
    "mgd": {"mask_share": 0.15},
    "srd": {"power": 4.0},
    "ft": {"rate": 0.5, "init_share": 0.03, "factors": "flat"},
}


def kl(student, teacher, temperature=1.0):
    p, q = (F.softmax(z / temperature, dim=1) for z in (student, teacher))
    return (q * (q / p).log()).sum(dim=1).mean()


def check_task(run):
    same(run.terms["task"], F.cross_entropy(run.logits[0], run.labels))


@pytest.mark.parametrize("key", DEFAULTS)
def test_defaults_are_the_published_ones(key):
    method = METHODS[key]()
    assert method.loss_weights() == pytest.approx(DEFAULTS[key])
    assert {name: getattr(method, name) for name in OTHERS.get(key, {})} == OTHERS.get(key, {})


@pytest.mark.parametrize("teacher", fakes.TEACHERS)
def test_pkt_and_cc_rbf_compare_embeddings(teacher):
    run = Run("pkt", teacher=teacher, beta=3.0)
    same(run.terms["representation"], 3 * losses.affinity_kl(*run.features("embedding")))
    check_task(run)
    run = Run("cc-rbf", teacher=teacher, beta=3.0, gamma=0.7, order=3)
    expected = losses.rbf_mse(*run.features("embedding"), 0.7, 3)
    same(run.terms["representation"], 3 * expected)
    check_task(run)


def test_cc_projects_both_embeddings():
    run = Run("cc", teacher=WIDER, beta=3.0, width=9)
    projected = [run.helpers[r](f) for r, f in zip(run.out, run.features("embedding"), strict=True)]
    assert [p.shape for p in projected] == [(fakes.B, 9)] * 2
    same(run.terms["representation"], 3 * losses.correlation_congruence(*projected))
    check_task(run)


def test_nst_sums_the_stages():
    run = Run("nst", teacher=WIDER, beta=3.0)
    each = [losses.selectivity(*run.features(n)) for n in ("stage1", "stage2")]
    same(run.terms["representation"], 3 * sum(each))
    check_task(run)


def test_ickd_reads_the_last_common_stage():
    run = Run("ickd", teacher=WIDER, beta=3.0)
    student, teacher = run.features("stage2")
    embedded = run.helpers["embed"](student)
    assert embedded.shape[1] == teacher.shape[1]
    same(run.terms["representation"], 3 * losses.channel_correlation(embedded, teacher))
    check_task(run)


def test_vid_sums_the_stages():
    run = Run("vid", teacher=WIDER, beta=3.0)
    total = 0
    for name in ("stage1", "stage2"):
        student, teacher = run.features(name)
        mean, variance = run.helpers[name](student)
        torch.testing.assert_close(variance, torch.full_like(variance, 5.0))
        spread = torch.distributions.Normal(mean, variance.view(1, -1, 1, 1).sqrt())
        nll = -spread.log_prob(F.avg_pool2d(teacher, 2)).mean()
        total = total + nll - math.log(2 * math.pi) / 2
    torch.testing.assert_close(run.terms["representation"], 3 * total)
    check_task(run)


@pytest.mark.parametrize(
    ("step", "decay", "weight"),
    [(0.0, 0.5, 1), (0.5, 0.5, 1), (0.75, 0.5, 0.5), (1.0, 0.5, 0), (0.9, 1.0, 1)],
)
def test_wkd_f_weighs_moments_and_decays(step, decay, weight):
    run = Run("wkd-f", Progress(0.0, 0.1, step), teacher=WIDER, beta=3.0, ratio=2.0, decay=decay)
    student, teacher = run.features("stage2")
    mean, deviation = losses.wasserstein(run.helpers["projection"](student), teacher)
    same(run.terms["mean"], weight * 6 * mean)
    same(run.terms["deviation"], weight * 3 * deviation)
    check_task(run)


@pytest.mark.parametrize("teacher", fakes.TEACHERS)
def test_reviewkd_predicts_every_level(teacher):
    run = Run("reviewkd", Progress(0.0, 0.05, 0.0), teacher=teacher, beta=3.0, warmup=0.2)
    student, target = run.out["student"].features, run.out["teacher"].features
    reviewed = run.helpers["review"]([student[n] for n in ("stage1", "stage2", "embedding")])
    maps = [target["stage1_pre"], target["stage2_pre"], target["embedding"][:, :, None, None]]
    each = [losses.hierarchical_context(a, t) for a, t in zip(reviewed, maps, strict=True)]
    same(run.terms["representation"], 0.25 * 3 * sum(each))
    check_task(run)


def test_reviewkd_warms_up():
    first, full, late = (
        Run("reviewkd", Progress(0.0, end, 0.0), warmup=0.2).terms["representation"]
        for end in (0.1, 0.2, 1.0)
    )
    same(full, 2 * first)
    same(full, late)


def test_semckd_weighs_pairs_of_stages():
    run = Run("semckd", teacher=WIDER, beta=3.0, temperature=2.0, soft_weight=0.5, width=8)
    pairs = [run.features(n) for n in ("stage1", "stage2")]
    students, teachers = zip(*pairs, strict=True)
    errors, attention = run.helpers["calibration"](students, teachers)
    same(attention.sum(dim=2), torch.ones(fakes.B, 2))
    same(run.terms["representation"], 3 * (errors * attention).sum(dim=2).mean())
    same(run.terms["soft"], 0.5 * 4 * kl(*run.logits, 2.0))
    check_task(run)


def test_mgd_masks_whole_channels_of_single_images():
    run = Run("mgd", teacher=WIDER, beta=3.0, mask_share=0.5)
    student, teacher = run.features("stage2")
    batch = fakes.batch()
    chance = torch.rand(fakes.B, 10, 1, 1, generator=batch.generator)
    masked = torch.where(chance < 0.5, 0, run.helpers["align"](student))
    error = run.helpers["generation"](masked) - F.avg_pool2d(teacher, 2)
    same(run.terms["representation"], 3 * error.square().sum() / fakes.B)
    check_task(run)


def test_mgd_needs_no_alignment_for_equal_channels():
    assert isinstance(Run("mgd").helpers["align"], torch.nn.Identity)


def test_vkd_projects_and_normalises():
    run = Run("vkd", teacher=WIDER, beta=3.0, temperature=2.0, soft_weight=0.5)
    student, teacher = run.features("embedding")
    projected = student @ run.helpers["projection"].matrix()
    expected = losses.normalised_smooth_l1(projected, teacher)
    same(run.terms["representation"], 3 * expected)
    same(run.terms["soft"], 0.5 * 4 * kl(*run.logits, 2.0))
    check_task(run)


def test_srd_projects_without_a_bias():
    run = Run("srd", teacher=WIDER, beta=3.0, power=2.0, temperature=2.0, soft_weight=0.5)
    student, teacher = run.features("embedding")
    projected = student @ run.helpers["projector"].weight.T
    same(run.terms["representation"], 3 * losses.log_power_error(projected, teacher, 2.0))
    same(run.terms["soft"], 0.5 * 4 * kl(*run.logits, 2.0))
    check_task(run)


@pytest.mark.parametrize("teacher", fakes.TEACHERS)
def test_nd_points_to_learnt_centres(teacher):
    run = Run("nd", teacher=teacher, beta=3.0, temperature=2.0, soft_weight=0.5)
    student, target = run.features("embedding")
    centres = run.helpers["class"].centres
    adapted = run.helpers["adapter"](student)
    expected = losses.norm_and_direction(adapted, target, centres, run.labels)
    same(run.terms["representation"], 3 * expected)
    same(run.terms["centres"], (centres[run.labels] - target).square().sum(dim=1).mean() / 2)
    same(run.terms["soft"], 0.5 * 4 * kl(*run.logits, 2.0))
    check_task(run)


def test_nd_centres_become_class_means():
    run = Run("nd")
    centres = run.helpers["class"].centres
    target = run.features("embedding")[1].detach()
    for _ in range(200):
        term = (centres[run.labels] - target).square().sum(dim=1).mean() / 2
        (gradient,) = torch.autograd.grad(term, centres)
        with torch.no_grad():
            centres -= gradient
    for label in run.labels.unique():
        expected = target[run.labels == label].mean(dim=0)
        torch.testing.assert_close(centres[label].detach(), expected, rtol=1e-6, atol=1e-6)


def test_nd_term_moves_no_centre():
    run = Run("nd")
    run.terms["representation"].backward()
    assert run.helpers["class"].centres.grad is None


@pytest.mark.parametrize("factors", ["flat", "attention"])
def test_ft_compares_factors_after_the_first_phase(factors):
    setting = {"teacher": WIDER, "beta": 3.0, "init_share": 0.2, "factors": factors, "rate": 0.4}
    first = Run("ft", Progress(0.0, 0.1, 0.19), **setting)
    rest = Run("ft", Progress(0.0, 0.1, 0.2), **setting)
    assert first.terms["representation"] == 0
    student, teacher = rest.features("stage2")
    factor = rest.helpers["encoder"](teacher)
    assert factor.shape[1] == 4
    form = {"flat": losses.factor_l1, "attention": losses.factor_attention_l1}[factors]
    expected = form(rest.helpers["translator"](student), F.avg_pool2d(factor, 2))
    same(rest.terms["representation"], 3 * expected)
    same(rest.terms["reconstruction"], (rest.helpers["decoder"](factor) - teacher).abs().mean())
    same(first.terms["reconstruction"], rest.terms["reconstruction"])
    check_task(rest)


def test_ft_trains_the_paraphraser_by_reconstruction_alone():
    run = Run("ft")
    run.terms["representation"].backward(retain_graph=True)
    assert all(p.grad is None for p in run.helpers["encoder"].parameters())
    run.terms["reconstruction"].backward()
    assert all(p.grad is not None for p in run.helpers["encoder"].parameters())


def test_ft_refuses_other_factors():
    with pytest.raises(ValueError, match="factors = mean is none of flat, attention"):
        METHODS["ft"](factors="mean")
