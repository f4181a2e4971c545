"""The improved Kullback-Leibler loss."""

from dataclasses import dataclass
from typing import ClassVar

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, weighted
from kdbench.methods.networks import Frozen, Trained
from kdbench.methods.ramp import linear_ramp


@dataclass(frozen=True)
class IKL(Method):
    """The student learns from the labels, from the teacher's softened probabilities, and from
    all differences between two of the teacher's logits.

    Formula:
        L = CE(y, softmax(z_s)) + r * (soft_weight * CE(p_t, p_s) + logit_weight * D)
        D = mean of 1/4 * sum over j, k of w[j] * w[k] * ((z_t - z_s)[j] - (z_t - z_s)[k])**2
        p = softmax(z / T);  w = softmax(z_t / weight_temperature)
        r = min(t / (warmup * N), 1) in epoch t of N, counted from 1
        CE and D are means over the batch

    Symbols:
        z_s, z_t: logits of student and teacher, batch x classes
        y: labels, batch
        T: `temperature`; there is no T**2
        weight_temperature: T2 in the authors' code; the higher, the more alike the weights w
        soft_weight, logit_weight: alpha and beta in the paper
        warmup: the share of epochs over which r rises to 1

    The KL has the gradient of a sum of two such terms, of which D moves the teacher alone, and so
    nothing where the teacher is fixed; here it moves the student.

    Differs from the paper:
        - w is of each example's own probabilities; the paper's class-wise mean of them is not
          built
        - the warm-up is a share of the run, 1/12, in place of the code's 20 of 240 epochs

    Variants: the authors choose the weights by the pair: 1 and 12 for ResNet110 to ResNet32
    (the default), 1 and 4 for ResNet56 to ResNet20, 3 and 12 for WRN40-2 to WRN16-2, 4 and 12
    for VGG13 to MobileNetV2. weight_temperature 100 is the default of their code.
    """

    title: ClassVar[str] = "Improved KL divergence"
    paper: ClassVar[Paper] = Paper(
        key="cui2024decoupled",
        authors="Cui, Jiequan and Tian, Zhuotao and Zhong, Zhisheng and Qi, Xiaojuan and "
        "Yu, Bei and Zhang, Hanwang",
        title="Decoupled Kullback-Leibler Divergence Loss",
        venue="NeurIPS",
        year=2024,
        arxiv="2305.13948",
    )
    unlabelled: ClassVar[bool] = True

    temperature: float = hparam(
        4.0, Range(1.0, 20.0, log=True), low=0.01, help="softens both distributions"
    )
    soft_weight: float = hparam(
        1.0, Range(0.1, 10.0, log=True), low=0, help="weight of the soft term"
    )
    logit_weight: float = hparam(
        12.0, Range(0.5, 50.0, log=True), low=0, help="weight of the term of logit differences"
    )
    weight_temperature: float = hparam(100.0, low=0.01, help="of the weights of the classes")
    warmup: float = hparam(1 / 12, low=0, high=1, help="share of epochs until full weight")

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def loss_weights(self):
        return {"task": 1.0, "soft": self.soft_weight, "logits": self.logit_weight}

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"].logits, out["teacher"].logits
        softened = student / self.temperature, teacher / self.temperature
        ramp = linear_ramp(progress.epoch_end, self.warmup, student)
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student, batch),
            soft=ramp * losses.soft_cross_entropy(*softened),
            logits=ramp * losses.logit_variance(student, teacher, self.weight_temperature),
        )
