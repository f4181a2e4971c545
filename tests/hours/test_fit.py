"""The factors of a card, and how far their predictions are off."""

from dataclasses import replace

import numpy as np
import pytest

from kdbench.hours.cards import CARDS, UnknownCard, card_of
from kdbench.hours.fit import Factors, error_for, factors_for, fit, predicted, rows_for
from kdbench.hours.measured import Measured
from kdbench.hours.work import Work

CPU, H200, H100, T4 = (CARDS[name] for name in ("cpu", "h200", "h100", "t4"))
WORK = Work(100, 1e10, 1e9)


def test_the_fit_finds_the_factors_that_made_the_rows() -> None:
    true = Factors(5e-6, 2e-6, 0.4, 0.8)
    drawn = np.random.default_rng(0).uniform(0.1, 10, (12, 3))
    rows = [
        Measured("h200", str(n), 64, "bf16", "train", 0.0, Work(100 * c, 1e11 * f, 1e9 * b), n < 6)
        for n, (c, f, b) in enumerate(drawn)
    ]
    rows = [replace(row, seconds=predicted(true, row)) for row in rows]
    found = fit(rows)
    assert vars(found) == pytest.approx(vars(true))


@pytest.mark.parametrize("card", [CPU, H200], ids=lambda card: card.name)
def test_measured_steps_are_predicted_within_the_stated_error(card) -> None:
    error, factors = error_for(card), factors_for(card)
    assert 1 <= error.typical <= error.worst < 2
    for row in rows_for(card):
        ratio = predicted(factors, row) / row.seconds
        assert 1 / error.worst <= ratio <= error.worst, row


def test_a_network_left_out_is_not_in_the_fit_that_predicts_it() -> None:
    rows = rows_for(CPU)
    (vgg,) = [row for row in rows if row.network == "vgg8"]
    without = fit([row for row in rows if row.network != "vgg8"])
    ratio = predicted(without, vgg) / vgg.seconds
    assert error_for(CPU).worst >= max(ratio, 1 / ratio)


def test_work_costs_time_on_a_card_by_its_rates() -> None:
    factors = factors_for(H200)
    assert factors_for(H100) == factors
    base = factors.seconds(WORK, H200, "bf16")
    assert factors.seconds(WORK * 3, H200, "bf16") == pytest.approx(3 * base)
    assert factors.seconds(WORK, H200, "bf16", together=True) < base
    assert factors.seconds(WORK, H100, "bf16") > base  # less bandwidth
    slow = replace(H200, bandwidth=H200.bandwidth / 2)
    more = WORK.bytes / (factors.of_bandwidth * H200.bandwidth)
    assert factors.seconds(WORK, slow, "bf16") == pytest.approx(base + more)


def test_a_card_that_cannot_be_had() -> None:
    assert card_of("H100") is H100
    with pytest.raises(UnknownCard, match="did you mean 'h100'") as caught:
        card_of("h10")
    assert all(name in str(caught.value) for name in CARDS)
    with pytest.raises(UnknownCard, match="T4 has no bf16; take --set"):
        T4.rate("bf16")


def test_every_card_names_the_source_of_its_rates() -> None:
    for name, card in CARDS.items():
        assert card.name == name
        assert card.source
        assert card.bf16 is None or card.bf16 > card.fp32
