"""The data sets of kdbench: one declaration each, with its files and how they are read."""

import math
import pickle
import struct
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from kdbench.data.files import Arrays, DataSet, File, Part, one_line
from kdbench.records.licences import Licence
from kdbench.registry import Paper

# --- digits -----------------------------------------------------------------------------

DIGITS_PAPER = Paper(
    key="alpaydin1998optical",
    authors="Alpaydin, Ethem and Kaynak, Cenk",
    title="Optical Recognition of Handwritten Digits",
    venue="UCI Machine Learning Repository",
    year=1998,
    kind="misc",
    url="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
)


MNIST_PAPER = Paper(
    key="lecun1998gradient",
    authors="LeCun, Yann and Bottou, Léon and Bengio, Yoshua and Haffner, Patrick",
    title="Gradient-Based Learning Applied to Document Recognition",
    venue="Proceedings of the IEEE",
    year=1998,
    kind="article",
    url="https://doi.org/10.1109/5.726791",
)


FASHION_PAPER = Paper(
    key="xiao2017fashion",
    authors="Xiao, Han and Rasul, Kashif and Vollgraf, Roland",
    title="Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms",
    venue="arXiv:1708.07747",
    year=2017,
    kind="misc",
    arxiv="1708.07747",
)


CIFAR_PAPER = Paper(
    key="krizhevsky2009learning",
    authors="Krizhevsky, Alex",
    title="Learning Multiple Layers of Features from Tiny Images",
    venue="University of Toronto",
    year=2009,
    kind="techreport",
    url="https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf",
)

#: As the UCI repository licenses what it holds.
DIGITS_LICENCE = Licence(
    name="CC BY 4.0",
    url="https://creativecommons.org/licenses/by/4.0/",
    source="E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, "
    "UCI Machine Learning Repository, doi:10.24432/C50P49",
    source_url="https://doi.org/10.24432/C50P49",
)
#: As the documentation of Keras states it; the authors' own page states none.
MNIST_LICENCE = Licence(
    name="CC BY-SA 3.0",
    url="https://creativecommons.org/licenses/by-sa/3.0/",
    source="Y. LeCun and C. Cortes, The MNIST database of handwritten digits",
    source_url="https://keras.io/api/datasets/mnist/",
)
FASHION_LICENCE = Licence(
    name="MIT",
    url="https://github.com/zalandoresearch/fashion-mnist/blob/master/LICENSE",
    source="Fashion-MNIST, copyright 2017 Zalando SE",
    source_url="https://github.com/zalandoresearch/fashion-mnist",
)

DIGITS_TEST = 597


_BATCHES = tuple(f"data_batch_{n}" for n in range(1, 6))
#: MD5 of the published files: those of CIFAR as in torchvision's lists; MNIST's of the
#: unpacked files (torchvision lists the packed ones).
_CIFAR10_MD5 = (
    "c99cafc152244af753f735de768cd75f",
    "d4bba439e000b95fd0a9bffe97cbabec",
    "54ebc095f3ab1f0389bbae665268c751",
    "634d18415352ddfa80567beed471001a",
    "482c414d41f54cd18b22e5b47cb7c3cb",
)
_MNIST_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
_DIGIT_NAMES = tuple(str(digit) for digit in range(10))
_FASHION_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_CIFAR10_NAMES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
_CIFAR100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile
cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp
lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom
oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake
spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""


