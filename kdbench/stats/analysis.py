"""How a family of comparisons is analysed: reference, margin, level and correction."""

from dataclasses import dataclass

CORRECTIONS = {"holm": "Holm", "bonferroni": "Bonferroni"}
PAIRED, MODERATED = "paired-t", "moderated-t"
TESTS = {PAIRED: "two-sided paired t test", MODERATED: "two-sided moderated t test"}
"""The tests of a family of differences, and their names as captions print them."""

CITATION = "smyth2004linear"
"""The BibTeX key of the paper of the moderated t test."""


@dataclass(frozen=True)
class Analysis:
    """The choices that are fixed before the numbers are seen.

    `margin`: two methods closer than this are practically equal (the scores' unit).
    `image`: what one test image counts in the scores at most, 0 if the test set's size is unknown.
    `alpha`: family-wise error. `level`: coverage of the printed intervals. `power`: that
    of the smallest detectable difference. `test`: a key of `TESTS`. `looks`: the numbers of
    seeds at which the family is judged, if more than once (`judge_looks`). Raises `ValueError`
    where the correction or the test is unknown, the margin not positive, or a share not
    between 0 and 1.
    """

    margin: float
    image: float = 0.0
    alpha: float = 0.05
    level: float = 0.95
    power: float = 0.8
    correction: str = "holm"
    test: str = PAIRED
    looks: tuple[int, ...] = ()

    @classmethod
    def of_report(
        cls, margin: float, images: int, test: str, looks: tuple[int, ...], step: float = 0.0
    ) -> "Analysis":
        """That of a report whose scores are percentages of so many test images (0: unknown), or,
        with a `step`, means over classes that one image changes by so many points at the most.
        The margin is at least one test image."""
        image = 100 / images if images else 0.0
        return cls(margin=max(margin, image), image=step or image, test=test, looks=looks)

    def __post_init__(self) -> None:
        if self.test not in TESTS:
            raise ValueError(f"unknown test {self.test!r}; known: {', '.join(sorted(TESTS))}")
        if self.correction not in CORRECTIONS:
            choices = ", ".join(sorted(CORRECTIONS))
            raise ValueError(f"unknown correction {self.correction!r}; known: {choices}")
        if not self.margin > 0:
            raise ValueError(f"the margin must be positive, not {self.margin}")
        for name in ("alpha", "level", "power"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must lie between 0 and 1, not {getattr(self, name)}")

    def share(self, seeds: int) -> float:
        """The part of the error that is spent on a test of so many seeds: without looks all of
        it, else that of the first look with as many. The parts grow evenly: of four looks they
        are 0.1, 0.2, 0.3 and 0.4."""
        if not self.looks:
            return 1.0
        earlier = sum(count < seeds for count in self.looks[:-1])
        return (earlier + 1) / sum(range(1, len(self.looks) + 1))

    @property
    def last_alpha(self) -> float:
        """The family-wise error of the last look, or of the only test."""
        return self.alpha * self.share(max(self.looks, default=0))

    @property
    def test_name(self) -> str:
        """The test's name, as captions print it."""
        return TESTS[self.test]

    @property
    def correction_name(self) -> str:
        """The correction's name, as captions print it."""
        return CORRECTIONS[self.correction]
