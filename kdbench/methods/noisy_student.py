"""A student that learns a teacher's answers under more noise."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, weighted
from kdbench.methods.networks import TEACHER, Frozen, Stage, Trained
from kdbench.methods.types import STRONG

LABELS = ("soft", "hard")


@dataclass(frozen=True)
class NoisyStudent(Method):
    """The student learns, from strong views of the images, the labels and what a teacher answers
    to the usual views.

    Formula:
        L = CE(y, softmax(z_s)) + soft_weight * mean(CE(q, softmax(z_s)))
        q = softmax(z_t) with labels = soft, the class argmax z_t with labels = hard
        the first CE is a mean over the examples with a label, the other over the whole batch

    Symbols:
        z_s: logits of the student for strong views, batch x classes
        z_t: logits of the teacher for the usual views
        y: labels, batch
        soft_weight: weight of the teacher's answers; labels: their form
        generations: students one after another; the first has the study's teacher, each other
            the student before it, and the last is on the leaderboard

    Strong views are changed by two operations of RandAugment and by Cutout, as in `fixmatch`.
    With soft labels the term is KL(q || softmax(z_s)), which has the same gradient. Earlier
    generations take the default soft_weight.

    Differs from the paper:
        - one generation; the paper has three, with students that are larger than their teachers
        - the teacher answers to views of the study's augmentation; the paper's sees the images as
          they are
        - RandAugment has the ranges of FixMatch and is followed by Cutout; the paper's has
          magnitude 27 and none
        - dropout and stochastic depth are those of the student's model, if it has them
        - no images are left out or repeated by the teacher's answers: the paper leaves out those
          below 0.3 and balances the classes
        - the teacher's answers are learned for the labelled images too

    Variants: soft labels (the default) are the paper's choice; hard ones did as well on images
    from the same source.
    """

    title: ClassVar[str] = "Noisy student"
    paper: ClassVar[Paper] = Paper(
        key="xie2020self",
        authors="Xie, Qizhe and Luong, Minh-Thang and Hovy, Eduard and Le, Quoc V.",
        title="Self-Training with Noisy Student Improves ImageNet Classification",
        venue="CVPR",
        year=2020,
        arxiv="1911.04252",
    )
    unlabelled: ClassVar[bool] = True
    examples: ClassVar[Mapping[str, str]] = {"student": STRONG}

    soft_weight: float = hparam(
        1.0, Range(0.1, 10.0, log=True), low=0, help="weight of the teacher's answers"
    )
    labels: str = hparam("soft", help="form of the teacher's answers: soft or hard")
    generations: int = hparam(1, low=1, high=10, help="students, one after another")

    def __post_init__(self):
        super().__post_init__()
        if self.labels not in LABELS:
            raise ValueError(f"labels = {self.labels} is none of {', '.join(LABELS)}")

    def networks(self):
        earlier = {"generations": self.generations - 1, "labels": self.labels}
        before = Stage(model="student", method="noisy-student", hparams=earlier, own_seed=True)
        teacher = TEACHER if self.generations == 1 else before
        return {"student": Trained("student"), "teacher": Frozen(teacher)}

    def loss_weights(self):
        return {"task": 1.0, "soft": self.soft_weight}

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"].logits, out["teacher"].logits
        if self.labels == "soft":
            soft = losses.kl(student, teacher)
        else:
            soft = losses.sure_cross_entropy(student, teacher, threshold=0.0)
        task = cross_entropy(student, batch)
        return weighted(self.loss_weights(), task=task, soft=soft)
