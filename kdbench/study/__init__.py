"""What to run: a study as a graph of runs and the rows of its leaderboard."""

from kdbench.study.plan import Node, Plan, Row
from kdbench.study.plan_file import plan_file
from kdbench.study.planner import Planner

__all__ = ["Node", "Plan", "Planner", "Row", "plan_file"]
