"""A Ray cluster of several nodes on this machine, none of which uses the folder of another."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from support import crash

#: Bytes of each node's object store.
STORE = 100_000_000


def environment() -> dict[str, str]:
    """What nodes and drivers need to know of each other, and nothing of the user's cluster."""
    return {**crash.environment(), "RAY_AUTH_MODE": "disabled"}


class RayCluster:
    """Nodes of one core each, the first of which is the head. Each is a session of its own, with a
    folder of its own for what it is sent."""

    def __init__(self, home: Path) -> None:
        self.home = home
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        # Not below `home`: the path of a socket may have no more than 107 bytes.
        self.folder = tempfile.mkdtemp(prefix="kdbench-ray-")
        self.nodes: list[subprocess.Popen[bytes]] = []
        self._started = 0

    def add_node(self) -> None:
        """Start a node; it has joined a moment later."""
        host, port = self.address.split(":")
        first = not self._started
        head = ["--head", "--port", port, "--include-dashboard", "false", "--temp-dir", self.folder]
        folder = self.home / f"node-{self._started}"
        folder.mkdir()
        words = [
            *(head if first else ["--address", self.address]),
            # Each has an address of its own, so that a driver connects to the head.
            "--node-ip-address", host if first else f"127.0.0.{1 + self._started}",
            "--num-cpus", "1", "--num-gpus", "0", "--object-store-memory", str(STORE),
            "--disable-usage-stats", "--block",
        ]  # fmt: skip
        self._started += 1
        with (folder / "log.txt").open("wb") as log:
            node = subprocess.Popen(
                [sys.executable, "-m", "ray.scripts.scripts", "start", *words],
                env={**environment(), "KDBENCH_NODE_CACHE": str(folder / "kept")},
                stdout=log, stderr=log, cwd=folder, start_new_session=True,
            )  # fmt: skip
        self.nodes.append(node)
        if first:
            self._wait_for_head(node, host, int(port))

    def _wait_for_head(self, node: subprocess.Popen[bytes], host: str, port: int) -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            assert node.poll() is None, (self.home / "node-0" / "log.txt").read_text()
            with socket.socket() as probe:
                probe.settimeout(1)
                if not probe.connect_ex((host, port)):
                    return
            time.sleep(0.2)
        raise TimeoutError("the head of the Ray cluster did not start")

    def kill_node(self, index: int) -> None:
        """kill -9 of a node with all of its processes."""
        node = self.nodes.pop(index)
        for pid in [*_session(node.pid), node.pid]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        node.wait()

    def actors(self) -> list[int]:
        """The processes of the workers on all nodes."""
        found = {pid for node in self.nodes for pid in _session(node.pid)}
        return sorted(pid for pid in found if _command(pid).startswith("ray::RayWorker"))

    def stop(self) -> None:
        """End all nodes, the head last."""
        while self.nodes:
            self.kill_node(len(self.nodes) - 1)
        shutil.rmtree(self.folder, ignore_errors=True)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""  # it has ended meanwhile


def _session(leader: int) -> list[int]:
    """The processes of a session, and of all that its processes have begun."""
    parents: dict[int, int] = {}
    found = {leader}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                stat = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(folder.name)] = int(stat[1])
            if int(stat[3]) == leader:
                found.add(int(folder.name))
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found |= more
        grown = bool(more)
    return sorted(found - {leader})
