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
START_S = 240  # on a busy machine importing the packages alone can take a minute

# Put into the server's and the workers' Python: writes down every address that is not this machine's.
_SPY = """
import os, socket
_connect = socket.socket.connect
def connect(self, address):
    if self.family != socket.AF_UNIX and not str(address[0]).startswith(("127.", "::1", "localhost")):
        with open(os.environ["SPY_FILE"], "a") as file:
            file.write(repr(address) + chr(10))
    return _connect(self, address)
socket.socket.connect = connect
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


@contextlib.contextmanager
def serving(home: Path, models: Path, *options: str) -> Iterator[Server]:
    """`python webui.py` on a free port, as a person would start it, in a workspace of its own."""
    (home / "spy").mkdir(parents=True)
    (home / "spy" / "sitecustomize.py").write_text(_SPY)
    env = {
        **os.environ,
        "FACECHAIN_WORKSPACE": str(home / "workspace"),
        "FACECHAIN_MODELS": str(models),
        "FACECHAIN_OFFLINE": "1",
        "PYTHONPATH": str(home / "spy"),
        "SPY_FILE": str(home / "spied.txt"),
        "OMP_NUM_THREADS": "1",
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
    page = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, "locale": "en", **context}).new_page()
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


def bomb(side: int = 60_000) -> bytes:
    """A PNG of a few bytes that says it is huge."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body
