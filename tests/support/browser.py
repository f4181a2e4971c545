"""A headless Chromium, driven through its DevTools protocol over a pipe: no driver, no port."""

import base64
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PHONE = 600
"""Windows narrower than this are those of a phone."""


def installed() -> str | None:
    """The browser's command, or None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Tab:
    """One page of a browser."""

    def __init__(self, send: int, receive: IO[bytes]) -> None:
        self._send, self._receive, self._rest = send, receive, b""
        self._number, self._session = 0, ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        self.call("Page.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol. Raises `RuntimeError` with what the browser says."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        answer = self._wait(lambda m: m.get("id") == self._number)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def _wait(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        while True:
            text, end, self._rest = self._rest.partition(b"\0")
            if not end:
                part = os.read(self._receive.fileno(), 1 << 20)
                if not part:
                    raise RuntimeError("the browser has ended")
                self._rest = text + part
            elif wanted(message := json.loads(text)):
                return message

    def show(self, page: Path, width: int, scheme: str = "light", height: int = 900) -> None:
        """Load a file in a window of that size and colour scheme."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < PHONE,
        )  # fmt: skip
        preferred = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=preferred)
        self.call("Page.navigate", url=page.resolve().as_uri())
        self._wait(lambda m: m.get("method") == "Page.loadEventFired")
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def run(self, script: str) -> Any:
        """The value of an expression, awaited where it is a promise."""
        answer = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(json.dumps(answer["exceptionDetails"])[:2000])
        return answer["result"].get("value")

    def point_at(self, x: float, y: float) -> None:
        """Move the pointer there, in pixels of the window."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def screenshot(self, path: Path) -> None:
        """The window as a PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))


@contextmanager
def browser() -> Iterator[Tab]:
    """A tab of a browser that ends with the block."""
    to_browser, send = os.pipe()
    receive, from_browser = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [
            str(installed()), "--headless", "--no-sandbox", "--remote-debugging-pipe",
            "--disable-gpu", "--no-first-run", f"--user-data-dir={profile}",
        ]  # fmt: skip

        def descriptors() -> None:
            """Give the browser the pipes as 3 and 4, where its protocol is."""
            ends = os.dup(to_browser), os.dup(from_browser)
            for number, end in enumerate(ends, start=3):
                os.dup2(end, number)

        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            preexec_fn=descriptors, pass_fds=(3, 4),
        )  # fmt: skip
        os.close(to_browser)
        os.close(from_browser)
        try:
            with open(receive, "rb", buffering=0) as stream:
                yield Tab(send, stream)
        finally:
            os.close(send)
            process.kill()
            process.wait()
