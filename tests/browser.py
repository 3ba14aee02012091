"""Chromium without a window, driven over its DevTools protocol by the standard library alone."""

import base64
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome") if hasattr(os, "posix_spawn") else ()
PROGRAM = next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """A page of a browser; commands and answers are JSON, and end with a zero byte, on the descriptors 3 and 4.

    Attributes:
        requests: the addresses that were asked for.
        problems: errors of the page's scripts.
    """

    def __init__(self, profile: Path) -> None:
        assert PROGRAM is not None
        (there_read, to), (came, there_write) = os.pipe(), os.pipe()
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--remote-debugging-pipe",
            f"--user-data-dir={profile}",
        ]
        actions = [
            (os.POSIX_SPAWN_DUP2, there_read, 203),  # out of the way of one another
            (os.POSIX_SPAWN_DUP2, there_write, 204),
            (os.POSIX_SPAWN_DUP2, 203, 3),
            (os.POSIX_SPAWN_DUP2, 204, 4),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        ]
        self.process = os.posix_spawn(PROGRAM, [PROGRAM, *options, "about:blank"], os.environ, file_actions=actions)
        os.close(there_read)
        os.close(there_write)
        self.to, self.came, self.waiting = to, came, b""
        self.number, self.session = 0, None
        self.requests: list[str] = []
        self.problems: list[str] = []
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        os.close(self.to)
        os.close(self.came)
        os.kill(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self.waiting:
            more = os.read(self.came, 2**20)
            assert more, "the browser is gone"
            self.waiting += more
        message, _, self.waiting = self.waiting.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        event, about = found.get("method"), found.get("params", {})
        if event == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])
        if event == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(about["exceptionDetails"]))
        return found

    def call(self, method: str, **about: Any) -> dict[str, Any]:
        """Send a command, and wait for its answer."""
        self.number += 1
        command = {"id": self.number, "method": method, "params": about}
        if self.session is not None:
            command["sessionId"] = self.session
        os.write(self.to, json.dumps(command).encode() + b"\0")
        while (answer := self._message()).get("id") != self.number:
            pass
        assert "error" not in answer, (method, answer)
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, address: str, width: int = 1280, height: int = 900, *, phone: bool = False) -> None:
        """Open an address, and wait until its scripts have run."""
        size = {"width": width, "height": height, "deviceScaleFactor": 2 if phone else 1, "mobile": phone}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)
        self.call("Page.navigate", url=address)
        while self._message().get("method") != "Page.loadEventFired":
            pass

    def ask(self, script: str) -> Any:
        """The value of an expression in the page, which may be a promise."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def prefer(self, **features: str) -> None:
        """What the reader prefers: ``prefers_color_scheme="dark"``."""
        wanted = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.call("Emulation.setEmulatedMedia", features=wanted)

    def mouse(self, kind: str, x: float, y: float) -> None:
        """``kind``: Pressed, Moved, Released."""
        held = {"button": "left", "buttons": 0 if kind == "Released" else 1, "clickCount": 1}
        self.call("Input.dispatchMouseEvent", type=f"mouse{kind}", x=x, y=y, **held)

    def touch(self, kind: str, *points: tuple[float, float]) -> None:
        """``kind``: Start, Move, End."""
        self.call("Input.dispatchTouchEvent", type=f"touch{kind}", touchPoints=[{"x": x, "y": y} for x, y in points])

    def key(self, name: str, times: int = 1) -> None:
        """Press and release a key."""
        text = {"text": name} if len(name) == 1 else {}
        for _ in range(times):
            self.call("Input.dispatchKeyEvent", type="keyDown", key=name, **text)
            self.call("Input.dispatchKeyEvent", type="keyUp", key=name)

    def picture(self, path: Path, *, whole: bool = True) -> None:
        """A screenshot."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))
