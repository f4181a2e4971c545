"""What the methods whose students are deployed with a head compute, against their formula written
out, and their published defaults."""

import dataclasses

import pytest
import torch
from support.terms import Run, same
from torch.nn import functional as F

from kdbench.methods import METHODS, Incompatible
from kdbench.methods.heads import FeatureTransform, ReusedClassifier
from kdbench.methods.layers import answered
from kdbench.methods.norm import scheduled
from kdbench.methods.types import Progress, Shapes
from kdbench.testing import fakes

SMALLER = "narrower, smaller"
#: A student whose classifier reads the means of its last stage.
POOLED = {"stage1": (4, 8, 8), "stage2": (6, 4, 4), "embedding": (6,)}
DEFAULTS = {
    "simkd": {"beta": 1.0, "factor": 2, "stages": "stage?"},
    "norm": {
        "beta": 1.0,
        "task_weight": 0.1,
        "soft_weight": 0.0,
        "temperature": 4.0,
        "segments": 8,
        "stages": "stage?",
    },
}


@pytest.mark.parametrize("key", DEFAULTS)
def test_published_defaults(key):
    assert dataclasses.asdict(METHODS[key]()) == DEFAULTS[key]


def normalised(x, norm):
    """Batch normalisation by the statistics of the batch, written out."""
    mean = x.mean(dim=(0, 2, 3), keepdim=True)
    variance = (x - mean).square().mean(dim=(0, 2, 3), keepdim=True)
    scale, shift = (p[:, None, None] for p in (norm.weight, norm.bias))
    return (x - mean) / (variance + 1e-5).sqrt() * scale + shift


def pooled(maps, side):
    return F.adaptive_avg_pool2d(maps, side)


