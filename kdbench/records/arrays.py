"""The arrays of an npz file, of which nothing is unpacked that is larger than it may be."""

import io
import math
import zipfile
from collections.abc import Mapping

import numpy as np

#: Bytes of all arrays of a file: logits of 50,000 images and 1,000 classes twice are 400 MB.
MOST_ARRAYS = 1 << 30
MOST_MEMBERS = 64
#: With bzip2 and LZMA, zipfile unpacks more than it is asked for.
PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def unpack_arrays(content: bytes) -> dict[str, np.ndarray]:
    """The arrays in the content of an npz file, by name and read-only.

    Raises `ValueError` where they are too many or too large, or hold Python objects, and what
    zipfile, zlib and numpy raise on content that is not whole.
    """
    # Counted first: for every entry of its directory zipfile makes an object.
    if content.count(b"PK\1\2") > MOST_MEMBERS:
        raise ValueError(f"there are more than {MOST_MEMBERS} of them")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > MOST_ARRAYS:
            raise ValueError(f"they have more than {MOST_ARRAYS:,} bytes")
        return {m.filename.removesuffix(".npy"): _array(archive, m) for m in members}


def check_predictions(arrays: Mapping[str, np.ndarray]) -> None:
    """Raise `ValueError` unless there are labels (images) and logits (images x classes)."""
    shapes = {name: a.shape for name, a in arrays.items() if name != "labels"}
    labels = arrays.get("labels")
    if labels is None or labels.ndim != 1 or labels.dtype.kind not in "iu" or "last" not in shapes:
        raise ValueError("there are no labels, or no logits of the last epoch")
    if len({*shapes.values()}) != 1 or len(shapes["last"]) != 2 or shapes["last"][1] == 0:
        raise ValueError(f"the logits are not alike and images x classes: {shapes}")
    if shapes["last"][0] != len(labels):
        raise ValueError(f"there are {len(labels)} labels for logits of {shapes['last']}")


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    if member.compress_type not in PACKED:
        raise ValueError(f"{member.filename} is compressed in an unknown way")
    with archive.open(member) as packed:
        file = io.BytesIO(packed.read(member.file_size))
        if packed.read(1):  # which compares the checksum too
            raise ValueError(f"{member.filename} is longer than declared")
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError(f"{member.filename} is of another version")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.hasobject:
        raise ValueError(f"{member.filename} holds Python objects")
    rest = file.getbuffer()[file.tell() :]
    if math.prod(shape) * dtype.itemsize != len(rest):
        raise ValueError(f"{member.filename} has {len(rest):,} bytes for {shape} of {dtype}")
    return np.frombuffer(rest.toreadonly(), dtype).reshape(shape, order="F" if fortran else "C")
