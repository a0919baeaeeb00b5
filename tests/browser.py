"""A page in headless Chromium, driven over a pipe by the DevTools protocol; needs no package."""

import base64
import json
import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

#: axe-core, https://github.com/dequelabs/axe-core; `npm install --no-save axe-core` puts it there.
AXE = Path(os.environ.get("AXE_CORE", Path(__file__).parents[1] / "node_modules/axe-core/axe.min.js"))
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


class Page:
    """One open page.

    Args:
        send: writes a message to the browser.
        receive: the next message from it.
    """

    def __init__(self, send, receive):
        self._send, self._receive, self._number, self._session = send, receive, 0, None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable")
        self.errors = []
        self.call("Runtime.enable")
        self.call("Log.enable")

    def call(self, method, **parameters):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        self._send(message | ({"sessionId": self._session} if self._session else {}))
        while True:
            answer = self._receive()
            if answer.get("method") in {"Runtime.exceptionThrown", "Log.entryAdded"}:
                self.errors.append(answer["params"])
            if answer.get("method") == "Network.requestWillBeSent":
                self.errors.append(answer["params"]["request"]["url"])
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(answer["error"])
                return answer["result"]

    def open(self, file, width=1200, height=900, dark=False):
        """Load a file in a window of some width."""
        self.resize(width, height)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)
        self.call("Page.navigate", url=Path(file).resolve().as_uri())
        self.js("new Promise(done => document.readyState == 'complete' ? done() : addEventListener('load', done))")

    def resize(self, width, height=900):
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def js(self, code):
        """The value of an expression, awaited if it is a promise."""
        done = self.call("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in done:
            raise RuntimeError(done["exceptionDetails"]["exception"].get("description"))
        return done["result"].get("value")

    def pdf(self):
        """The bytes of the page as printed."""
        return base64.b64decode(self.call("Page.printToPDF", preferCSSPageSize=True)["data"])


@contextmanager
def page():
    """A page of a browser of its own, which ends with the block."""
    to_browser, from_us = os.pipe()
    from_browser, to_us = os.pipe()

    def place():
        os.dup2(to_browser, 3)
        os.dup2(to_us, 4)
        for handle in (3, 4):
            os.set_inheritable(handle, True)

    with tempfile.TemporaryDirectory(prefix="transit-browser-", ignore_cleanup_errors=True) as profile:
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run"]
        flags += ["--disable-dev-shm-usage", "--hide-scrollbars", f"--user-data-dir={profile}"]
        process = subprocess.Popen(
            [BROWSER, *flags],
            preexec_fn=place,  # noqa: PLW1509 - the pipes must have the numbers 3 and 4
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(to_us)
        buffer = b""

        def send(message):
            os.write(from_us, json.dumps(message).encode() + b"\0")

        def receive():
            nonlocal buffer
            while b"\0" not in buffer:
                more = os.read(from_browser, 1 << 20)
                if not more:
                    raise RuntimeError("the browser has ended")
                buffer += more
            text, _, buffer = buffer.partition(b"\0")
            return json.loads(text)

        try:
            yield Page(send, receive)
        finally:
            os.close(from_us)
            os.close(from_browser)
            process.kill()
            process.wait()


def violations(file, prepare=""):
    """Serious and critical findings of axe-core in a page, on a phone and a large screen, light and dark.

    Args:
        file: the page.
        prepare: JavaScript that shows what is hidden at first.
    """
    code = "axe.run(document, {resultTypes: ['violations']}).then(found => found.violations.map(one => ({"
    code += "impact: one.impact, id: one.id, html: one.nodes.map(node => node.html)})))"
    found = []
    with page() as shown:
        for width in (390, 1280):
            for dark in (False, True):
                shown.open(file, width, dark=dark)
                shown.js(f"{prepare};{AXE.read_text()};1")
                assert shown.js("document.documentElement.scrollWidth") <= width
                found += [one for one in shown.js(code) if one["impact"] in {"serious", "critical"}]
        assert shown.errors == []
    return found
