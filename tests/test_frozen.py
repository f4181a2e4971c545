"""Frozen networks: tables and live forwards say the same, and nothing is half-written."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from kdbench import tables as storage
from kdbench.data import Views
from kdbench.frozen import TABLE_LIMIT, FrozenNetwork, load_student, tabled

TAPS = ("embedding", "stage1", "stage2_pre")


@pytest.fixture
def teachers(world, other_world):
    """Two finished teachers in a store that holds no table yet."""
    ids = list(world.job("ensemble").spec.frozen.values())[:2]
    for run_id in ids:
        old, new = (w.store.record(run_id) for w in (world, other_world))
        new.begin(old.spec())
        new.finish(old.result, old.weights_path.read_bytes())
    return other_world, ids


def network(world, run_id: str, augment: str = "none") -> FrozenNetwork:
    return FrozenNetwork(world.store, run_id, "last", world.data, Views(world.data, augment, "cpu"))


def tables(world) -> dict[str, bytes]:
    folder = world.store.tables
    return {p.name: p.read_bytes() for p in folder.glob("*.npy")} if folder.exists() else {}


def test_table_rows_are_a_direct_forward_in_index_order(teachers):
    world, (run_id, _) = teachers
    every = torch.arange(len(world.data.labels))
    out = network(world, run_id).table(every, TAPS)
    from kdbench.models import tapped

    model = load_student(world.store, run_id, "last", world.data)
    with torch.no_grad():
        direct = tapped(model, TAPS)(Views(world.data).take(every))
    torch.testing.assert_close(out.logits, direct.logits, rtol=1e-4, atol=1e-5)
    assert out.taps.keys() == set(TAPS)
    for tap in TAPS:
        torch.testing.assert_close(out.taps[tap], direct.taps[tap], rtol=1e-4, atol=1e-5)
    # The order is the file's: rows of any positions are the rows asked for.
    some = torch.tensor([77, 3, 3, 129, 0])
    again = network(world, run_id).table(some, ("embedding",))
    assert torch.equal(again.logits, out.logits[some])
    assert torch.equal(again.taps["embedding"], out.taps["embedding"][some])


def test_table_and_live_agree_to_rounding(teachers):
    world, (run_id, _) = teachers
    teacher = network(world, run_id)
    position = torch.tensor([5, 99, 12, 40])
    live = teacher.live(teacher.views.take(position), TAPS)
    table = teacher.table(position, TAPS)
    torch.testing.assert_close(live.logits, table.logits, rtol=1e-4, atol=1e-5)
    for tap in TAPS:
        torch.testing.assert_close(live.taps[tap], table.taps[tap], rtol=1e-4, atol=1e-5)
    for out in (live, table):
        assert not out.logits.requires_grad
        assert not any(t.requires_grad for t in out.taps.values())


def test_runs_from_table_and_live_agree_to_rounding(world):
    plain = {"augment": "none"}
    table = world.alone(world.job("hint", data=plain, recipe={"frozen": "table"}))
    live = world.alone(world.job("hint", data=plain, recipe={"frozen": "live"}))
    for one, other in zip(table.rows, live.rows, strict=True):
        assert one["train.loss"] == pytest.approx(other["train.loss"], rel=1e-3)
    # The two are two runs.
    jobs = [world.job("hint", data=plain, recipe={"frozen": f}).spec.id for f in ("table", "live")]
    assert jobs[0] != jobs[1]


def test_who_asks_does_not_matter_to_a_live_forward(teachers):
    """A mate's wish for a tap must not change anybody's bits."""
    world, (run_id, _) = teachers
    teacher = network(world, run_id)
    images = teacher.views.take(torch.arange(40))
    few, many = teacher.live(images, ("stage2_pre",)), teacher.live(images, TAPS)
    assert torch.equal(few.logits, many.logits)
    assert torch.equal(few.taps["stage2_pre"], many.taps["stage2_pre"])


def test_a_table_is_the_same_whoever_fills_it(teachers, tmp_path):
    world, (run_id, _) = teachers
    network(world, run_id).table(torch.arange(3), TAPS)
    together = tables(world)
    for path in world.store.tables.glob("*.npy"):
        path.unlink()
    for taps in ((), ("stage1",), ("stage2_pre", "embedding")):
        network(world, run_id).table(torch.arange(130), taps)
    assert tables(world) == together
    assert len(together) == 4


def test_a_table_is_filled_once(teachers, monkeypatch):
    world, (run_id, _) = teachers
    network(world, run_id).table(torch.arange(3), ("stage1",))
    before = tables(world)

    def fill(*_):
        raise AssertionError("filled again")

    monkeypatch.setattr(storage.Tables, "_fill_shard", fill)
    again = network(world, run_id)
    again.table(torch.arange(3), ("stage1",))
    again.table(torch.arange(9), ())
    assert tables(world) == before


def test_a_new_tap_leaves_the_logits_alone(teachers):
    world, (run_id, _) = teachers
    network(world, run_id).table(torch.arange(3), ())
    before = tables(world)
    network(world, run_id).table(torch.arange(3), ("stage1",))
    after = tables(world)
    assert len(before) == 1
    assert len(after) == 2
    assert before.items() <= after.items()


@pytest.mark.parametrize("block", [50, 500])
def test_a_crash_while_filling_leaves_no_table(teachers, monkeypatch, block):
    world, (run_id, _) = teachers
    monkeypatch.setattr(storage, "BLOCK", block)
    whole = network(world, run_id).table(torch.arange(130), ("stage1",))
    for path in world.store.tables.glob("*.npy"):
        path.unlink()
    real, calls = FrozenNetwork.live, []

    def live(self, images, taps):
        calls.append(1)
        if len(calls) * block >= 100:
            raise KeyboardInterrupt
        return real(self, images, taps)

    with monkeypatch.context() as patch:
        patch.setattr(FrozenNetwork, "live", live)
        with pytest.raises(KeyboardInterrupt):
            network(world, run_id).table(torch.arange(3), ("stage1",))
    assert tables(world) == {}
    # What the crash left behind does not stand in the way of the next try.
    again = network(world, run_id).table(torch.arange(130), ("stage1",))
    assert torch.equal(again.logits, whole.logits)
    assert torch.equal(again.taps["stage1"], whole.taps["stage1"])


def test_two_networks_do_not_mix(teachers):
    world, ids = teachers
    every = torch.arange(130)
    outs = [network(world, run_id).table(every, ()).logits for run_id in ids]
    assert not torch.allclose(*outs)
    assert len(tables(world)) == 2
    for run_id, out in zip(ids, outs, strict=True):
        assert torch.equal(network(world, run_id).table(every, ()).logits, out)


def test_writing_into_a_batch_does_not_write_into_the_table(teachers):
    world, (run_id, _) = teachers
    teacher = network(world, run_id)
    out = teacher.table(torch.arange(5), ())
    before = tables(world)
    kept = out.logits.clone()
    out.logits.fill_(7)
    assert torch.equal(teacher.table(torch.arange(5), ()).logits, kept)
    assert tables(world) == before


def test_a_table_is_of_the_images_it_was_made_of(teachers):
    """Another training part has another checksum, hence another table."""
    world, (run_id, _) = teachers
    network(world, run_id).table(torch.arange(3), ())
    fewer = replace(
        world.data, images=world.data.images[:60], labels=world.data.labels[:60], checksum="first60"
    )
    other = FrozenNetwork(world.store, run_id, "last", fewer, Views(fewer))
    other.table(torch.arange(3), ())
    shapes = sorted(np.load(p).shape for p in world.store.tables.glob("*.npy"))
    assert shapes == [(60, 10), (130, 10)]


def test_last_and_best_weights_are_two_networks(teachers):
    world, (run_id, _) = teachers
    record = world.store.record(run_id)
    from safetensors.torch import load_file, save_file

    stored = load_file(record.weights_path)
    save_file(
        {
            k: v + 1 if k.startswith("best") and v.is_floating_point() else v
            for k, v in stored.items()
        },
        record.weights_path,
    )
    every = torch.arange(130)
    one, other = (
        FrozenNetwork(world.store, run_id, which, world.data, Views(world.data)).table(every, ())
        for which in ("last", "best")
    )
    assert not torch.allclose(one.logits, other.logits)
    assert len(tables(world)) == 2


def test_an_unfinished_run_cannot_be_frozen(other_world):
    with pytest.raises(FileNotFoundError, match="not finished"):
        load_student(other_world.store, "0" * 12, "last", other_world.data)


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
    tap = {"stage1": (16, 8, 8)}
    large = {"stage1": (1, 1, TABLE_LIMIT // 4)}

    def choose(frozen: str, augment: str, epochs: int, storage: str = "fp32") -> list[bool]:
        chosen = replace(
            spec,
            data=replace(spec.data, augment=augment),
            recipe=replace(spec.recipe, frozen=frozen, epochs=epochs, storage=storage),
        )
        return [tabled(chosen, n, t) for n, t in ((130, tap), (130, {}), (1, large), (2, large))]

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
        assert choose("table", augment, 1) == [True] * 4
