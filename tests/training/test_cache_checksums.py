"""Cached teacher outputs: a changed bit is found where they are opened."""

import logging
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from kdbench.data import Views
from kdbench.records.checksummed import CorruptFile, is_intact
from kdbench.training import output_cache
from kdbench.training.teachers import TeacherNetwork


@pytest.fixture
def teacher(world, empty_world):
    """Opens the cache of a finished teacher anew each time it is called."""
    run_id = next(iter(world.job("kd").spec.frozen_runs.values()))
    old, new = (w.store.record(run_id) for w in (world, empty_world))
    new.begin(old.spec())
    new.finish(old.result, old.weights_path.read_bytes())
    store, data = empty_world.store, empty_world.data
    return lambda: TeacherNetwork(store, run_id, "last", data, Views(data))


def flip(path: Path, byte: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[byte] ^= 1 << bit
    path.write_bytes(content)


def test_any_flipped_bit_is_found(teacher):
    teacher().prepare(())
    path = teacher().cache.path("logits")
    assert is_intact(path)
    size = path.stat().st_size
    # Head, first and last value, and the checksum itself.
    for byte in (0, 20, 128, size // 2, size - 33, size - 32, size - 1):
        flip(path, byte, bit=byte % 8)
        assert not is_intact(path)
        flip(path, byte, bit=byte % 8)
    assert is_intact(path)
    path.write_bytes(path.read_bytes() + b"\0")
    assert not is_intact(path)
    path.write_bytes(b"")
    assert not is_intact(path)


@pytest.mark.parametrize("place", [150, -1])
def test_a_table_with_a_flipped_bit_is_made_again_with_a_warning(teacher, caplog, place):
    """In the lowest bit of one value, which no spot check would see; or in its checksum."""
    every = torch.arange(130)
    right = teacher().cached(every, ()).logits
    path = teacher().cache.path("logits")
    content = path.read_bytes()
    assert np.array_equal(np.load(path), right.numpy())
    flip(path, place)
    with caplog.at_level(logging.WARNING):
        assert torch.equal(teacher().cached(every, ()).logits, right)
    assert f"{path} is damaged" in caplog.text
    assert path.read_bytes() == content


def test_a_sound_table_is_not_made_again(teacher, monkeypatch, caplog):
    teacher().prepare(())
    monkeypatch.setattr(output_cache.OutputCache, "fill", None)
    teacher().prepare(())
    assert not caplog.text


def test_two_processes_that_find_one_damage_both_go_on(teacher):
    every = torch.arange(130)
    right = teacher().cached(every, ()).logits
    path = teacher().cache.path("logits")
    content = path.read_bytes()
    flip(path, 200)
    children = []
    for _ in range(2):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = not torch.equal(teacher().cached(every, ()).logits, right)
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    assert path.read_bytes() == content


def stopped_after(teacher, shards: int) -> list[Path]:
    looks = iter(range(shards + 1))
    teacher().prepare((), stopping=lambda: next(looks, None) is None)
    return sorted(teacher().cache.folder.glob("*.shard"))


def test_a_damaged_shard_of_a_killed_process_is_computed_again(teacher, monkeypatch):
    monkeypatch.setattr(output_cache, "BLOCK", 10)
    teacher().prepare(())
    path = teacher().cache.path("logits")
    content = path.read_bytes()
    path.unlink()
    left = stopped_after(teacher, 3)
    assert left
    flip(left[0], 5)
    teacher().prepare(())
    assert path.read_bytes() == content


def test_a_shard_damaged_before_it_is_joined_never_gets_into_the_table(teacher, monkeypatch):
    monkeypatch.setattr(output_cache, "BLOCK", 10)
    join = output_cache.OutputCache._join

    def damaged_first(self, name):
        flip(min(self.folder.glob("*.shard")), 5)
        join(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(output_cache.OutputCache, "_join", damaged_first)
        with pytest.raises(CorruptFile, match=r"\.shard is damaged"):
            teacher().prepare(())
    assert not teacher().cache.path("logits").exists()
    teacher().prepare(())
    assert is_intact(teacher().cache.path("logits"))
