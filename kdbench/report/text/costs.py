"""What is said of the measured costs, beneath a table."""

from collections.abc import Iterable

from kdbench.report.data.runs import MEASURED
from kdbench.report.text.context import Context


def measured_columns(context: Context) -> str:
    """What the measured columns hold; empty where nothing was measured."""
    rows, reference = context.cost.get("rows") or {}, context.plan.reference
    if not rows and not context.frame[list(MEASURED)].notna().any(axis=None):
        return ""
    machine = context.cost.get("machine")
    where = f" on {machine}" if machine else ""
    marked = (
        f"Columns marked (measured) were measured{where} and are the only ones in which two "
        "equal studies may differ."
    )
    if context.plan.score is not None:  # external results
        return f"{marked} The relative cost is what was given, over that of {reference}."
    return (
        f"{marked} The relative cost is that of all training for one seed of a row, with its peers "
        "and the networks that are trained for it first (earlier generations, assistants, further "
        f"teachers), over that of {reference}; the study's teacher, which the methods share, and "
        "tuning are left out."
    )


def unknown_costs(context: Context) -> Iterable[str]:
    """Which rows have the cost of a step alone, in reports made before all was measured."""
    rows = context.cost.get("rows") or {}
    labels = [k for k, row in rows.items() if "relative" in row and "training" not in row]
    if labels and context.plan.score is None:
        yield (
            f"No relative cost for {', '.join(labels)}: only a step was measured, and not the "
            "networks that are trained first."
        )
