"""Frozen networks: tables and live forwards say the same, and nothing is half-written."""

import io
import itertools
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kdbench.data import VIEWS, Views
from kdbench.records.checksummed import ChecksumWriter
from kdbench.records.spec import CACHE_LIMIT, uses_cache
from kdbench.training import output_cache as storage
from kdbench.training.teachers import TeacherNetwork, WrongCache, load_student

LAYERS = ("embedding", "stage1", "stage2_pre")


@pytest.fixture
def teachers(world, empty_world):
    """Two finished teachers in a store that holds no table yet."""
    ids = list(world.job("ensemble").spec.frozen_runs.values())[:2]
    for run_id in ids:
        old, new = (w.store.record(run_id) for w in (world, empty_world))
        new.begin(old.spec())
        new.finish(old.result, old.weights_path.read_bytes())
    return empty_world, ids


def network(world, run_id: str, augment: str = "none") -> TeacherNetwork:
    return TeacherNetwork(
        world.store, run_id, "last", world.data, Views(world.data, augment, "cpu")
    )


def tables(world) -> dict[str, bytes]:
    folder = world.store.output_cache
    return {p.name: p.read_bytes() for p in folder.glob("*.npy")} if folder.exists() else {}


def write_table(path: Path, rows: np.ndarray) -> None:
    """A table as another kdbench would have written it: whole, with its checksum."""
    content = io.BytesIO()
    np.save(content, rows)
    with path.open("wb") as file:
        writer = ChecksumWriter(file)
        writer.write(content.getvalue())
        writer.finish()


def test_table_rows_are_a_direct_forward_in_index_order(teachers):
    world, (run_id, _) = teachers
    every = torch.arange(len(world.data.labels))
    out = network(world, run_id).cached(every, LAYERS)
    from kdbench.models.features import with_features

    model = load_student(world.store, run_id, "last", world.data)
    with torch.no_grad():
        direct = with_features(model, LAYERS)(Views(world.data).take(every))
    torch.testing.assert_close(out.logits, direct.logits, rtol=1e-4, atol=1e-5)
    assert out.features.keys() == set(LAYERS)
    for layer in LAYERS:
        torch.testing.assert_close(
            out.features[layer], direct.features[layer], rtol=1e-4, atol=1e-5
        )
    # The order is the file's: rows of any positions are the rows asked for.
    some = torch.tensor([77, 3, 3, 129, 0])
    again = network(world, run_id).cached(some, ("embedding",))
    assert torch.equal(again.logits, out.logits[some])
    assert torch.equal(again.features["embedding"], out.features["embedding"][some])


def test_table_and_live_agree_to_rounding(teachers):
    world, (run_id, _) = teachers
    teacher = network(world, run_id)
    position = torch.tensor([5, 99, 12, 40])
    live = teacher.live(teacher.views.take(position), LAYERS)
    table = teacher.cached(position, LAYERS)
    torch.testing.assert_close(live.logits, table.logits, rtol=1e-4, atol=1e-5)
    for layer in LAYERS:
        torch.testing.assert_close(
            live.features[layer], table.features[layer], rtol=1e-4, atol=1e-5
        )
    for out in (live, table):
        assert not out.logits.requires_grad
        assert not any(t.requires_grad for t in out.features.values())


def test_runs_from_table_and_live_agree_to_rounding(world):
    plain = {"augment": "none"}
    table = world.alone(world.job("hint", data=plain, recipe={"teacher_outputs": "cache"}))
    live = world.alone(world.job("hint", data=plain, recipe={"teacher_outputs": "live"}))
    for one, other in zip(table.rows, live.rows, strict=True):
        assert one["train.loss"] == pytest.approx(other["train.loss"], rel=1e-3)
    # The two are two runs.
    jobs = [
        world.job("hint", data=plain, recipe={"teacher_outputs": f}).spec.id
        for f in ("cache", "live")
    ]
    assert jobs[0] != jobs[1]


