"""The random streams of a run: where each draw comes from, and what it does not depend on.

A stream is keyed by (data, student model, run seed, purpose, role, lineage). The method
is not in the key, so methods are compared *paired*: on the same first weights of the
student, the same batches and the same views. Every epoch starts its streams afresh, so
a resumed run needs no generator state and a cohort-mate cannot move them.
"""

import hashlib

import numpy as np
import torch

from kdbench.records.spec import RunSpec, canonical


def stream(spec: RunSpec, purpose: str, role: str = "", epoch: int = 0) -> np.random.Generator:
    """The generator of one purpose: `weights`, `order`, `views`, `dropout`, `method`,
    or the name of other examples (`same-class`, `previous`, `mixed`, `strong`), or `mixture`."""
    key = [
        purpose,
        spec.data.name,
        spec.data.checksum,
        spec.data.validation,
        spec.data.split_seed,
        spec.data.train_on,
        spec.models["student"],
        spec.seed,
        role,
        spec.lineage,
        epoch,
    ]
    entropy = int.from_bytes(hashlib.sha256(canonical(key).encode()).digest()[:16], "big")
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))


def integers(generator: np.random.Generator, count: int) -> list[int]:
    """`count` seeds for torch's generators, each in [0, 2**63)."""
    return generator.integers(2**63, size=count).tolist()


def seed_torch(generator: torch.Generator, stream: np.random.Generator) -> None:
    """Have a torch generator continue a stream."""
    generator.manual_seed(integers(stream, 1)[0])
