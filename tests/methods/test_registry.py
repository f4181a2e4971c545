"""What every method owes, by being listed in METHODS."""

import dataclasses
import inspect
import re
from pathlib import Path

import pytest
import torch
from support import method_fakes as fakes

import kdbench.methods
from kdbench.methods import BUILTIN, METHODS
from kdbench.methods.base import Incompatible, Method, Paper
from kdbench.methods.networks import Average, Frozen, Snapshot, Trained
from kdbench.methods.types import Progress
from kdbench.models import MODELS, paper_of
from kdbench.models.output import Output

KEYS = list(METHODS)


def total(terms):
    return sum(terms.values())


def compute(method, out, sizes, progress, seed=0):
    return method.loss(out, fakes.batch(seed), fakes.helpers(method, sizes), progress)


def test_the_table_is_what_was_promised():
    assert set(BUILTIN) == {
        *("ce", "label-smoothing", "kd", "mse", "logit-mse", "cosine", "hint", "feature-mse"),
        *("at", "ab", "fsp", "rkd", "sp", "dkd", "dml", "kdcl", "ps-kd", "byot", "ban", "takd"),
        "ensemble",
    }
    assert next(iter(METHODS)) == "ce"


@pytest.mark.parametrize("key", BUILTIN)
def test_the_key_is_the_file(key):
    file = Path(inspect.getfile(BUILTIN[key]))
    assert file == Path(kdbench.methods.__file__).parent / f"{key.replace('-', '_')}.py"
    assert METHODS.origin(key) == "kdbench"


def test_a_key_belongs_to_one_paper():
    papers = [*(kind.paper for kind in METHODS.values()), *filter(None, map(paper_of, MODELS))]
    papers += [found.paper for found in BUILTIN.values()]
    assert len({paper.key for paper in papers}) == len(set(papers))


@pytest.mark.parametrize("key", KEYS)
class TestDeclaration:
    def test_is_a_frozen_record_of_knobs(self, key):
        method = METHODS[key]()
        assert isinstance(method, Method)
        assert METHODS[key].__dataclass_params__.frozen
        assert all("hparam" in field.metadata for field in dataclasses.fields(method))
        assert method == METHODS[key]()
        assert hash(method) == hash(METHODS[key]())

    def test_docstring_is_a_page(self, key):
        page = inspect.cleandoc(METHODS[key].__doc__)
        assert re.match(r"The student[^.]*\.", page.replace("\n", " "))
        for heading in ("Formula:", "Symbols:", "Differs from the paper:"):
            assert heading in page
        listed = page.split("Differs from the paper:")[1].lstrip(" ")
        assert listed.startswith(("nothing known", "\n    - "))
        assert max(map(len, page.splitlines())) <= 96

    def test_every_knob_is_in_the_docstring_and_helped(self, key):
        method = METHODS[key]
        for name, spec in method.hparams().items():
            assert spec.help, name
            word = {"temperature": "T"}.get(name, name)
            assert re.search(rf"\b{word}\b", method.__doc__), name

    def test_defaults_lie_in_limits_and_ranges(self, key):
        method = METHODS[key]()
        for name, spec in method.hparams().items():
            value = getattr(method, name)
            if spec.search is not None:
                assert spec.search.low <= value <= spec.search.high, name
                assert spec.low is None or spec.low <= spec.search.low, name
                assert spec.high is None or spec.search.high <= spec.high, name
                assert not spec.search.log or spec.search.low > 0, name
                assert isinstance(value, float), (
                    f"{name}: only continuous hyperparameters are searched"
                )
            elif not isinstance(value, str):
                assert spec.low is not None, f"{name} has no lower limit"

    def test_out_of_range_names_the_knob(self, key):
        for name, spec in METHODS[key].hparams().items():
            if spec.low is not None:
                with pytest.raises(ValueError, match=rf"^{name} = .*out of range"):
                    METHODS[key](**{name: spec.low - 1})
            if spec.high is not None:
                with pytest.raises(ValueError, match=rf"^{name} = .*out of range"):
                    METHODS[key](**{name: spec.high + 1})
            with pytest.raises(ValueError, match=f"^{name} = "):
                METHODS[key](**{name: None})

    def test_paper_is_complete(self, key):
        paper = METHODS[key].paper
        assert isinstance(paper, Paper)
        assert all([paper.key, paper.authors, paper.title, paper.venue])
        assert 1950 < paper.year < 2100
        assert str(paper.year) in paper.key
        surname = paper.authors.split(",")[0].lower()
        assert paper.key.startswith(surname)

    def test_networks_are_well_formed(self, key):
        method = METHODS[key]()
        networks = method.networks()
        assert networks["student"] == Trained("student")
        for source in networks.values():
            if isinstance(source, Snapshot | Average):
                assert isinstance(networks[source.of], Trained)
            if isinstance(source, Frozen):
                assert source.run.method in METHODS
                METHODS[source.run.method](**source.run.hparams)
        assert set(method.views) <= set(networks)

    def test_roles_do_not_depend_on_searched_knobs(self, key):
        method = METHODS[key]
        low = method(**{name: r.low for name, r in method.searched().items()})
        high = method(**{name: r.high for name, r in method.searched().items()})
        assert low.networks() == high.networks()
        assert low.layers() == high.layers()


