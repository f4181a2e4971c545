"""Which runs are trained together."""

import pytest
from support.inline_study import InlineStudy


class OfSize:
    """An engine of `size` workers, one of them idle."""

    def __init__(self, size: int) -> None:
        self.size, self.device = size, "cpu"

    def idle(self) -> int:
        return 1


@pytest.mark.parametrize("count", [2, 3, 16])
def test_cohorts_become_smaller_so_that_workers_end_together(
    study: InlineStudy, count: int
) -> None:
    study.changes = {"tune": None, "methods": ["ce", "label-smoothing"]}
    study.changes |= {"final.seeds": list(range(40))}
    driver, _ = study.driver(OfSize(count))
    driver.state.make_plan()
    plan = driver.state.plan
    driver.state.training |= set(plan.teachers.values())
    free, sizes = [0.0] * count, []
    while cohort := driver.scheduler.next(plan, driver.state.ready()):
        # The worker that is free first takes it; every run takes one unit of time.
        worker = free.index(min(free))
        free[worker] += len(cohort)
        sizes.append(len(cohort))
        driver.state.training |= {node.id for node in cohort}
    assert sum(sizes) == 80
    assert max(free) - min(free) <= 1
    # Runs of a seed are still trained together while there are many.
    assert sizes[0] == 2 or count > 16


@pytest.mark.parametrize("count", [2, 4])
def test_the_last_runs_with_a_live_teacher_are_for_all_workers(
    study: InlineStudy, count: int
) -> None:
    """No worker is without a run while three wait for another one's."""
    smoothed = {"method": "label-smoothing"}
    methods = [
        {**smoothed, "label": f"of-{n}", "hparams": {"smoothing": n / 20}} for n in range(1, 17)
    ]
    study.changes = {"tune": None, "methods": ["ce", *methods]}
    study.changes |= {"recipe.teacher_outputs": "live", "final.seeds": [0]}
    driver, _ = study.driver(OfSize(count))
    driver.state.make_plan()
    plan, scheduler = driver.state.plan, driver.scheduler
    driver.state.training |= set(plan.teachers.values())
    scheduler._uses_live_outputs = lambda *_: True  # type: ignore[method-assign]
    sizes = []
    while cohort := scheduler.next(plan, driver.state.ready()):
        sizes.append(len(cohort))
        driver.state.training |= {node.id for node in cohort}
    assert sum(sizes) == 17
    assert sizes[0] == -(-17 // count)  # the first ones are as large as they may be
    assert max(sizes[-count:]) <= 4


def test_cohorts_with_a_live_teacher_stay_together(study: InlineStudy) -> None:
    study.changes = {"tune": None, "methods": ["ce", "kd"], "final.seeds": [0]}
    study.changes |= {"recipe.teacher_outputs": "live", "recipe.epochs": 1}
    _, driver, _ = study.run()
    (study.root / "runs").rename(study.root / "kept")
    plan = driver.planner.plan()
    (teacher,) = plan.teachers.values()
    (study.root / "runs").mkdir()
    (study.root / "kept" / teacher).rename(study.root / "runs" / teacher)
    fresh, _ = study.driver(OfSize(8))
    fresh.state.make_plan()
    cohort = fresh.scheduler.next(fresh.state.plan, fresh.state.ready())
    assert {node.spec.method for node in cohort} == {"ce", "kd"}
