"""What to run: a study as a graph of runs and the rows of its leaderboard."""

from kdbench.plan.file import plan_file
from kdbench.plan.parts import Node, Plan, Row
from kdbench.plan.planner import Planner

__all__ = ["Node", "Plan", "Planner", "Row", "plan_file"]