def test_who_asks_does_not_matter_to_a_live_forward(teachers):
    """A mate's wish for a layer must not change anybody's bits."""
    world, (run_id, _) = teachers
    teacher = network(world, run_id)
    images = teacher.views.take(torch.arange(40))
    few, many = teacher.live(images, ("stage2_pre",)), teacher.live(images, LAYERS)
    assert torch.equal(few.logits, many.logits)
    assert torch.equal(few.features["stage2_pre"], many.features["stage2_pre"])


def test_a_table_is_the_same_whoever_fills_it(teachers, tmp_path):
    world, (run_id, _) = teachers
    network(world, run_id).cached(torch.arange(3), LAYERS)
    together = tables(world)
    for path in world.store.output_cache.glob("*.npy"):
        path.unlink()
    for layers in ((), ("stage1",), ("stage2_pre", "embedding")):
        network(world, run_id).cached(torch.arange(130), layers)
    assert tables(world) == together
    assert len(together) == 4


def test_a_table_is_filled_once(teachers, monkeypatch):
    world, (run_id, _) = teachers
    network(world, run_id).cached(torch.arange(3), ("stage1",))
    before = tables(world)

    def fill(*_):
        raise AssertionError("filled again")

    monkeypatch.setattr(storage.OutputCache, "_fill_shard", fill)
    again = network(world, run_id)
    again.cached(torch.arange(3), ("stage1",))
    again.cached(torch.arange(9), ())
    assert tables(world) == before


def test_a_new_tap_leaves_the_logits_alone(teachers):
    world, (run_id, _) = teachers
    network(world, run_id).cached(torch.arange(3), ())
    before = tables(world)
    network(world, run_id).cached(torch.arange(3), ("stage1",))
    after = tables(world)
    assert len(before) == 1
    assert len(after) == 2
    assert before.items() <= after.items()


@pytest.mark.parametrize("block", [50, 500])
def test_a_crash_while_filling_leaves_no_table(teachers, monkeypatch, block):
    world, (run_id, _) = teachers
    monkeypatch.setattr(storage, "BLOCK", block)
    whole = network(world, run_id).cached(torch.arange(130), ("stage1",))
    for path in world.store.output_cache.glob("*.npy"):
        path.unlink()
    real, calls = TeacherNetwork.live, []

    def live(self, images, layers):
        calls.append(1)
        if len(calls) * block >= 100:
            raise KeyboardInterrupt
        return real(self, images, layers)

    with monkeypatch.context() as patch:
        patch.setattr(TeacherNetwork, "live", live)
        with pytest.raises(KeyboardInterrupt):
            network(world, run_id).cached(torch.arange(3), ("stage1",))
    assert tables(world) == {}
    # What the crash left behind does not stand in the way of the next try.
    again = network(world, run_id).cached(torch.arange(130), ("stage1",))
    assert torch.equal(again.logits, whole.logits)
    assert torch.equal(again.features["stage1"], whole.features["stage1"])


def test_two_networks_do_not_mix(teachers):
    world, ids = teachers
    every = torch.arange(130)
    outs = [network(world, run_id).cached(every, ()).logits for run_id in ids]
    assert not torch.allclose(*outs)
    assert len(tables(world)) == 2
    for run_id, out in zip(ids, outs, strict=True):
        assert torch.equal(network(world, run_id).cached(every, ()).logits, out)


def test_writing_into_a_batch_does_not_write_into_the_table(teachers):
    world, (run_id, _) = teachers
    teacher = network(world, run_id)
    out = teacher.cached(torch.arange(5), ())
    before = tables(world)
    kept = out.logits.clone()
    out.logits.fill_(7)
    assert torch.equal(teacher.cached(torch.arange(5), ()).logits, kept)
    assert tables(world) == before


def test_a_table_is_of_the_images_it_was_made_of(teachers):
    """Another training part has another checksum, hence another table."""
    world, (run_id, _) = teachers
    network(world, run_id).cached(torch.arange(3), ())
    fewer = replace(
        world.data, images=world.data.images[:60], labels=world.data.labels[:60], checksum="first60"
    )
    other = TeacherNetwork(world.store, run_id, "last", fewer, Views(fewer))
    other.cached(torch.arange(3), ())
    shapes = sorted(np.load(p).shape for p in world.store.output_cache.glob("*.npy"))
    assert shapes == [(60, 10), (130, 10)]


