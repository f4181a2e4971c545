"""Where kdbench's own data sets were published."""

from kdbench.paper import Paper

UCI = Paper(
    key="alpaydin1998optical",
    authors="Alpaydin, Ethem and Kaynak, Cenk",
    title="Optical Recognition of Handwritten Digits",
    venue="UCI Machine Learning Repository",
    year=1998,
    kind="misc",
    url="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
)
LENET = Paper(
    key="lecun1998gradient",
    authors="LeCun, Yann and Bottou, Léon and Bengio, Yoshua and Haffner, Patrick",
    title="Gradient-Based Learning Applied to Document Recognition",
    venue="Proceedings of the IEEE",
    year=1998,
    kind="article",
)
FASHION = Paper(
    key="xiao2017fashion",
    authors="Xiao, Han and Rasul, Kashif and Vollgraf, Roland",
    title="Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms",
    venue="arXiv:1708.07747",
    year=2017,
    kind="misc",
)
TINY = Paper(
    key="krizhevsky2009learning",
    authors="Krizhevsky, Alex",
    title="Learning Multiple Layers of Features from Tiny Images",
    venue="University of Toronto",
    year=2009,
    kind="techreport",
)
