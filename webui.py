"""Opens the browser app: python webui.py, then http://127.0.0.1:7860. Also the entry of a hosted Space."""

from __future__ import annotations

import argparse
import sys


def main() -> int:
    parser = argparse.ArgumentParser(description="FaceChain in a browser, on this machine only.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at; others' machines need --auth")
    parser.add_argument("--port", type=int, default=7860, help="0 takes any that is free")
    parser.add_argument("--name", action="append", default=[], help="a host name the server is reached by")
    parser.add_argument("--auth", action="store_true", help="every user signs in; see `facechain users add`")
    parser.add_argument("--no-workers", action="store_true", help="start none; run `facechain jobs work` by hand")
    asked = parser.parse_args()

    from facechain import disk
    from facechain.errors import FaceChainError
    from facechain.ui import serve

    disk.keep_private()
    try:
        serve.run(
            host=asked.host,
            port=asked.port,
            names=tuple(asked.name),
            auth=asked.auth,
            workers=not asked.no_workers,
            say=lambda line: print(line, flush=True),
        )
    except FaceChainError as error:
        print(f"{error.what} {error.next_step}".strip(), file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
