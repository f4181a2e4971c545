"""What single methods compute, against their formula written out."""

import math

import pytest
import torch
from torch.nn import functional as F

from kdbench import losses
from kdbench.methods import METHODS
from kdbench.methods.base import Incompatible
from kdbench.methods.networks import Frozen, Snapshot, Stage, Trained
from kdbench.methods.types import Progress
from kdbench.models.output import Output
from kdbench.testing import fakes

B, C = fakes.B, fakes.C


def run(key, progress=fakes.END, teacher="same sizes", seed=0, **hparams):
    """Method, outputs, helpers, labels and terms, in float64."""
    method = METHODS[key](**hparams)
    sizes = fakes.shapes(method, teacher)
    out = fakes.outputs(method, sizes, seed, torch.float64)
    parts = fakes.helpers(method, sizes).double()
    batch = fakes.batch(seed)
    return method, out, parts, batch.labels, method.loss(out, batch, parts, progress)


def same(value, expected):
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-13, check_dtype=False)


def kl(student, teacher, temperature=1.0):
    p, q = (F.softmax(z / temperature, dim=1) for z in (student, teacher))
    return (q * (q / p).log()).sum(dim=1).mean()


def logits(out):
    return out["student"].logits, out["teacher"].logits


def test_kd_is_the_convex_mixture():
    _, out, _, labels, terms = run("kd", temperature=3.0, alpha=0.3)
    student, teacher = logits(out)
    same(terms["task"], 0.7 * F.cross_entropy(student, labels))
    same(terms["soft"], 0.3 * 9 * kl(student, teacher, 3.0))


@pytest.mark.parametrize("key", ["kd", "takd", "ensemble", "mse", "logit-mse", "ban"])
def test_alpha_zero_is_ce_bit_for_bit(key):
    method = METHODS[key](alpha=0.0)
    sizes = fakes.shapes(method)
    gradients = []
    for one in (method, METHODS["ce"]()):
        out = fakes.outputs(method, sizes)
        terms = one.loss(out, fakes.batch(), fakes.helpers(one, sizes), fakes.MIDDLE)
        sum(terms.values()).backward()
        gradients.append(out["student"].logits.grad)
    assert torch.equal(*gradients)


def test_kd_gradient_vanishes_at_the_teacher():
    method = METHODS["kd"](alpha=1.0)
    out = fakes.outputs(method, fakes.shapes(method), dtype=torch.float64, alike=True)
    terms = method.loss(out, fakes.batch(), torch.nn.ModuleDict(), fakes.END)
    sum(terms.values()).backward()
    assert abs(sum(terms.values()).item()) < 1e-12
    assert out["student"].logits.grad.abs().max() < 1e-12


def test_tutorial_weights_can_be_pinned():
    assert METHODS["kd"](temperature=2, alpha=0.25).loss_weights() == {"task": 0.75, "soft": 1.0}
    pinned = {"task": 0.75, "representation": 0.25}
    assert METHODS["cosine"]().loss_weights() == pinned
    assert METHODS["hint"](task_weight=0.75, beta=0.25).loss_weights() == pinned


def test_plain_sums_of_tutorials_can_be_written_exactly():
    """CE + alpha * KL without T**2, CE + alpha * MSE(p), and the latter + beta * MSE(features)."""
    for key in ("kd", "mse"):
        _, out, _, labels, terms = run(key, temperature=3.0, alpha=0.7, weights="plain")
        student, teacher = logits(out)
        p_s, p_t = (F.softmax(z / 3, dim=1) for z in (student, teacher))
        soft = kl(student, teacher, 3.0) if key == "kd" else (p_s - p_t).square().mean()
        same(terms["task"], F.cross_entropy(student, labels))
        same(terms["soft"], 0.7 * soft)
    _, out, parts, labels, terms = run(
        "feature-mse", temperature=1, alpha=5, beta=2, weights="plain", soft="mse",
        regressor="none",
    )  # fmt: skip
    assert not list(parts.parameters())
    student, teacher = out["student"], out["teacher"]
    p_s, p_t = (F.softmax(z, dim=1) for z in logits(out))
    expected = (
        F.cross_entropy(student.logits, labels)
        + 5 * (p_s - p_t).square().mean()
        + 2 * (student.features["stage2"] - teacher.features["stage2"]).square().mean()
    )
    same(sum(terms.values()), expected)