@pytest.mark.parametrize(
    ("teacher", "layer", "side"), [(fakes.SAME, "embedding", 1), (SMALLER, "stage2", 3)]
)
def test_simkd_predicts_the_map_that_the_reused_classifier_reads(teacher, layer, side):
    """The classifier of the smaller teacher reads the mean of its last stage."""
    run = Run("simkd", teacher=teacher, beta=3.0)
    f_s, f_t = (f if f.dim() == 4 else f[:, :, None, None] for f in run.features(layer))
    x = pooled(f_s, side)
    for conv, norm in list(run.helpers["head"].projector)[::2]:
        kernel = conv.kernel_size[0]
        x = normalised(F.conv2d(x, conv.weight, padding=kernel // 2), norm).clamp(min=0)
    same(run.terms["representation"], 3 * (x - pooled(f_t, side)).square().mean())
    assert run.terms["task"] == 0
    # The loss has copied the classifier, so from now on the student answers with it.
    weight, bias = (run.out["teacher"].parameters[f"classifier.{p}"] for p in ("weight", "bias"))
    logits = answered(run.method, run.out, run.helpers)["student"].logits
    expected = torch.stack([weight @ v + bias for v in x.mean(dim=(2, 3))])
    same(logits.detach(), expected.detach())


@pytest.mark.parametrize(("factor", "between"), [(1, 16), (2, 8), (4, 4), (64, 1)])
def test_simkd_narrows_the_channels_by_the_factor(factor, between):
    method = METHODS["simkd"](factor=factor)
    head = method.helpers(fakes.shapes(method, "wider, larger, deeper"))["head"]
    convolutions = [part[0] for part in list(head.projector)[::2]]
    assert [c.out_channels for c in convolutions] == [between, between, 16]
    assert [c.kernel_size for c in convolutions] == [(1, 1), (3, 3), (1, 1)]


def test_simkd_leaves_the_students_own_classifier_alone():
    run = Run("simkd")
    sum(run.terms.values()).backward()
    student = run.out["student"]
    assert student.logits.grad is None
    assert all(p.grad is None for p in student.parameters.values())
    assert student.features["embedding"].grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("student", "teacher", "layer"),
    [
        (None, fakes.SAME, "embedding"),
        (None, SMALLER, "embedding"),  # the student's classifier reads a flattened map
        (POOLED, fakes.SAME, "embedding"),  # here the teacher's does
        (POOLED, SMALLER, "stage2"),
    ],
)
def test_norm_matches_each_segment_with_the_teachers_map(student, teacher, layer):
    middle = Progress(0.5, 0.6, 0.55)
    weights = {"beta": 3.0, "task_weight": 0.5, "soft_weight": 2.0, "temperature": 3.0}
    run = Run("norm", middle, teacher, student=student, segments=3, **weights)
    head = run.helpers["head"]
    f_s, f_t = (f if f.dim() == 4 else f[:, :, None, None] for f in run.features(layer))
    (e, e_norm), (c, c_norm) = head.expand, head.contract
    expanded = normalised(torch.einsum("ij,bjhw->bihw", e.weight[:, :, 0, 0], f_s), e_norm)
    size = f_t.shape[2]
    seen = F.adaptive_max_pool2d(expanded, size)
    width = f_t.shape[1]
    segments = [seen[:, n * width : (n + 1) * width] for n in range(3)]
    same(run.terms["representation"], 3 * sum((s - f_t).square().mean() for s in segments))
    back = normalised(torch.einsum("ij,bjhw->bihw", c.weight[:, :, 0, 0], expanded), c_norm)
    vector = (f_s + back).mean(dim=(2, 3))
    own = run.out["student"].parameters
    logits = vector @ own["classifier.weight"].T + own["classifier.bias"]
    same(run.answered["student"].logits, logits)
    same(run.terms["task"], 0.5 * F.cross_entropy(logits, run.labels))
    p, q = (F.softmax(z / 3, dim=1) for z in (logits, run.out["teacher"].logits))
    same(run.terms["soft"], 2 * 9 * (q * (q / p).log()).sum(dim=1).mean())


def test_a_larger_map_of_the_teacher_is_max_pooled():
    sizes = {"stage1": (4, 8, 8), "stage2": (6, 2, 2), "embedding": (6,)}
    run = Run("norm", fakes.MIDDLE, SMALLER, student=sizes, segments=1)
    f_t = F.adaptive_max_pool2d(run.features("stage2")[1], 2)
    expanded = run.answered["student"].features["expanded"]
    same(run.terms["representation"], (expanded - f_t).square().mean())


@pytest.mark.parametrize(
    ("epoch", "factor"),
    [(0, 0.1), (9, 0.1), (10, 0.5), (19, 0.5), (20, 1), (179, 1), (180, 0.5), (209, 0.5),
     (210, 0.1), (239, 0.1)],
)  # fmt: skip
def test_norms_term_is_weighted_as_in_the_authors_240_epochs(epoch, factor):
    for share in (epoch / 240, torch.tensor(epoch / 240)):
        assert scheduled(share, torch.zeros(())).item() == pytest.approx(factor)


def test_norms_maps_are_one_linear_map_after_training():
    """As the paper has it, so that they could be merged into the classifier."""
    head = FeatureTransform("map", 4, 12).double()
    for _ in range(3):
        head(
            {"map": torch.randn(8, 4, 3, 3).double()},
            {
                "classifier.weight": torch.ones(2, 4).double(),
                "classifier.bias": torch.ones(2).double(),
            },
        )
    head.eval()
    own = {
        "classifier.weight": torch.randn(2, 4).double(),
        "classifier.bias": torch.randn(2).double(),
    }

    def logits(vectors):
        return head({"map": vectors}, own).logits

    zero, basis = logits(torch.zeros(1, 4).double()), logits(torch.eye(4).double())
    maps = torch.randn(5, 4, 3, 3).double()
    merged = maps.mean(dim=(2, 3)) @ (basis - zero) + zero
    same(head({"map": maps}, own).logits.detach(), merged.detach())


@pytest.mark.parametrize("key", DEFAULTS)
@pytest.mark.parametrize("role", ["student", "teacher"])
def test_a_classifier_of_several_layers_cannot_be_read(key, role):
    """That of the teacher is reused by simkd, that of the student read by norm."""
    method = METHODS[key]()
    sizes = fakes.shapes(method)
    rest = {r: {} if r == role else p for r, p in sizes.parameters.items()}
    sizes = Shapes(sizes.classes, sizes.examples, sizes.features, rest)
    if key == "simkd" and role == "student":
        assert isinstance(method.helpers(sizes)["head"], ReusedClassifier)
        return
    with pytest.raises(Incompatible, match=f"classifier.weight of the {role}"):
        method.helpers(sizes)