def test_last_and_best_weights_are_two_networks(teachers):
    world, (run_id, _) = teachers
    record = world.store.record(run_id)
    from safetensors.torch import load, save

    stored = load(record.state_dict())
    changed = {
        k: v + 1 if k.startswith("best") and v.is_floating_point() else v for k, v in stored.items()
    }
    record.finish(record.result, save(changed))
    every = torch.arange(130)
    one, other = (
        TeacherNetwork(world.store, run_id, which, world.data, Views(world.data)).cached(every, ())
        for which in ("last", "best")
    )
    assert not torch.allclose(one.logits, other.logits)
    assert len(tables(world)) == 2


def test_an_unfinished_run_cannot_be_frozen(empty_world):
    with pytest.raises(FileNotFoundError, match="not finished"):
        load_student(empty_world.store, "0" * 12, "last", empty_world.data)


def test_a_loaded_student_is_the_one_that_was_trained(teachers):
    world, (run_id, _) = teachers
    model = load_student(world.store, run_id, "last", world.data)
    from safetensors.torch import load_file

    stored = load_file(world.store.record(run_id).weights_path)
    for name, value in model.state_dict().items():
        assert torch.equal(value, stored[f"last/{name}"])
    assert not any(part.training for part in model.modules())
    assert not any(p.requires_grad for p in model.parameters())


def test_loading_a_student_draws_nothing_from_the_caller(teachers):
    world, (run_id, _) = teachers
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    load_student(world.store, run_id, "last", world.data)
    assert torch.rand(1) == expected


