"""The caption about rows that were taken from a report."""

from kdbench.records.plan_file import PlanFile


def taken_rows(plan: PlanFile) -> str:
    """Which rows were run here, and how their teachers compare with the report's."""
    if (taken := plan.taken) is None:
        return ""
    here = dict.fromkeys(row.label for row in plan.rows if row.label not in taken.labels)
    how = "given, with its checksum in its id" if plan.teacher_weights else "trained again here"
    scores = "the test scores that the report has"
    if taken.teachers:
        others = (f"{run} has {100 * score:.2f} %" for run, score in taken.teachers.items())
        scores = f"other test scores than the report has ({', '.join(others)} on test)"
    return (
        f"Run here: {', '.join(here)}. All other rows were taken as they are from the report of "
        f"the study {taken.report} (made from {taken.digest}), which has the same setting, recipe, "
        f"seeds and tuning budget. The teacher was {how}, with {scores}."
    )