@pytest.mark.parametrize("teacher", fakes.TEACHERS)
@pytest.mark.parametrize("key", KEYS)
class TestLoss:
    def setup_method(self):
        torch.manual_seed(0)

    def prepare(self, key, teacher, **hparams):
        method = METHODS[key](**hparams)
        sizes = fakes.shapes(method, teacher)
        try:
            fakes.helpers(method, sizes)
        except Incompatible as incompatible:
            reason = str(incompatible)
        else:
            return method, sizes, fakes.outputs(method, sizes)
        assert key == "fsp", reason
        assert teacher != "same sizes", reason
        return pytest.skip(reason)

    @pytest.mark.parametrize("progress", [fakes.START, fakes.MIDDLE, fakes.END])
    def test_terms_are_finite_scalars_named_as_the_weights(self, key, teacher, progress):
        method, sizes, out = self.prepare(key, teacher)
        terms = compute(method, out, sizes, progress)
        assert terms.keys() == method.loss_weights().keys()
        assert {"task"} <= terms.keys()
        for name, term in terms.items():
            assert term.shape == (), name
            assert term.dtype == torch.float32, name
            assert term.isfinite(), name

    def test_gradient_reaches_what_is_trained_and_nothing_else(self, key, teacher):
        method, sizes, out = self.prepare(key, teacher)
        parts = fakes.helpers(method, sizes)
        for progress in (fakes.START, fakes.END):
            total(method.loss(out, fakes.batch(), parts, progress)).backward()
        for name, parameter in parts.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name
        for role, output in out.items():
            if role in fakes.trained(method):
                assert output.logits.grad.isfinite().all()
                assert output.logits.grad.abs().sum() > 0, role
                felt = [
                    t.grad is not None and t.grad.abs().sum() > 0 for t in output.features.values()
                ]
                assert not felt or any(felt), role
            else:
                assert output.logits.grad is None, role
                assert all(t.grad is None for t in output.features.values()), role

    def test_loss_is_pure(self, key, teacher):
        method, sizes, out = self.prepare(key, teacher)
        before = {
            r: (o.logits.clone(), {n: t.clone() for n, t in o.features.items()})
            for r, o in out.items()
        }
        state = torch.get_rng_state()
        parts = fakes.helpers(method, sizes)
        kept = {k: v.clone() for k, v in parts.state_dict().items()}
        first = method.loss(out, fakes.batch(), parts, fakes.MIDDLE)
        second = method.loss(out, fakes.batch(), parts, fakes.MIDDLE)
        assert torch.equal(torch.get_rng_state(), state)
        assert all(torch.equal(v, kept[k]) for k, v in parts.state_dict().items())
        for name in first:
            assert torch.equal(first[name], second[name])
        for role, (logits, layers) in before.items():
            assert torch.equal(out[role].logits, logits)
            assert all(torch.equal(out[role].features[n], t) for n, t in layers.items())

    def test_nothing_branches_on_values(self, key, teacher):
        """Tensors on the meta device have no values: reading one raises."""
        method, sizes, out = self.prepare(key, teacher)
        bare = {
            role: Output(o.logits.to("meta"), {n: t.to("meta") for n, t in o.features.items()})
            for role, o in out.items()
        }
        parts = fakes.helpers(method, sizes).to("meta")
        share = torch.empty((), device="meta")
        terms = method.loss(bare, fakes.batch(device="meta"), parts, Progress(share, share, share))
        assert all(term.is_meta and term.shape == () for term in terms.values())

    @pytest.mark.parametrize("progress", [fakes.START, fakes.MIDDLE, fakes.END])
    def test_progress_may_be_tensors(self, key, teacher, progress):
        method, sizes, out = self.prepare(key, teacher)
        tensors = Progress(**{k: torch.tensor(v) for k, v in dataclasses.asdict(progress).items()})
        plain = compute(method, out, sizes, progress)
        for name, term in compute(method, out, sizes, tensors).items():
            assert torch.equal(term, plain[name])

    def test_weights_are_the_ones_used(self, key, teacher, monkeypatch):
        """`weights` doubled doubles every term, so no term takes its weight elsewhere."""
        method, sizes, out = self.prepare(key, teacher)
        plain = compute(method, out, sizes, fakes.END)
        weights = method.loss_weights()
        assert all(isinstance(w, float) for w in weights.values())
        doubled = {name: 2 * w for name, w in weights.items()}
        monkeypatch.setattr(type(method), "loss_weights", lambda self: doubled)
        for name, term in compute(method, out, sizes, fakes.END).items():
            torch.testing.assert_close(term, 2 * plain[name])

    def test_ends_of_the_ranges_are_usable(self, key, teacher):
        ranges = METHODS[key].searched()
        for end in ("low", "high"):
            hparams = {name: getattr(r, end) for name, r in ranges.items()}
            method, sizes, out = self.prepare(key, teacher, **hparams)
            for progress in (fakes.START, fakes.END):
                value = total(compute(method, out, sizes, progress))
                assert value.isfinite()
                value.backward()
                assert out["student"].logits.grad.isfinite().all()

    def test_helpers_are_seeded_by_the_global_stream_alone(self, key, teacher):
        method, sizes, _ = self.prepare(key, teacher)
        first, second = (fakes.helpers(method, sizes, seed=3).state_dict() for _ in range(2))
        assert first.keys() == second.keys()
        assert all(torch.equal(first[k], second[k]) for k in first)
        other = fakes.helpers(method, sizes, seed=4).state_dict()
        assert all(not torch.equal(first[k], other[k]) for k in first)


@pytest.mark.parametrize("key", KEYS)
def test_stages_that_are_not_there_are_a_reason(key):
    """A perceptron has an embedding and no stages."""
    method = METHODS[key]()
    sizes = fakes.shapes(method, student={"embedding": (12,)})
    if any("stage" in layer for layer in method.layers()):
        with pytest.raises(Incompatible, match=r"needs .*stage.*none"):
            method.helpers(sizes)
    else:
        method.helpers(sizes)
