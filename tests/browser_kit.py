"""A server of our own and a browser to drive it, for the browser tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
SHOTS = ROOT / "out" / "browser"  # screenshots of the last run, to be looked at
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")
WIDE = {"width": 1280, "height": 900}
START_S = 240  # on a busy machine importing the packages alone can take a minute

# Put into the server's and the workers' Python: writes down every address that is not this machine's, and every name
# that is looked up, as where there is no network nobody gets further than that.
_SPY = """
import os, socket
def note(host):
    host = host.decode() if isinstance(host, bytes) else str(host or "")
    if host and not host.startswith(("127.", "::1", "localhost", "0.0.0.0")):
        with open(os.environ["SPY_FILE"], "a") as file:
            file.write(host + chr(10))
def spied(real, host):
    def asked(*given, **named):
        note(host(*given, **named))
        return real(*given, **named)
    return asked
def of_socket(self, *given):
    return "" if self.family == getattr(socket, "AF_UNIX", None) else given[-1][0]
for name in ("connect", "connect_ex", "sendto"):
    setattr(socket.socket, name, spied(getattr(socket.socket, name), of_socket))
for name in ("getaddrinfo", "gethostbyname"):
    setattr(socket, name, spied(getattr(socket, name), lambda host="", *_, **__: host))
"""


class Server:
    def __init__(self, url: str, home: Path) -> None:
        self.url, self.home, self.asked = url, home, []  # asked: addresses the browser wanted

    @property
    def workspace(self) -> Path:
        return self.home / "workspace"

    def strangers(self) -> list[str]:
        """What the pages, the server or its workers asked of other machines."""
        own = urlsplit(self.url).netloc
        left = [url for url in self.asked if urlsplit(url).netloc not in ("", own)]
        spied = self.home / "spied.txt"
        return left + (spied.read_text().splitlines() if spied.exists() else [])


def spying(home: Path) -> dict[str, str]:
    """An environment whose Pythons write down whom they ask."""
    (home / "spy").mkdir(parents=True, exist_ok=True)
    (home / "spy" / "sitecustomize.py").write_text(_SPY)
    return {**os.environ, "PYTHONPATH": str(home / "spy"), "SPY_FILE": str(home / "spied.txt")}


@contextlib.contextmanager
def serving(home: Path, models: Path, *options: str, **more: str) -> Iterator[Server]:
    """`python webui.py` on a free port, as a person would start it, in a workspace of its own.

    `more` is put into its environment. It may use the network, for then it shows whether it wants to.
    """
    env = spying(home) | {
        "FACECHAIN_WORKSPACE": str(home / "workspace"),
        "FACECHAIN_MODELS": str(models),
        "OMP_NUM_THREADS": "1",
        **more,
    }
    command = [sys.executable, str(ROOT / "webui.py"), "--port", "0", *options]
    child = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert child.stdout
    said: list[str] = []
    found = threading.Event()

    def listen() -> None:
        for line in child.stdout or ():
            said.append(line)
            if "FaceChain is at" in line:
                found.set()
        found.set()

    threading.Thread(target=listen, daemon=True).start()
    try:
        assert found.wait(START_S), "the server says nothing"
        line = next((line for line in said if "FaceChain is at" in line), None)
        assert line, "".join(said)
        yield Server(line.split()[3], home)
    finally:
        child.terminate()
        try:
            child.wait(60)
        except subprocess.TimeoutExpired:
            child.kill()
        (SHOTS / "server.log").parent.mkdir(parents=True, exist_ok=True)
        (SHOTS / "server.log").write_text("".join(said))


@contextlib.contextmanager
def browsing() -> Iterator:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        )
        yield browser
        browser.close()


def visit(browser, server: Server, path: str = "/", **context):
    """A page of its own, as another person's browser would have."""
    page = browser.new_context(**{"viewport": WIDE, "locale": "en", **context}).new_page()
    page.set_default_timeout(120_000)
    page.on("request", lambda request: server.asked.append(request.url))
    page.on("console", lambda said: _strict(said.text) if said.type == "error" else None)
    page.faults = []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(server.url + path)
    return page


def _strict(said: str) -> None:
    """A blocked request would be one that wanted to leave."""
    assert "Content Security Policy" not in said, said


def shot(page, name: str) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=str(SHOTS / f"{name}.png"), full_page=True)


def tab(page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


# Every text that is too faint to be read: less than 4.5 to 1 against its ground (WCAG 2.2, AA).
FAINT = """() => {
  const dot = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true })
  const rgba = (colour) => {
    dot.clearRect(0, 0, 1, 1)
    dot.fillStyle = colour
    dot.fillRect(0, 0, 1, 1)
    const [r, g, b, a] = dot.getImageData(0, 0, 1, 1).data
    return [r, g, b, a / 255]
  }
  const over = (top, below) => [0, 1, 2].map((n) => top[n] * top[3] + below[n] * (1 - top[3]))
  const bright = (colour) => {
    const [r, g, b] = colour.map((v) => v / 255).map((v) => (v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4))
    return .2126 * r + .7152 * g + .0722 * b
  }
  const ground = (e) => {
    const layers = []
    for (; e; e = e.parentElement) {
      layers.unshift(rgba(getComputedStyle(e).backgroundColor))
      if (layers[0][3] === 1) break
    }
    return layers.reduce((below, top) => over(top, below), [255, 255, 255])
  }
  const found = new Set()
  const look = (e, colour, text) => {
    const below = ground(e)
    const [a, b] = [bright(over(rgba(colour), below)), bright(below)].sort((x, y) => y - x)
    const ratio = (a + .05) / (b + .05)
    if (ratio < 4.5) found.add(`${ratio.toFixed(1)}: ${text.slice(0, 40)}`)
  }
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  while (texts.nextNode()) {
    const text = texts.currentNode.textContent.trim(), e = texts.currentNode.parentElement
    if (!text || !e.getClientRects().length || ['SCRIPT', 'STYLE'].includes(e.tagName)) continue
    if (e.checkVisibility({ visibilityProperty: true, opacityProperty: true })) look(e, getComputedStyle(e).color, text)
  }
  for (const e of document.querySelectorAll('[placeholder]')) {
    if (e.checkVisibility() && !e.value) look(e, getComputedStyle(e, '::placeholder').color, e.placeholder)
  }
  return [...found]
}"""


def bomb(side: int = 60_000) -> bytes:
    """A PNG of a few bytes that says it is huge."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body
