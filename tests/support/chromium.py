"""A headless Chromium, driven by its DevTools protocol over a pair of pipes: nothing but the browser is needed."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

WAIT_S = 60.0
_FLAGS = (
    "--headless=new", "--remote-debugging-pipe", "--no-first-run", "--no-default-browser-check", "--disable-gpu",
    "--disable-dev-shm-usage", "--disable-extensions", "--disable-background-networking", "--disable-sync",
    "--disable-component-update", "--metrics-recording-only", "--no-proxy-server", "--window-size=1200,1400",
    "--password-store=basic", "--use-mock-keychain", "--force-color-profile=srgb",
)  # fmt: skip


def missing_reason() -> str | None:
    """Return why no browser can be used on this machine, None if one can."""
    return None if _binary() else "needs Chromium (Debian's package chromium)"


def _binary() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Browser:
    """One process with a profile of its own; a context manager."""

    def __init__(self) -> None:
        self._profile = tempfile.mkdtemp(prefix="zattredis-chromium-")
        self._ids = itertools.count(1)
        self._received = b""
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Browser:
        to_read, self._write_end = os.pipe()
        self._read_end, to_write = os.pipe()
        binary = _binary()
        assert binary is not None
        flags = [*_FLAGS, f"--user-data-dir={self._profile}", *(["--no-sandbox"] if os.getuid() == 0 else [])]
        self._output = (Path(self._profile) / "output").open("wb")
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{to_read} 4>&{to_write}', "bash", binary, *flags, "about:blank"],
            pass_fds=(to_read, to_write), stdin=subprocess.DEVNULL, stdout=self._output, stderr=self._output,
        )  # fmt: skip
        os.close(to_read)
        os.close(to_write)
        try:
            self.call("Browser.getVersion")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(AssertionError, OSError):
            self.call("Browser.close", timeout_s=10)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._output.close()
        os.close(self._write_end)
        os.close(self._read_end)
        shutil.rmtree(self._profile, ignore_errors=True)

    def call(self, method: str, session: str = "", timeout_s: float = WAIT_S, **parameters: Any) -> dict[str, Any]:
        """Return the result of a DevTools command; events that come meanwhile are kept. Raises AssertionError."""
        number = next(self._ids)
        message = {"id": number, "method": method, "params": parameters} | ({"sessionId": session} if session else {})
        os.write(self._write_end, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + timeout_s
        while True:
            found = self._read(deadline)
            if found.get("id") == number:
                assert "error" not in found, found
                result: dict[str, Any] = found["result"]
                return result
            self.events.append(found)

    def _read(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._received:
            left = deadline - time.monotonic()
            ready = select.select([self._read_end], [], [], max(0, left))[0]
            part = os.read(self._read_end, 1 << 20) if ready else b""
            assert part, f"the browser does not answer: {(Path(self._profile) / 'output').read_text()[-2000:]}"
            self._received += part
        message, _, self._received = self._received.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def page(self, **headers: str) -> Page:
        """Return a new, empty page in a context of its own; `headers` go with its requests, _ for -."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.call(f"{domain}.enable")
        if headers:
            page.call("Network.setExtraHTTPHeaders", headers={k.replace("_", "-"): v for k, v in headers.items()})
        return page


class Page:
    """One tab."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self.session = session

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.call(method, self.session, **parameters)

    def open(self, url: str) -> None:
        """Begin to load an address; `until` waits for what is to be seen there."""
        self.call("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """Return the value of a JavaScript expression, awaited if it is a promise."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, script: str, timeout_s: float = WAIT_S) -> Any:
        """Ask until the expression is true; return its value."""
        deadline = time.monotonic() + timeout_s
        while True:
            value = self.run(script)
            if value:
                return value
            if time.monotonic() > deadline:
                text = self.run("document.documentElement.innerText")
                raise AssertionError(f"not within {timeout_s:.0f} s: {script}; the page says:\n{text}")
            time.sleep(0.05)

    def text(self, selector: str) -> str:
        """Return the text of the first element that matches."""
        return str(self.run(f"document.querySelector({json.dumps(selector)}).textContent"))

    def complaints(self) -> list[str]:
        """Return what the page logged as an error: exceptions, refused resources, broken policies."""
        self.run("0")  # so that everything before it was read
        found = []
        for event in self._browser.events:
            if event.get("sessionId") != self.session:
                continue
            if event["method"] == "Runtime.exceptionThrown":
                found.append(str(event["params"]["exceptionDetails"]))
            elif event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] == "error":
                found.append(str(event["params"]["entry"]))
        return found

    def requested(self) -> list[str]:
        """Return the addresses of everything the page asked for."""
        self.run("0")
        return [
            event["params"]["request"]["url"] for event in self._browser.events
            if event.get("sessionId") == self.session and event["method"] == "Network.requestWillBeSent"
        ]  # fmt: skip

    def screenshot(self, path: Path) -> None:
        """Write a picture of the whole page."""
        import base64

        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))
