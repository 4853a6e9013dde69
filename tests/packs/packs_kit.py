"""A small hub on this machine, and archives made on the spot."""

import hashlib
import io
import re
import tarfile
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from facechain.packs import Licence, Pack, PackFile

LICENCE = Licence(name="MIT", url="https://example.org", commercial="yes")
DATA = bytes(range(256)) * 4096  # 1 MiB


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def pack(*sources, data: bytes = DATA, id: str = "tiny", path: str = "a.bin", unverified: bool = False) -> Pack:
    """One file, whose promised bytes are `data`."""
    file = (
        PackFile(path=path, unverified=True) if unverified else PackFile(path=path, sha256=sha(data), bytes=len(data))
    )
    return Pack(id=id, title="A model", role="r", family="f", licence=LICENCE, files=(file,), sources=sources)


class Hub:
    """Serves `files` by URL path; can cut, slow down, redirect, or not know Range."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.asked: list[tuple[str, str, str]] = []  # path, Range, Authorization
        self.cut_after_bytes: int | None = None  # hang up once after that many
        self.ranges = True
        self.pause_seconds = 0.0  # between pieces of 64 KiB
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                hub.answer(self)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range", "")
        self.asked.append((request.path, wanted, request.headers.get("Authorization", "")))
        if request.path in self.redirects:
            request.send_response(302)
            request.send_header("Location", self.redirects[request.path])
            request.end_headers()
            return
        data = self.files.get(request.path)
        if data is None:
            request.send_error(404)
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and self.ranges else 0
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(len(data) - start))
        request.end_headers()
        cut, self.cut_after_bytes = self.cut_after_bytes, None
        body = data[start : None if cut is None else start + cut]
        try:
            for at in range(0, len(body), 1 << 16):
                request.wfile.write(body[at : at + (1 << 16)])
                time.sleep(self.pause_seconds)
        except OSError:  # the other side was killed
            pass


@pytest.fixture
def hub(monkeypatch):
    hub = Hub()
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("facechain.packs.http.sleep", lambda seconds: None)
    yield hub
    hub.server.shutdown()
    hub.server.server_close()


@pytest.fixture
def wheels(tmp_path, monkeypatch) -> Path:
    """A folder which is all that pip knows."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def wheel(folder: Path, members: dict[str, bytes], name: str = "tiny_model", version: str = "1.0") -> Path:
    info = f"{name}-{version}.dist-info"
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as file:
        for member, data in members.items():
            file.writestr(member, data)
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", "")
    return path


BACKEND = """
import os, pathlib
pathlib.Path(os.environ["SETUP_RAN"]).write_text("yes")
def prepare_metadata_for_build_wheel(folder, config_settings=None):
    info = pathlib.Path(folder, "tiny_model-1.0.dist-info")
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\\nName: tiny_model\\nVersion: 1.0\\n")
    return info.name
"""


def tarball(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as file:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


def sdist(folder: Path, members: dict[str, bytes]) -> Path:
    """One that leaves a trace where $SETUP_RAN says if any of its code runs."""
    project = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    root = "tiny_model-1.0"
    own = {
        f"{root}/pyproject.toml": project.encode(),
        f"{root}/backend.py": BACKEND.encode(),
        f"{root}/PKG-INFO": b"Metadata-Version: 2.1\nName: tiny_model\nVersion: 1.0\n",
    }
    return tarball(folder / f"{root}.tar.gz", {**own, **{f"{root}/{name}": data for name, data in members.items()}})
