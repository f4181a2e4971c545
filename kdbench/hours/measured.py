"""Steps that were measured, to which the factors are fitted, with the work that was counted."""

from dataclasses import dataclass

from kdbench.hours.work import Work


@dataclass(frozen=True)
class Measured:
    """The seconds of a training step of `ce`, or of a forward without gradients.

    `together` says that it is of one of ten or twenty runs that share a GPU.
    """

    card: str
    network: str
    batch: int
    precision: str
    what: str
    seconds: float
    work: Work
    together: bool = False


_LIGHTNN_BF16 = Work(57, 882_769_920, 85_087_296)
_RESNET8X4 = Work(88, 67_882_057_728, 1_543_217_224)
_RESNET8X4_BF16 = Work(115, 67_882_057_728, 800_098_472)
_RESNET32X4 = Work(116, 138_629_218_304, 2_404_694_288)

#: On the CPU, one thread of an AMD EPYC: the first five with nothing else running, the others
#: beside other work, in turns with those, and scaled as `deepnn`'s training step was slowed, or
#: `lightnn`'s where they take less than 50 ms; the CPU's rates are scaled as `deepnn`. The H200's
#: are those of docs/performance.md: the forward together is what a live teacher adds to ten runs
#: in bf16 and in fp32, that of 250 images what filling a teacher's cache takes.
MEASURED = (
    Measured("cpu", "lightnn", 128, "fp32", "train", 0.01336, Work(38, 900_464_640, 144_405_672)),
    Measured("cpu", "lightnn", 128, "bf16", "train", 0.00848, Work(57, 900_464_640, 86_565_096)),
    Measured("cpu", "deepnn", 128, "fp32", "train", 0.376, Work(46, 71_510_261_760, 1_266_386_600)),
    Measured("cpu", "mnist-mlp", 128, "fp32", "train", 0.00132, Work(21, 52_363_264, 4_445_008)),
    Measured(
        "cpu", "digits-cnn-small", 64, "fp32", "train", 0.00181, Work(28, 31_162_368, 5_077_648)
    ),
    Measured(
        "cpu", "deepnn", 128, "fp32", "forward", 0.1166, Work(13, 24_138_743_808, 498_338_832)
    ),
    Measured("cpu", "resnet8x4", 64, "fp32", "train", 0.3833, _RESNET8X4),
    Measured("cpu", "resnet8x4", 64, "bf16", "train", 0.1379, _RESNET8X4_BF16),
    Measured(
        "cpu", "resnet32x4", 64, "fp32", "train", 2.036, Work(280, 415_774_408_704, 5_969_586_632)
    ),
    Measured("cpu", "resnet32x4", 64, "fp32", "forward", 0.6318, _RESNET32X4),
    Measured(
        "cpu", "resnet20", 64, "fp32", "train", 0.1428, Work(179, 15_617_851_392, 916_846_136)
    ),
    Measured(
        "cpu", "wrn-16-2", 64, "fp32", "train", 0.2458, Work(127, 38_772_867_072, 1_230_406_584)
    ),
    Measured("cpu", "vgg8", 64, "fp32", "train", 0.262, Work(59, 36_711_432_192, 698_699_640)),
    Measured(
        "cpu", "mobilenetv2", 64, "fp32", "train", 0.107, Work(375, 15_934_488_576, 833_719_544)
    ),
    Measured(
        "cpu", "shufflenetv2", 64, "fp32", "train", 0.3431, Work(436, 34_933_800_960, 2_642_481_664)
    ),
    Measured("cpu", "mnist-cnn", 128, "fp32", "train", 0.01326, Work(34, 906_559_488, 126_290_576)),
    Measured("cpu", "digits-cnn", 64, "fp32", "train", 0.00519, Work(62, 257_654_784, 19_589_488)),
    Measured("h200", "resnet8x4", 64, "bf16", "train", 1137e-6, _RESNET8X4_BF16),
    Measured("h200", "resnet8x4", 64, "bf16", "train", 653e-6, _RESNET8X4_BF16, True),
    Measured("h200", "resnet8x4", 64, "fp32", "train", 3984e-6, _RESNET8X4),
    Measured("h200", "resnet8x4", 64, "fp32", "train", 3254e-6, _RESNET8X4, True),
    Measured("h200", "lightnn", 128, "bf16", "train", 393e-6, _LIGHTNN_BF16),
    Measured("h200", "lightnn", 128, "bf16", "train", 148e-6, _LIGHTNN_BF16, True),
    Measured("h200", "resnet32x4", 64, "fp32", "forward", 9142e-6, _RESNET32X4, True),
    Measured("h200", "resnet32x4", 64, "fp32", "forward", 8460e-6, _RESNET32X4, True),
    Measured(
        "h200",
        "resnet32x4",
        250,
        "fp32",
        "forward",
        20_123e-6,
        Work(116, 541_520_384_000, 9_306_803_120),
    ),
)