def test_table_or_live_follows_from_the_spec_and_sizes_alone(world):
    spec = world.job("hint").spec
    layer = {"stage1": (16, 8, 8)}
    large = {"stage1": (1, 1, CACHE_LIMIT // 4)}

    def choose(frozen: str, augment: str, epochs: int, storage: str = "fp32") -> list[bool]:
        chosen = replace(
            spec,
            data=replace(spec.data, augment=augment),
            recipe=replace(spec.recipe, teacher_outputs=frozen, epochs=epochs, storage=storage),
        )
        return [
            uses_cache(chosen, n, VIEWS[augment], t)
            for n, t in ((130, layer), (130, {}), (1, large), (2, large))
        ]

    assert choose("auto", "none", 1) == [True, True, True, False]
    assert choose("auto", "none", 1, "fp16") == [True, True, True, True]
    # The size is that of all views together.
    assert choose("auto", "flip", 1) == [True, True, False, False]
    assert choose("auto", "flip", 1, "fp16") == [True, True, True, False]
    # At most three views an epoch: 162 views need 54 epochs, 81 need 27.
    assert choose("auto", "crop-flip", 53) == [False] * 4
    assert choose("auto", "crop-flip", 54) == [True, True, False, False]
    assert choose("auto", "crop", 26) == [False] * 4
    assert choose("auto", "crop", 27) == [True, True, False, False]
    for augment in ("none", "flip", "crop", "crop-flip"):
        assert choose("live", augment, 240) == [False] * 4
        assert choose("cache", augment, 1) == [True] * 4


# -- tables over many views


def over(world, run_id: str, augment: str, storage: str = "fp32") -> TeacherNetwork:
    views = Views(world.data, augment)
    return TeacherNetwork(world.store, run_id, "last", world.data, views, storage)


@pytest.mark.parametrize("augment", ["flip", "crop", "crop-flip"])
def test_every_view_has_its_row(teachers, augment):
    world, (run_id, _) = teachers
    teacher = over(world, run_id, augment)
    rng = torch.Generator().manual_seed(0)
    position = torch.randint(len(world.data.labels), (64,), generator=rng)
    view = torch.randint(VIEWS[augment], (64,), generator=rng)
    table = teacher.cached(position, ("embedding",), view)
    live = teacher.live(teacher.views.take(position, view), ("embedding",))
    torch.testing.assert_close(table.logits, live.logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        table.features["embedding"], live.features["embedding"], rtol=1e-4, atol=1e-5
    )
    # Without a view: the image itself.
    plain = teacher.live(teacher.views.take(position), ())
    torch.testing.assert_close(
        teacher.cached(position, ()).logits, plain.logits, rtol=1e-4, atol=1e-5
    )
    shape = np.load(teacher.cache.path("logits"), mmap_mode="r").shape
    assert shape == (VIEWS[augment] * len(world.data.labels), 10)


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux's /proc")
def test_a_table_is_not_read_ahead(teachers):
    """Rows are read in random order: where memory is short, neighbours come for nothing."""
    world, (run_id, _) = teachers
    teacher = over(world, run_id, "none")
    teacher.prepare(())
    path = str(teacher.cache.path("logits"))
    regions = Path("/proc/self/smaps").read_text().split("VmFlags:")
    flags = [after for before, after in itertools.pairwise(regions) if path in before]
    assert flags
    assert all("rr" in each.splitlines()[0].split() for each in flags)


def test_a_table_is_a_direct_forward_of_its_blocks_to_the_last_bit(teachers, monkeypatch):
    world, (run_id, _) = teachers
    monkeypatch.setattr(storage, "BLOCK", 50)
    teacher = over(world, run_id, "flip")
    every = torch.arange(len(world.data.labels))
    for view in (0, 1):
        rows = teacher.cached(every, (), torch.full_like(every, view)).logits
        for start in range(0, len(every), 50):
            block = every[start : start + 50]
            direct = teacher.live(teacher.views.take(block, view), ()).logits
            assert torch.equal(rows[block], direct)


@pytest.mark.parametrize("augment", ["flip", "crop-flip"])
def test_runs_under_augmentation_agree_between_table_and_live(world, augment):
    """The same views for student and teacher either way: only rounding differs."""
    table, live = (
        world.alone(world.job("kd", data={"augment": augment}, recipe={"teacher_outputs": way}))
        for way in ("cache", "live")
    )
    for one, other in zip(table.rows, live.rows, strict=True):
        assert one["train.loss"] == pytest.approx(other["train.loss"], rel=1e-3)


def test_another_augmentation_or_storage_is_another_table(teachers):
    world, (run_id, _) = teachers
    for augment, kept in (("none", "fp32"), ("flip", "fp32"), ("none", "fp16")):
        over(world, run_id, augment, kept).prepare(())
    assert len(tables(world)) == 3


def test_half_precision_is_the_single_one_rounded(teachers):
    world, (run_id, _) = teachers
    every = torch.arange(len(world.data.labels))
    whole, half = (over(world, run_id, "none", s).cached(every, LAYERS) for s in ("fp32", "fp16"))
    assert half.logits.dtype == torch.float32
    assert torch.equal(half.logits, whole.logits.half().float())
    for layer in LAYERS:
        assert torch.equal(half.features[layer], whole.features[layer].half().float())


def test_values_beyond_half_precision_are_refused(teachers, monkeypatch):
    world, (run_id, _) = teachers
    real = TeacherNetwork.live
    monkeypatch.setattr(
        TeacherNetwork,
        "live",
        lambda self, images, layers: replace(
            out := real(self, images, layers), logits=out.logits * 1e9
        ),
    )
    with pytest.raises(ValueError, match=r"fp16 can hold; take recipe\.storage: fp32"):
        over(world, run_id, "none", "fp16").prepare(())
    assert tables(world) == {}


def test_what_others_read_is_filled_in_the_same_forwards(teachers, monkeypatch):
    world, (run_id, _) = teachers
    real, asked = TeacherNetwork.live, []

    def live(self, images, layers):
        asked.append(tuple(layers))
        return real(self, images, layers)

    monkeypatch.setattr(TeacherNetwork, "live", live)
    network(world, run_id).prepare((), others=("stage1", "embedding"))
    # One block, then the spot check of what was opened.
    assert asked == [("stage1", "embedding"), ()]
    asked.clear()
    network(world, run_id).prepare(("stage1",))
    assert asked == [("stage1",)]


# -- filled by many, looked into by each


def test_a_table_that_says_something_else_is_an_error(teachers):
    world, (run_id, _) = teachers
    network(world, run_id).prepare(("stage1",))
    path = network(world, run_id).cache.path("stage1")
    rows = np.load(path)
    write_table(path, np.roll(rows, 1, axis=0))
    with pytest.raises(WrongCache, match=r"the stage1 of image \d+ in view 0.*Remove the file"):
        network(world, run_id).prepare(("stage1",))
    write_table(path, np.full_like(rows, np.nan))
    with pytest.raises(WrongCache):
        network(world, run_id).prepare(("stage1",))
    write_table(path, rows)
    network(world, run_id).prepare(("stage1",))


def test_a_wrong_table_fails_its_runs_and_no_other(world, empty_world):
    job, alone = world.job("kd", recipe={"teacher_outputs": "cache"}), world.job("ce")
    run_id = next(iter(job.spec.frozen_runs.values()))
    old, new = (w.store.record(run_id) for w in (world, empty_world))
    new.begin(old.spec())
    new.finish(old.result, old.weights_path.read_bytes())
    over(empty_world, run_id, job.spec.data.augment).prepare(())
    (path,) = empty_world.store.output_cache.glob("*.npy")
    write_table(path, -np.load(path))
    outcomes = empty_world.train(job, alone)
    assert "is wrong" in outcomes[job.spec.id].failed.error["message"]
    assert outcomes[alone.spec.id].finished is not None


def test_several_processes_fill_one_table_together(teachers, monkeypatch):
    """Each takes shards that nobody has; nothing is computed twice, and the bits are the same."""
    world, (run_id, _) = teachers
    monkeypatch.setattr(storage, "BLOCK", 10)
    over(world, run_id, "flip").prepare(("embedding",))
    alone = tables(world)
    for path in world.store.output_cache.iterdir():
        path.unlink()
    children = []
    for number in range(3):
        child = os.fork()
        if child == 0:
            try:
                real, count = TeacherNetwork.live, 0

                def live(self, images, layers, real=real):
                    nonlocal count
                    count += len(images) == 10
                    time.sleep(0.02)
                    return real(self, images, layers)

                TeacherNetwork.live = live
                over(world, run_id, "flip").prepare(("embedding",))
                (world.store.root / f"blocks{number}").write_text(str(count))
                os._exit(0)
            finally:
                os._exit(1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    assert tables(world) == alone
    assert not list(world.store.output_cache.glob("*.shard"))
    counts = [int((world.store.root / f"blocks{n}").read_text()) for n in range(3)]
    assert sum(counts) == 2 * 13
    assert sum(count > 0 for count in counts) > 1


def test_a_killed_filler_leaves_its_shards(teachers, monkeypatch):
    world, (run_id, _) = teachers
    monkeypatch.setattr(storage, "BLOCK", 10)
    over(world, run_id, "none").prepare(())
    whole = tables(world)
    for path in world.store.output_cache.iterdir():
        path.unlink()
    real, calls = TeacherNetwork.live, []

    def live(self, images, layers):
        calls.append(1)
        if len(calls) == 8:
            os._exit(9)
        return real(self, images, layers)

    child = os.fork()
    if child == 0:
        TeacherNetwork.live = live
        over(world, run_id, "none").prepare(())
        os._exit(1)
    os.waitpid(child, 0)
    shards = list(world.store.output_cache.glob("*.shard"))
    assert 0 < len(shards) < 7
    done = []

    def counted(self, images, layers):
        done.append(len(images))
        return real(self, images, layers)

    monkeypatch.setattr(TeacherNetwork, "live", counted)
    over(world, run_id, "none").prepare(())
    # 13 blocks in shards of two; the last computation is the spot check.
    assert len(done) - 1 == 13 - 2 * len(shards)
    assert tables(world) == whole


def test_filling_stops_when_asked_and_goes_on_later(teachers, monkeypatch):
    world, (run_id, _) = teachers
    monkeypatch.setattr(storage, "BLOCK", 10)
    looks = []
    over(world, run_id, "none").prepare((), stopping=lambda: looks.append(1) or len(looks) > 3)
    assert tables(world) == {}
    assert len(list(world.store.output_cache.glob("*.shard"))) == 3
    over(world, run_id, "none").prepare(())
    assert len(tables(world)) == 1