@pytest.mark.parametrize(
    ("key", "hparams", "fault"),
    [
        ("kd", {"weights": "convx"}, "weights = convx is none of convex, plain"),
        ("kd", {"alpha": 1.5}, r"alpha = 1.5 is out of range: \[0, 1\] with weights = convex"),
        ("feature-mse", {"soft": "l1"}, "soft = l1 is none of kl, mse"),
        ("feature-mse", {"regressor": "mlp"}, "regressor = mlp is none of conv-bn-relu, conv"),
        ("hint", {"regressor": "mlp"}, "regressor = mlp is none of conv-bn-relu, conv"),
    ],
)
def test_choices_that_do_not_exist_are_refused(key, hparams, fault):
    with pytest.raises(ValueError, match=fault):
        METHODS[key](**hparams)


def test_without_a_regressor_shapes_must_agree():
    method = METHODS["hint"](regressor="none")
    with pytest.raises(Incompatible, match="without a regressor"):
        method.helpers(fakes.shapes(method, "wider, larger, deeper"))


@pytest.mark.parametrize(
    ("key", "progress"), [("takd", fakes.END), ("ban", fakes.END), ("ab", fakes.END)]
)
def test_soft_terms_have_the_square_of_the_temperature(key, progress):
    _, out, _, _, terms = run(key, progress, temperature=3.0, alpha=0.25)
    same(terms["soft"], 0.25 * 9 * kl(*logits(out), 3.0))


def test_ban_adds_both_cross_entropies_as_the_paper_does():
    _, out, _, labels, terms = run("ban")
    student, parent = logits(out)
    soft = -(F.softmax(parent, dim=1) * F.log_softmax(student, dim=1)).sum(dim=1).mean()
    both = F.cross_entropy(student, labels) + soft
    entropy = -(F.softmax(parent, dim=1) * F.log_softmax(parent, dim=1)).sum(dim=1).mean()
    same(sum(terms.values()), both - entropy)  # KL is the cross-entropy less a constant


def test_ab_connects_equal_shapes_by_the_identity():
    method = METHODS["ab"]()
    assert not list(method.helpers(fakes.shapes(method, "same sizes")).parameters())
    assert list(method.helpers(fakes.shapes(method, "wider, larger, deeper")).parameters())


def test_label_smoothing_is_pytorchs():
    _, out, _, labels, terms = run("label-smoothing", smoothing=0.2)
    expected = F.cross_entropy(out["student"].logits, labels, label_smoothing=0.2)
    same(sum(terms.values()), expected)


def test_mse_has_the_square_of_the_temperature():
    _, out, _, _, terms = run("mse", temperature=5.0, alpha=0.5)
    student, teacher = (F.softmax(z / 5, dim=1) for z in logits(out))
    same(terms["soft"], 12.5 * (student - teacher).square().mean())


def test_logit_mse_uses_no_labels_by_default():
    _, out, _, _, terms = run("logit-mse")
    student, teacher = logits(out)
    assert terms["task"].item() == 0
    same(terms["soft"], (student - teacher).square().mean())


@pytest.mark.parametrize("teacher", fakes.TEACHERS)
def test_hint_and_feature_mse_predict_the_teachers_map(teacher):
    for key in ("hint", "feature-mse"):
        _, out, parts, _, terms = run(key, teacher=teacher, beta=2.0)
        predicted = parts["regressor"](out["student"].features["stage2"])
        error = (predicted - out["teacher"].features["stage2"]).square().mean()
        same(terms["representation"], 2 * error)


def test_feature_mse_is_kd_plus_hint():
    terms = run("feature-mse", alpha=0.4, temperature=2.0)[4]
    kd = run("kd", alpha=0.4, temperature=2.0)[1:]
    student, teacher = logits(run("feature-mse")[1])
    same(terms["task"], 0.6 * F.cross_entropy(student, kd[2]))
    same(terms["soft"], 0.4 * 4 * kl(student, teacher, 2.0))


def test_hint_reads_the_tap_it_is_told():
    method = METHODS["hint"](layer="embedding")
    assert method.layers() == ("embedding",)
    sizes = fakes.shapes(method, "wider, larger, deeper")
    assert isinstance(method.helpers(sizes)["regressor"], torch.nn.Linear)
    with pytest.raises(Incompatible, match="needs the layer stage7 of the student"):
        METHODS["hint"](layer="stage7").helpers(sizes)


def test_hint_has_the_tutorials_regressor_too():
    method = METHODS["hint"](regressor="conv")
    assert isinstance(method.helpers(fakes.shapes(method))["regressor"], torch.nn.Conv2d)
    with pytest.raises(ValueError, match="regressor = linear is none of conv-bn-relu, conv"):
        METHODS["hint"](regressor="linear")


def test_at_sums_the_stages():
    _, out, _, _, terms = run("at", beta=10.0)
    student, teacher = out["student"].features, out["teacher"].features
    each = [losses.attention_transfer(student[n], teacher[n]) for n in ("stage1", "stage2")]
    same(terms["representation"], 10 * (each[0] + each[1]))


