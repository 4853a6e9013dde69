"""A live server in a thread, and workspaces of noise for it to show."""

import contextlib
import io
import socket
import threading
import time

import numpy as np
import store_kit
import uvicorn
from PIL import Image

from facechain import bootstrap
from facechain.people.names import slug
from facechain.store.workspace import Workspace


@contextlib.contextmanager
def serving(app):
    """The address of a server for `app`, on a free port of this machine."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def fill(owner, people, portraits=0):
    """People with three photos each, and for the first so many kept portraits."""
    workspace = Workspace(bootstrap.workspace_folder(owner))
    for number, name in enumerate(people):
        workspace.save_person(slug(name), store_kit.person(name, seed=10 * number), [])
    run = workspace.new_run(slug(people[0]), "sitting")
    for number in range(portraits):
        store_kit.keep(workspace, run, store_kit.portrait(f"7-{number:04d}", (people[0],)))


def picture(side_px=64, format="PNG", seed=0):
    """The bytes of a picture of noise."""
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (side_px, side_px, 3), np.uint8)
    Image.fromarray(pixels).save(file, format)
    return file.getvalue()


def file(name="me.png", content=None):
    return (name, picture() if content is None else content, "application/octet-stream")
