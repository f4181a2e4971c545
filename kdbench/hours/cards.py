"""The peak rates of cards, as their makers publish them."""

import difflib
from dataclasses import dataclass

from kdbench.errors import KdbenchError


class UnknownCard(KdbenchError):
    """A card that is not in the table, or one that cannot do what a study asks for."""


@dataclass(frozen=True)
class Card:
    """A GPU, or one core of a CPU: floating-point operations a second (dense) by precision, bytes
    a second of its memory, and where the numbers stand. Without `bf16` it has no such products."""

    name: str
    title: str
    fp32: float
    bf16: float | None
    bandwidth: float
    source: str

    def rate(self, precision: str) -> float:
        """Operations a second. Raises `UnknownCard` where the card has no such precision."""
        rate = self.fp32 if precision == "fp32" else self.bf16
        if rate is None:
            raise UnknownCard(
                f"--card {self.name}: {self.title} has no {precision}; take "
                "--set recipe.precision=fp32, or another card"
            )
        return rate


_TERA = 1e12
#: Rates of fp32 without TF32, which kdbench switches off.
CARDS = {
    card.name: card
    for card in (
        Card(
            "cpu",
            "one core of an AMD EPYC with AVX-512 and bf16",
            0.267 * _TERA,
            1.44 * _TERA,
            0.0225 * _TERA,
            "measured: products of matrices and copies (benchmarks/networks.py)",
        ),
        Card("h200", "H200 SXM", 67 * _TERA, 989 * _TERA, 4.8 * _TERA, "NVIDIA H200 datasheet"),
        Card("h100", "H100 SXM", 67 * _TERA, 989 * _TERA, 3.35 * _TERA, "NVIDIA H100 datasheet"),
        Card(
            "a100",
            "A100 80GB SXM",
            19.5 * _TERA,
            312 * _TERA,
            2.039 * _TERA,
            "NVIDIA A100 datasheet",
        ),
        Card("l40s", "L40S", 91.6 * _TERA, 362 * _TERA, 0.864 * _TERA, "NVIDIA L40S datasheet"),
        Card("l4", "L4", 30.3 * _TERA, 121 * _TERA, 0.3 * _TERA, "NVIDIA L4 datasheet"),
        Card(
            "rtx4090",
            "GeForce RTX 4090",
            82.6 * _TERA,
            165.2 * _TERA,
            1.008 * _TERA,
            "NVIDIA Ada architecture whitepaper",
        ),
        Card(
            "rtx3090",
            "GeForce RTX 3090",
            35.6 * _TERA,
            71 * _TERA,
            0.936 * _TERA,
            "NVIDIA Ampere GA102 architecture whitepaper",
        ),
        Card("t4", "T4", 8.1 * _TERA, None, 0.32 * _TERA, "NVIDIA T4 datasheet"),
    )
}


def card_of(name: str) -> Card:
    """The card of that name, small and large letters alike. Raises `UnknownCard`, which lists the
    names."""
    if name.lower() not in CARDS:
        near = difflib.get_close_matches(name.lower(), CARDS, n=1, cutoff=0.5)
        meant = f" (did you mean '{near[0]}'?)" if near else ""
        raise UnknownCard(
            f"--card '{name}': no rates are known of it{meant}; known are {', '.join(CARDS)}"
        )
    return CARDS[name.lower()]
