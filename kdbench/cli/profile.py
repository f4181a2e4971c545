"""`kdbench profile`: the networks of a study are measured, and its report shows the numbers."""

import os
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kdbench.cli.progress import ProgressBar, print_line
from kdbench.cli.shell import shown_path
from kdbench.execution.errors import InvalidOption
from kdbench.execution.run_study import pick_device, publish_report
from kdbench.execution.signals import interrupt_on_signals
from kdbench.execution.study_file import publish_pooled
from kdbench.profile import profile_studies
from kdbench.records.layout import require_layout
from kdbench.records.plan_file import PlanFile
from kdbench.records.profiles import profile_path, write_profile
from kdbench.records.store import Store
from kdbench.records.students import studies_of
from kdbench.report.data.collect import NoPlan, no_plan
from kdbench.report.data.report_data import load
from kdbench.report.deployment import deployment_of
from kdbench.report.writers.cells import Document
from kdbench.report.writers.deployment import deployment_document


def profile_and_report(
    root: Path, name: str, device: str, threads: int, progress: ProgressBar
) -> int:
    """Measure the networks of a study that has run in a root, or of the studies of a file with
    several students together, keep the numbers there, and write the reports with them; the exit
    code.

    Raises `InvalidOption`, `NoPlan` where a study never ran here, and `NothingToProfile`.
    """
    chosen = pick_device(device)
    if threads > (cores := os.cpu_count() or threads):
        raise InvalidOption(f"--threads {threads}: this machine has {cores}; take no more")
    require_layout(root)
    store = Store(root)
    plans = {study: _plan(store, study) for study in studies_of(store, name)}
    with interrupt_on_signals():
        profiles = profile_studies(store, list(plans.values()), chosen, threads, progress.log)
        for study, profile in zip(plans, profiles, strict=True):
            write_profile(profile_path(root, study), profile)
        boards = {study: publish_report(store, study, progress)[0] for study in plans}
        if len(plans) > 1:
            deployment = publish_pooled(store, name, list(plans)).deployment
        else:
            deployment = deployment_of(boards[name], load(store.report_folder(name)))
    if deployment:
        show_networks(deployment_document(deployment, digest=""), progress.console)
    path = store.report_folder(name) / "deployment.md"
    print_line(progress.console, f"what you would deploy  {shown_path(path)}")
    return 0


def _plan(store: Store, study: str) -> PlanFile:
    plan = PlanFile.load(store.plan_path(study))
    if plan is None:
        raise NoPlan(no_plan(store, study))
    return plan


def show_networks(document: Document, console: Console) -> None:
    """Print the table of what one would deploy with a column for each network, since a terminal
    is too narrow for its numbers side by side."""
    if document.answer:
        console.print(Text(f"{document.answer}\n", style="bold"))
    names, *rows = zip(*document.grid.rows, strict=True)
    heading, *headings = document.grid.headers
    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column(Text(heading))
    for name in names:
        table.add_column(Text(name.text), justify="right")
    for title, cells in zip(headings, rows, strict=True):
        texts = (Text(cell.text, "bold" if cell.bold else "") for cell in cells)
        table.add_row(Text(title), *texts)
    console.print(table)
    for caption in document.captions:
        console.print(Text(caption, style="dim"))
