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
