"""Slow clients and too many of them, on a loop whose clock the test moves."""

import h11
import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from facechain.api.connections import CLIENT_TIMEOUT_S, Connection

HEAD, UPLOAD = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n"


class Loop:
    """Timers run when `wait` passes them; requests are begun and never done."""

    def __init__(self):
        self.now, self.timers = 0.0, []

    def time(self):
        return self.now

    def call_later(self, delay_s, callback):
        timer = Timer(self.now + delay_s, callback)
        self.timers.append(timer)
        return timer

    def create_task(self, coroutine, **_):
        coroutine.close()
        return Timer(0, None)

    def wait(self, seconds):
        self.now += seconds
        for timer in [t for t in self.timers if t.at <= self.now]:
            self.timers.remove(timer)
            if not timer.cancelled:
                timer.callback()


class Timer:
    def __init__(self, at, callback):
        self.at, self.callback, self.cancelled = at, callback, False

    def cancel(self):
        self.cancelled = True

    def add_done_callback(self, callback):
        pass


class Transport:
    cut = False

    def abort(self):
        self.cut = True

    close = abort

    def is_closing(self):
        return self.cut

    def get_extra_info(self, name):
        return None

    def pause_reading(self):
        pass

    resume_reading = pause_reading


@pytest.fixture
def connect():
    async def app(scope, receive, send):
        raise AssertionError

    config, state, loop = Config(app, log_config=None), ServerState(), Loop()
    config.load()

    def connection():
        made = Connection(config, state, {}, loop)
        made.connection_made(Transport())
        return made, loop

    return connection


def _trickle(connection, loop, data, every_s=CLIENT_TIMEOUT_S / 4):
    for step in data:
        loop.wait(every_s)
        if not connection.transport.cut:
            connection.data_received(step)


@pytest.mark.parametrize(
    ("first", "then", "cut"),
    [
        (b"", [], True),
        (b"", [bytes([byte]) for byte in HEAD], True),
        (UPLOAD, [], True),
        (UPLOAD, [b"x"] * 10, True),
        (UPLOAD, [b"x" * 10_000] * 10, False),
        (HEAD, [], False),
    ],
    ids=["no head", "a byte of a head at a time", "no body", "a byte of a body at a time", "an upload", "a long job"],
)
def test_a_client_that_keeps_the_server_waiting_is_cut_off(connect, first, then, cut):
    connection, loop = connect()
    if first:
        connection.data_received(first)
    _trickle(connection, loop, then)
    if not then:
        loop.wait(CLIENT_TIMEOUT_S)
    assert connection.transport.cut == cut


def test_a_second_head_must_come_in_time_too(connect):
    connection, loop = connect()
    connection.data_received(HEAD)
    loop.wait(10 * CLIENT_TIMEOUT_S)
    assert not connection.transport.cut
    connection.conn.send(h11.Response(status_code=204, headers=[]))
    connection.conn.send(h11.EndOfMessage())
    connection.on_response_complete()
    connection.data_received(b"G")
    loop.wait(CLIENT_TIMEOUT_S)
    assert connection.transport.cut


def test_a_client_that_does_not_read_its_answer_is_cut_off(connect):
    connection, loop = connect()
    connection.data_received(HEAD)
    connection.pause_writing()
    loop.wait(CLIENT_TIMEOUT_S)
    assert connection.transport.cut


def test_a_client_does_not_pay_for_a_slow_server(connect):
    connection, loop = connect()
    connection.data_received(UPLOAD + b"x" * 100_000)  # more than is kept before the application reads
    for _ in range(3):
        loop.wait(CLIENT_TIMEOUT_S)
    assert not connection.transport.cut
    connection.flow.resume_reading()
    loop.wait(CLIENT_TIMEOUT_S)
    loop.wait(CLIENT_TIMEOUT_S)
    assert connection.transport.cut


def test_too_many_connections_cost_the_idlest(connect, monkeypatch):
    monkeypatch.setattr(Connection, "most", 3)
    made = []
    for _ in range(5):
        made.append(connect()[0])
        made[-1].loop.wait(1)
        if len(made) == 1:
            made[0].data_received(HEAD)
    assert [connection.transport.cut for connection in made] == [False, True, True, False, False]
    assert len(made[0].connections) == 3
