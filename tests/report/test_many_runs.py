"""What a report of many runs must not do again for each of them."""

import gc
from collections import Counter
from pathlib import Path

import pytest
from support.fake_study import COST, FakeStudy

from kdbench.records.store import Record
from kdbench.report.data.runs import records_frame
from kdbench.tracking import search
from kdbench.tracking.read import without_collections


def test_a_teachers_predictions_are_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = FakeStudy(tmp_path)
    read: Counter[str] = Counter()
    whole = Record.predictions

    def counted(record: Record) -> dict:
        read[record.id] += 1
        return whole(record)

    monkeypatch.setattr(Record, "predictions", counted)
    frame = records_frame(study.store, study.plan, COST)
    assert frame["agreement"].notna().sum() > 40
    assert read[study.teacher] == 1


def test_the_garbage_collector_rests_only_while_mlflow_is_read() -> None:
    with without_collections():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ValueError, match="broken off"), without_collections():
        raise ValueError("broken off")
    assert gc.isenabled()
    assert search.__wrapped__.__name__ == "search"  # it is `search` that lets it rest
