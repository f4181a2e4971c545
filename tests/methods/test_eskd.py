"""What `eskd` computes, and from whom it learns."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from kdbench.methods import METHODS
from kdbench.methods.networks import Frozen, Stage
from kdbench.testing import fakes


def terms_of(key, step=0.999, **hparams):
    method = METHODS[key](**hparams)
    out = fakes.outputs(method, fakes.shapes(method), dtype=torch.float64)
    progress = replace(fakes.END, step=step)
    return out, method.loss(out, fakes.batch(), torch.nn.ModuleDict(), progress)


@pytest.mark.parametrize("step", [0.0, 0.999])
def test_it_is_kd_from_a_teacher_of_fewer_epochs(step):
    hparams = {"temperature": 3.0, "alpha": 0.3}
    _, terms = terms_of("eskd", step, **hparams)
    _, expected = terms_of("kd", step, **hparams)
    for name in ("task", "soft"):
        torch.testing.assert_close(terms[name], expected[name], rtol=1e-14, atol=0)
    teacher = METHODS["eskd"](teacher_epochs=0.4).networks()["teacher"]
    assert teacher == Frozen(Stage("teacher", epochs=0.4))


@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_distillation_may_stop_before_the_training_does(alpha):
    hparams = {"temperature": 3.0, "alpha": alpha, "distillation": 0.6}
    _, before = terms_of("eskd", 0.59, **hparams)
    _, kd = terms_of("kd", **{k: hparams[k] for k in ("temperature", "alpha")})
    torch.testing.assert_close(sum(before.values()), sum(kd.values()), rtol=1e-14, atol=0)
    out, after = terms_of("eskd", 0.6, **hparams)
    labels = F.cross_entropy(out["student"].logits, fakes.batch().labels)
    torch.testing.assert_close(sum(after.values()), labels, rtol=1e-14, atol=0)
