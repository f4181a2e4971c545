"""A checkpoint file: a state with its epoch and a checksum."""

import hashlib
import re
from typing import NamedTuple

#: The format of a checkpoint file. To be raised with any change of what `pack` writes or of
#: what a member puts into its checkpoint: a run then starts again rather than misread it.
CHECKPOINT_FORMAT = 1


MAGIC = b"kdbench-checkpoint"


HEAD = re.compile(MAGIC + rb" (\d{1,9}) (\d{1,9}) (\d{1,9}) ([0-9a-f]{64})")


class Checkpoint(NamedTuple):
    """A state after `epoch`, and how many rows of metrics stand up to there."""

    epoch: int
    rows: int
    payload: bytes


def pack(checkpoint: Checkpoint) -> bytes:
    """The file's content: a line with format, epoch, rows and sha256, then the payload."""
    head = b"%s %d %d %d" % (MAGIC, CHECKPOINT_FORMAT, checkpoint.epoch, checkpoint.rows)
    return b"%s %s\n%s" % (head, _checksum(head, checkpoint.payload), checkpoint.payload)


def unpack(content: bytes) -> Checkpoint | None:
    """What `pack` was given; None where the content is torn, changed or of another format."""
    head, _, payload = content.partition(b"\n")
    found = HEAD.fullmatch(head)
    if not found or int(found[1]) != CHECKPOINT_FORMAT:
        return None
    # The line is in the checksum too: a wrong number of epochs would be a wrong state.
    if _checksum(head.rpartition(b" ")[0], payload) != found[4]:
        return None
    return Checkpoint(int(found[2]), int(found[3]), payload)


def _checksum(head: bytes, payload: bytes) -> bytes:
    whole = hashlib.sha256(head)
    whole.update(payload)
    return whole.hexdigest().encode()
