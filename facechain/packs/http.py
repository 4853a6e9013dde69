"""Plain downloads that go on where they stopped."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from pathlib import Path
from time import sleep

from facechain import __version__
from facechain.packs.errors import SourceFailed, Unreachable
from facechain.protocols import Tick

TIMEOUT_SECONDS = 30
ATTEMPTS = 4  # in a row without a new byte
READ_BYTES = 1 << 16


class _Dropped(Exception):
    """Worth another try."""


def download(url: str, into: Path, *, expected_bytes: int, stage: str, tick: Tick, token: str = "") -> None:
    """Appends to `into` until it is whole; what is there already is not asked for again.

    `expected_bytes` 0 means not known. Raises Unreachable at once when nobody answers, SourceFailed when the
    server says no or keeps hanging up.
    """
    tries = 0
    while True:
        before = _size(into)
        try:
            return _go_on(url, into, expected_bytes, stage, tick, token)
        except _Dropped as dropped:
            tries = 1 if _size(into) > before else tries + 1
            if tries >= ATTEMPTS:
                raise SourceFailed(f"{url}: {dropped}") from dropped
            for _ in range(5 * 2 ** (tries - 1)):
                tick(stage, _size(into), expected_bytes)  # so that a pause can be cancelled
                sleep(0.1)


def _go_on(url: str, into: Path, expected_bytes: int, stage: str, tick: Tick, token: str) -> None:
    have = _size(into)
    if expected_bytes and have >= expected_bytes:
        if have == expected_bytes:
            return
        into.unlink()
        have = 0
    with _open(url, have, token, into) as response:
        if response.status != 206:
            have = 0  # the server does not resume
        left = int(response.headers.get("Content-Length") or 0)
        total = expected_bytes or (have + left if left else 0)
        with into.open("ab" if have else "wb") as out:
            while chunk := _read(response):
                out.write(chunk)
                have += len(chunk)
                if expected_bytes and have > expected_bytes:
                    raise SourceFailed(f"{url} is longer than the {expected_bytes} bytes expected")
                tick(stage, have, total)
    if have < total:
        raise _Dropped(f"the connection ended after {have} of {total} bytes")


def _open(url: str, have: int, token: str, into: Path) -> http.client.HTTPResponse:
    request = urllib.request.Request(url, headers={"User-Agent": f"facechain/{__version__}"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    if token:
        request.add_unredirected_header("Authorization", f"Bearer {token}")  # not for the storage behind the hub
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # what we hold is not a beginning of that file
            into.unlink(missing_ok=True)
        if error.code in (408, 416, 429) or error.code >= 500:
            raise _Dropped(f"the server answered {error.code}") from error
        if error.code in (401, 403):
            raise SourceFailed(f"{url} is refused ({error.code}); accept its terms and set HF_TOKEN") from error
        raise SourceFailed(f"{url} answered {error.code}") from error
    except urllib.error.URLError as error:
        raise Unreachable(f"{request.host} cannot be reached: {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _Dropped(str(error) or type(error).__name__) from error
    except ValueError as error:
        raise SourceFailed(f"{url} is not an address") from error


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(READ_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise _Dropped(str(error) or type(error).__name__) from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
