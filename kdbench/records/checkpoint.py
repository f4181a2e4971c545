"""A checkpoint file: a state with its epoch and a checksum."""

import hashlib
import re
from typing import NamedTuple

#: The format of a checkpoint file. Raise it with any change of what `pack` writes or of what a
#: training run puts into its checkpoint: a run then starts again rather than misread it.
CHECKPOINT_FORMAT = 1

MAGIC = b"kdbench-checkpoint"
HEAD = re.compile(MAGIC + rb" (\d{1,9}) (\d{1,9}) (\d{1,9}) ([0-9a-f]{64})")


class Checkpoint(NamedTuple):
    """A state after `epoch`, and the number of rows of metrics up to it."""

    epoch: int
    rows: int
    payload: bytes


def pack(checkpoint: Checkpoint) -> bytes:
    """The file's content: a line with format, epoch, rows and sha256, then the payload."""
    head = b"%s %d %d %d" % (MAGIC, CHECKPOINT_FORMAT, checkpoint.epoch, checkpoint.rows)
    return b"%s %s\n%s" % (head, _checksum(head, checkpoint.payload), checkpoint.payload)


def unpack(content: bytes) -> Checkpoint | None:
    """The checkpoint that was packed; None if the content is torn, changed or of another format."""
    head, _, payload = content.partition(b"\n")
    fields = HEAD.fullmatch(head)
    if not fields or int(fields[1]) != CHECKPOINT_FORMAT:
        return None
    # The line is in the checksum too: a wrong number of epochs would be a wrong state.
    if _checksum(head.rpartition(b" ")[0], payload) != fields[4]:
        return None
    return Checkpoint(int(fields[2]), int(fields[3]), payload)


def _checksum(head: bytes, payload: bytes) -> bytes:
    checksum = hashlib.sha256(head)
    checksum.update(payload)
    return checksum.hexdigest().encode()