def test_sp_reads_the_last_common_stage():
    _, out, _, _, terms = run("sp", teacher="wider, larger, deeper", beta=7.0)
    student, teacher = (out[r].features["stage2"] for r in ("student", "teacher"))
    same(terms["representation"], 7 * losses.similarity(student, teacher))


def test_ab_has_two_phases():
    *_, first = run("ab", Progress(0.0, 0.1, 0.124), alpha=0.5)
    *_, rest = run("ab", Progress(0.0, 0.2, 0.125), alpha=0.5)
    assert first["task"] == first["soft"] == rest["representation"] == 0
    assert min(first["representation"], rest["task"], rest["soft"]) > 0


def test_ab_weighs_late_stages_more():
    _, out, parts, _, terms = run("ab", fakes.START, beta=1.0)
    expected = 0
    for weight, name in [(0.5, "stage1_pre"), (1.0, "stage2_pre")]:
        predicted = parts[name](out["student"].features[name])
        target = out["teacher"].features[name]
        expected += weight * losses.activation_boundary(predicted, target, 1.0)
    same(terms["representation"], expected)


def test_fsp_has_two_phases():
    _, out, _, labels, first = run("fsp", fakes.START, beta=50.0)
    *_, rest = run("fsp", fakes.END, beta=50.0)
    assert first["task"] == rest["representation"] == 0
    s, t = out["student"].features, out["teacher"].features
    flows = losses.flow_mse(s["stage1"], s["stage2"], t["stage1"], t["stage2"])
    same(first["representation"], 50 * flows)
    same(rest["task"], F.cross_entropy(out["student"].logits, labels))


def test_fsp_names_the_channels_that_differ():
    method = METHODS["fsp"]()
    with pytest.raises(Incompatible) as reason:
        method.helpers(fakes.shapes(method, "narrower, smaller"))
    assert "stage1: 4 in the student, 3 in the teacher" in str(reason.value)
    assert "stage2: 6 in the student, 5 in the teacher" in str(reason.value)


def test_fsp_and_byot_need_two_stages():
    for key in ("fsp", "byot"):
        method = METHODS[key]()
        with pytest.raises(Incompatible, match=r"needs 2 or more layers .* in .*; only stage1"):
            method.helpers(fakes.shapes(method, student={"stage1": (4, 8, 8)}))


def test_rkd_weighs_both_relations():
    _, out, _, _, terms = run("rkd", distance_weight=2.0, angle_weight=3.0)
    pair = [out[r].features["embedding"] for r in ("student", "teacher")]
    same(terms["distance"], 2 * losses.distance(*pair))
    same(terms["angle"], 3 * losses.angle(*pair))


@pytest.mark.parametrize(
    ("epoch_end", "warmup", "ramp"), [(0.05, 0.2, 0.25), (0.2, 0.2, 1), (1.0, 0.2, 1), (0.1, 0, 1)]
)
def test_dkd_warms_up(epoch_end, warmup, ramp):
    progress = Progress(0.0, epoch_end, 0.0)
    _, out, _, labels, terms = run("dkd", progress, temperature=2.0, warmup=warmup)
    pair = logits(out)
    target, non_target = losses.decoupled_kl(*pair, labels, 2.0)
    same(terms["target"], ramp * 4 * target)
    same(terms["non_target"], ramp * 32 * non_target)
    same(terms["task"], F.cross_entropy(pair[0], labels))


@pytest.mark.parametrize("peers", [2, 3, 4])
def test_dml_is_symmetric_among_its_networks(peers):
    method, out, _, labels, terms = run("dml", peers=peers, soft_weight=0.5)
    assert list(method.networks()) == ["student", *(f"peer{i}" for i in range(1, peers))]
    z = [o.logits for o in out.values()]
    soft = [sum(kl(z[i], z[j]) for j in range(peers) if j != i) / (peers - 1) for i in range(peers)]
    same(terms["task"], F.cross_entropy(z[0], labels))
    same(terms["soft"], 0.5 * soft[0])
    same(terms["peer.task"], sum(F.cross_entropy(x, labels) for x in z[1:]))
    same(terms["peer.soft"], 0.5 * sum(soft[1:]))


@pytest.mark.parametrize("key", ["dml", "kdcl"])
def test_each_peer_is_moved_by_its_own_terms_alone(key):
    _, out, _, _, terms = run(key)
    (terms["task"] + terms["soft"]).backward(retain_graph=True)
    assert out["student"].logits.grad is not None
    assert out["peer1"].logits.grad is None


def test_kdcl_uses_the_least_shifted_logits():
    method, out, _, labels, terms = run("kdcl", temperature=2.0, soft_weight=0.5)
    assert method.views == {"peer1": 1}
    z = torch.stack([o.logits for o in out.values()])
    least = (z - z.gather(2, labels.expand(2, B)[..., None])).min(dim=0).values
    same(terms["soft"], 0.5 * 4 * kl(z[0], least, 2.0))
    same(terms["peer.soft"], 0.5 * 4 * kl(z[1], least, 2.0))