@cache
def _digits_parts() -> dict[Part, np.ndarray]:
    """Rows of `load_digits` by part.

    The set has no test part of its own: 597 of the 1797 images, stratified by class and
    drawn with seed 0, are the test part here.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    labels = load_digits().target
    train, test = train_test_split(
        np.arange(len(labels)), test_size=DIGITS_TEST, stratify=labels, random_state=0
    )
    return {"train": np.sort(train), "test": np.sort(test)}


def _read_digits(part: Part, folder: Path) -> Arrays:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    rows = _digits_parts()[part]
    return bunch.images[rows, None].astype(np.uint8), bunch.target[rows]


# --- MNIST and Fashion-MNIST ------------------------------------------------------------


def _mnist_files(
    folder: str, part: str, count: int, md5: Mapping[str, str] = MappingProxyType({})
) -> tuple[File, ...]:
    sizes = {
        f"{part}-images-idx3-ubyte": 16 + count * 28 * 28,
        f"{part}-labels-idx1-ubyte": 8 + count,
    }
    return tuple(File(f"{folder}/raw/{name}", md5.get(name), size) for name, size in sizes.items())


def _read_idx(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """A file of bytes in MNIST's layout: as many entries of `shape` as its length has room for.

    Raises `ValueError` where the header says otherwise. (torchvision believes the header,
    even one of 60,000 images of 14 x 56.)
    """
    content = np.fromfile(path, np.uint8)
    start = 4 * (len(shape) + 2)
    count, rest = divmod(max(len(content) - start, 0), math.prod(shape))
    # 8: unsigned bytes; then the number of dimensions, then each of them.
    expected = (8 << 8 | len(shape) + 1, count, *shape)
    numbers = min(start, len(content)) // 4
    header = struct.unpack(f">{numbers}I", content[: 4 * numbers].tobytes())
    if rest or header != expected:
        raise ValueError(
            f"{path.name} should begin with the numbers {expected}; found {header} in "
            f"{len(content):,} bytes"
        )
    return content[start:].reshape(count, *shape)


def _read_mnist(folder: str) -> Callable[[Part, Path], Arrays]:
    def read(part: Part, root: Path) -> Arrays:
        raw, prefix = root / folder / "raw", "train" if part == "train" else "t10k"
        images = _read_idx(raw / f"{prefix}-images-idx3-ubyte", (28, 28))
        return images[:, None], _read_idx(raw / f"{prefix}-labels-idx1-ubyte", ())

    return read


def _download(kind: str) -> Callable[[Path], Any]:
    def download(root: Path) -> None:
        import torchvision.datasets

        getattr(torchvision.datasets, kind)(root, train=True, download=True)

    return download


# --- CIFAR ------------------------------------------------------------------------------


def _read_batch(path: Path, key: str) -> Arrays:
    with path.open("rb") as file:
        batch = pickle.load(file, encoding="latin1")  # its MD5 has been checked
    images, labels = np.asarray(batch["data"]), np.asarray(batch[key])
    if images.ndim != 2 or images.shape[1] != 3 * 32 * 32 or labels.shape != images.shape[:1]:
        raise ValueError(
            f"it should hold rows of 3,072 pixels with a label each; found {images.shape} and "
            f"labels {labels.shape}"
        )
    return images.reshape(-1, 3, 32, 32), labels


def _read_cifar(
    folder: str, train: tuple[str, ...], test: tuple[str, ...], key: str
) -> Callable[[Part, Path], Arrays]:
    def read(part: Part, root: Path) -> Arrays:
        images, labels = [], []
        for name in train if part == "train" else test:
            try:
                batch_images, batch_labels = _read_batch(root / folder / name, key)
            except Exception as error:  # a garbled pickle raises anything
                raise ValueError(f"{name}: {one_line(error)}") from error
            images.append(batch_images)
            labels.append(batch_labels)
        return np.concatenate(images), np.concatenate(labels)

    return read


#: kdbench's own data sets. Statistics are those commonly published for each training part. The
#: authors of CIFAR state no licence.
BUILTIN: dict[str, DataSet] = {
    "digits": DataSet(
        _DIGIT_NAMES, _read_digits, scale=16, paper=DIGITS_PAPER, licence=DIGITS_LICENCE
    ),
    "mnist": DataSet(
        _DIGIT_NAMES,
        _read_mnist("MNIST"),
        mean=(0.1307,),
        std=(0.3081,),
        download=_download("MNIST"),
        paper=MNIST_PAPER,
        licence=MNIST_LICENCE,
        train_files=_mnist_files("MNIST", "train", 60_000, _MNIST_MD5),
        test_files=_mnist_files("MNIST", "t10k", 10_000, _MNIST_MD5),
    ),
    "fashion-mnist": DataSet(
        _FASHION_NAMES,
        _read_mnist("FashionMNIST"),
        mean=(0.2860,),
        std=(0.3530,),
        download=_download("FashionMNIST"),
        paper=FASHION_PAPER,
        licence=FASHION_LICENCE,
        train_files=_mnist_files("FashionMNIST", "train", 60_000),
        test_files=_mnist_files("FashionMNIST", "t10k", 10_000),
    ),
    "cifar10": DataSet(
        _CIFAR10_NAMES,
        _read_cifar("cifar-10-batches-py", _BATCHES, ("test_batch",), "labels"),
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        train_files=tuple(
            File(f"cifar-10-batches-py/{name}", md5)
            for name, md5 in zip(_BATCHES, _CIFAR10_MD5, strict=True)
        ),
        test_files=(File("cifar-10-batches-py/test_batch", "40351d587109b95175f43aff81a1287e"),),
        download=_download("CIFAR10"),
        paper=CIFAR_PAPER,
    ),
    "cifar100": DataSet(
        tuple(_CIFAR100.split()),
        _read_cifar("cifar-100-python", ("train",), ("test",), "fine_labels"),
        mean=(0.5071, 0.4867, 0.4408),
        std=(0.2675, 0.2565, 0.2761),
        train_files=(File("cifar-100-python/train", "16019d7e3df5f24257cddd939b257f8d"),),
        test_files=(File("cifar-100-python/test", "f0ef6b0ae62326f3e7ffdfab6717acfc"),),
        download=_download("CIFAR100"),
        paper=CIFAR_PAPER,
    ),
}
