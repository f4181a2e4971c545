"""Which paper a model of the zoo comes from. kdbench's own small nets have none."""

from kdbench.paper import Paper

TUTORIAL = Paper(
    key="chariton2023knowledge",
    authors="Chariton, Alexandros",
    title="Knowledge Distillation Tutorial",
    venue="PyTorch Tutorials",
    year=2023,
    kind="misc",
    url="https://docs.pytorch.org/tutorials/beginner/knowledge_distillation_tutorial.html",
)
RESNET = Paper(
    key="he2016deep",
    authors="He, Kaiming and Zhang, Xiangyu and Ren, Shaoqing and Sun, Jian",
    title="Deep Residual Learning for Image Recognition",
    venue="CVPR",
    year=2016,
)
#: The widths of the x4 residual networks.
CRD = Paper(
    key="tian2020contrastive",
    authors="Tian, Yonglong and Krishnan, Dilip and Isola, Phillip",
    title="Contrastive Representation Distillation",
    venue="ICLR",
    year=2020,
)
WIDE = Paper(
    key="zagoruyko2016wide",
    authors="Zagoruyko, Sergey and Komodakis, Nikos",
    title="Wide Residual Networks",
    venue="BMVC",
    year=2016,
)

PAPERS: dict[str, Paper] = {
    "deepnn": TUTORIAL,
    "lightnn": TUTORIAL,
    **{f"resnet{depth}": RESNET for depth in (8, 14, 20, 32, 44, 56, 110)},
    **{f"resnet{depth}x4": CRD for depth in (8, 32)},
    **{f"wrn-{depth}-{width}": WIDE for depth, width in ((16, 1), (16, 2), (40, 1), (40, 2))},
}