def test_ps_kd_mixes_the_targets():
    method, out, _, labels, terms = run("ps-kd", Progress(0.5, 0.6, 0.55), alpha=0.8)
    assert method.networks()["previous"] == Snapshot("student")
    student, previous = out["student"].logits, out["previous"].logits
    share = 0.8 * 0.6
    target = (1 - share) * F.one_hot(labels, C).double() + share * F.softmax(previous, dim=1)
    same(sum(terms.values()), -(target * F.log_softmax(student, dim=1)).sum(dim=1).mean())


def test_ps_kd_first_epoch_is_ce():
    for epoch_end in (0.1, 1.0):
        _, out, _, labels, terms = run("ps-kd", Progress(0.0, epoch_end, 0.0))
        same(terms["task"], F.cross_entropy(out["student"].logits, labels))
        assert terms["soft"].item() == 0


def test_ps_kd_reaches_alpha_in_the_last_epoch():
    method, out, _, labels, terms = run("ps-kd", fakes.END, alpha=0.8)
    same(terms["task"], 0.2 * F.cross_entropy(out["student"].logits, labels))
    assert method.loss_weights()["soft"] == 0.8


def test_byot_supervises_the_early_exits():
    method, out, parts, labels, terms = run("byot", temperature=2.0, alpha=0.25, beta=3.0)
    assert method.networks() == {"student": Trained("student")}
    student = out["student"]
    early = parts["stage1_bottleneck"](student.features["stage1"])
    exit1 = parts["stage1_classifier"](early.mean(dim=(2, 3)))
    same(terms["task"], F.cross_entropy(student.logits, labels))
    same(terms["exit.task"], 0.75 * F.cross_entropy(exit1, labels))
    same(terms["soft"], 0.25 * kl(exit1, student.logits, 2.0))
    gap = (early - student.features["stage2"]).mean(dim=(2, 3))
    same(terms["representation"], 3 * gap.square().sum().sqrt())


def test_byot_targets_are_constants():
    _, out, _, _, terms = run("byot")
    (terms["soft"] + terms["representation"]).backward()
    assert out["student"].logits.grad is None
    assert out["student"].features["stage2"].grad is None
    assert out["student"].features["stage1"].grad.abs().sum() > 0


def test_ban_counts_generations():
    two = METHODS["ban"]().networks()["teacher"]
    assert two == Frozen(Stage("student", "ban", {"generations": 1}, own_seed=True))
    one = METHODS["ban"](**two.run.hparams).networks()["teacher"]
    assert one == Frozen(Stage("student", "ce", own_seed=True))


def test_takd_learns_from_an_assistant_that_learnt_by_kd():
    teacher = METHODS["takd"]().networks()["teacher"]
    assert teacher == Frozen(Stage("assistant", "kd"))
    grand = METHODS[teacher.run.method]().networks()["teacher"]
    assert grand == Frozen(Stage("teacher"))


def test_ensemble_averages_probabilities():
    method, out, _, labels, terms = run("ensemble", members=4, temperature=2.0, alpha=0.5)
    stages = [s.run for r, s in method.networks().items() if r != "student"]
    assert stages == [Stage("teacher", member=i) for i in range(4)]
    teachers = [out[f"teacher{i}"].logits for i in range(1, 5)]
    mean = torch.stack([F.softmax(z / 2, dim=1) for z in teachers]).mean(dim=0)
    student = out["student"].logits
    expected = (mean * (mean.log() - F.log_softmax(student / 2, dim=1))).sum(dim=1).mean()
    same(terms["soft"], 0.5 * 4 * expected)
    same(terms["task"], 0.5 * F.cross_entropy(student, labels))


def test_taps_of_other_methods_do_not_change_a_loss():
    """In a cohort a network may be asked for more than one method's layers."""
    for key in ("at", "sp", "fsp", "ab", "byot", "hint"):
        method, out, parts, _, terms = run(key, fakes.START)
        extra = {"embedding": torch.randn(B, 3), "other1": torch.randn(B, 3)}
        more = {r: Output(o.logits, {**extra, **o.features}) for r, o in out.items()}
        for name, term in method.loss(more, fakes.batch(), parts, fakes.START).items():
            same(term, terms[name])


def test_convex_weights_sum_to_one_at_temperature_one():
    for key in ("kd", "mse", "takd", "ensemble"):
        weights = METHODS[key](temperature=1.0, alpha=0.3).loss_weights()
        assert math.isclose(sum(weights.values()), 1.0)
