"""What the driver does with each message of a worker."""

import shutil
from pathlib import Path


def full(root: Path) -> str:
    """What to do about a full disk."""
    free = shutil.disk_usage(root).free / 1e6
    return (
        f"the disk is full ({free:.1f} MB free); make room and give the same command again, "
        "which goes on where this one stopped"
    )
