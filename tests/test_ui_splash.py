"""Whoever opens the app while it loads sees that it does, and gets in as soon as it is there."""

import http.client
import socket

from facechain.api.server import bind
from facechain.ui import splash


def _ask(listener: socket.socket) -> tuple[int, str, str]:
    link = http.client.HTTPConnection("127.0.0.1", listener.getsockname()[1], timeout=10)
    link.request("GET", "/zh/")
    answer = link.getresponse()
    return answer.status, answer.headers["Retry-After"], answer.read().decode()


def test_it_answers_until_the_app_takes_over():
    listener = bind("127.0.0.1", 0)
    with splash.shown(listener):
        for _ in range(2):
            status, again, page = _ask(listener)
            assert (status, again) == (503, "1")
            assert 'http-equiv="refresh"' in page
        # Somebody who connects and says nothing holds up nobody for long.
        silent = socket.create_connection(listener.getsockname())
        assert _ask(listener)[0] == 503
        silent.close()
    late = socket.create_connection(listener.getsockname())  # waits in line
    taken, _ = listener.accept()
    taken.close()
    late.close()
    listener.close()
