"""A headless Chromium, driven through a pipe by its own protocol, so that tests need no further package."""

import base64
import json
import os
import shutil
import subprocess
import sys
import time

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
START = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3]]
for end, number in zip(ends, (3, 4)):
    os.dup2(end, number)
os.execv(sys.argv[3], sys.argv[3:])
"""
SECONDS = 60  # for an answer, on a machine that is busy with other tests


def find_browser():
    """The path of an installed Chromium, else None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page. Every mouse move and key is a real one, as the browser sees it."""

    def __init__(self, folder):
        read_commands, self.to_browser = os.pipe()
        self.from_browser, write_answers = os.pipe()
        command = [find_browser(), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        command += ["--remote-debugging-pipe", f"--user-data-dir={folder}", "about:blank"]
        # The browser reads its file descriptor 3 and writes to 4, which these may be the other way round.
        start = [sys.executable, "-c", START, str(read_commands), str(write_answers), *command]
        self.process = subprocess.Popen(
            start, pass_fds=(read_commands, write_answers), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(read_commands)
        os.close(write_answers)
        os.set_blocking(self.from_browser, False)
        self.received, self.count, self.session, self.events = b"", 0, None, []
        (page,) = [t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page"]
        attached = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.to_browser)
        os.close(self.from_browser)

    def _message(self):
        end = time.monotonic() + SECONDS
        while b"\0" not in self.received:
            try:
                piece = os.read(self.from_browser, 1 << 16)
            except BlockingIOError:
                piece = None
            if piece == b"":
                raise RuntimeError("the browser has ended")
            if piece:
                self.received += piece
            elif time.monotonic() > end:
                raise TimeoutError(f"the browser said nothing for {SECONDS} s")
            else:
                time.sleep(0.01)
        message, _, self.received = self.received.partition(b"\0")
        return json.loads(message)

    def call(self, method, **parameters):
        """The answer to one command; what else the browser tells is put into ``events``."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to_browser, json.dumps(message).encode() + b"\0")
        while (answer := self._message()).get("id") != self.count:
            self.events.append(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def wait(self, event):
        while not any(seen["method"] == event for seen in self.events):
            self.events.append(self._message())

    def open(self, path):
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        self.wait("Page.loadEventFired")

    def js(self, expression):
        """The value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"]["description"])
        return answer["result"].get("value")

    def move(self, selector, index):
        """The mouse to the middle of the index-th element."""
        place = f"document.querySelectorAll({json.dumps(selector)})[{index}]"
        self.js(f"{place}.scrollIntoView({{block: 'center'}})")
        box = self.js(
            f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])({place}.getBoundingClientRect())"
        )
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=box[0], y=box[1])

    def key(self, name):
        codes = {"Tab": 9, "ArrowLeft": 37, "ArrowRight": 39, "Home": 36, "End": 35}
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=codes[name])

    def colours(self, scheme):
        """scheme: "light" or "dark"."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def screenshot(self, path, width=1100, height=900):
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))
