"""The display names of the rows of a leaderboard."""

from kdbench.records.method_text import MethodText, builtin_texts
from kdbench.records.plan_file import PlanFile


def method_text(plan: PlanFile, label: str) -> MethodText | None:
    """What is known of the method of the rows with a label; None where that is nothing: scores
    that come from elsewhere have a label, which need not mean the method of that key."""
    key = next((row.method for row in plan.rows if row.label == label), None)
    if key is None or plan.data is None:
        return None
    return plan.methods.get(key) or builtin_texts().get(key)


def title_of(plan: PlanFile, label: str) -> str:
    """The display name of the rows with a label: `Relational KD` for `rkd`, with the label
    behind it where a study gives an entry one of its own, as in `Relational KD (rkd-25)`.
    Where there is no display name it is the label.
    """
    text = method_text(plan, label)
    if text is None or text.title == label:
        return label
    own = any(row.label == label and row.method != label for row in plan.rows)
    return f"{text.title} ({label})" if own else text.title
