"""Scores are whole images: differences that are few images apart, often all alike."""

import math

import numpy as np
import pytest
from scipy import stats

from kdbench.stats import Analysis, equality_p, judge, paired_difference, pool

IMAGES = 597
IMAGE = 100 / IMAGES
MARGIN = 0.2
METHODS = 20


def counted(rng, shift, spreads, n):
    """Scores by seed in percent of a reference and of methods that truly are `shift` points
    above it, in whole images. What they share by seed is wide, so that rounding does not
    move a mean."""
    common = 97 * IMAGES / 100 + 5 * rng.normal(size=n)
    own = shift / IMAGE + np.array(spreads)[:, None] * rng.normal(size=(len(spreads), n))
    counts = np.round(np.vstack([common, common + own]))
    return [{s: float(c) for s, c in enumerate(row * IMAGE)} for row in counts]


def said(rng, shift, n, words, families=40):
    """The share of families in which `words` is said of some method."""
    spreads = np.linspace(0.5, 1.5, METHODS)
    wrong = 0
    for _ in range(families):
        reference, *methods = counted(rng, shift, spreads, n)
        differences = {
            str(k): paired_difference(scores, reference, image=IMAGE)
            for k, scores in enumerate(methods)
        }
        family = judge(differences, Analysis(margin=MARGIN))
        wrong += any(words in v.text for v in family.verdicts.values())
    return wrong / families


@pytest.mark.parametrize("n", [3, 5, 10])
def test_a_margins_difference_in_whole_images_is_seldom_called_equal(n):
    """On 597 images at 3 seeds a constant difference, taken as certain, made it 60 %."""
    assert said(np.random.default_rng(n), MARGIN, n, "equal") <= 0.05 + 3 * math.sqrt(0.05 / 40)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_no_constant_difference_is_certain(n):
    base = {s: 97 + s * IMAGE for s in range(n)}
    for k in (0, 1):
        result = paired_difference({s: v + k * IMAGE for s, v in base.items()}, base, image=IMAGE)
        half = result.high - result.mean
        assert half == pytest.approx(stats.t.ppf(0.975, n - 1) * IMAGE / math.sqrt(n))
        assert result.sd == pytest.approx(IMAGE)
        assert equality_p(result, MARGIN) > 0.001
        assert not result.constant


def test_equality_reckons_with_the_disagreements_that_a_margin_needs():
    base = {0: 97.0, 1: 97.2, 2: 96.9, 3: 97.1}
    result = paired_difference(base, base, image=0.01)
    se = math.sqrt(MARGIN * 0.01 / 4)
    assert equality_p(result, MARGIN) == pytest.approx(stats.t.sf(MARGIN / se, 3))
    far = paired_difference({s: v + 0.5 * (-1) ** s for s, v in base.items()}, base, image=0.01)
    assert equality_p(far, MARGIN) == pytest.approx(stats.t.sf(MARGIN / far.se, 3))


def test_many_images_leave_the_t_test_as_it_is():
    """One image of 10,000 is far below what runs vary."""
    a, b = ({0: 71.0, 1: 70.5, 2: 71.4}, {0: 70.2, 1: 70.1, 2: 70.3})
    expected = stats.ttest_rel(list(a.values()), list(b.values()))
    assert paired_difference(a, b, image=0.01).p == pytest.approx(expected.pvalue)


@pytest.mark.parametrize("shared", [True, False])
def test_settings_pooled_keep_the_variance_of_images(shared):
    base = {s: 97 + s * IMAGE for s in range(4)}
    one = paired_difference(base, base, image=0.2)
    other = paired_difference(base, base, image=0.1)
    pooled = pool({"a": one, "b": other}, shared)
    assert pooled.se == pytest.approx(math.hypot(0.2, 0.1) / 2 / math.sqrt(4))
    assert pooled.p == 1
