"""Watching jobs costs one look at the records now and then, not one a watcher."""

import asyncio
from types import SimpleNamespace

import pytest

from facechain.api import lookout
from facechain.api.lookout import Lookout


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(lookout, "LOOK_S", 0.02)


class Records:
    """Jobs of the ids "0" to "49"; their `seen` is the number of the look."""

    def __init__(self):
        self.asked, self.gone = [], set()

    def find(self, ids):
        self.asked.append(set(ids))
        return {id: SimpleNamespace(seen=len(self.asked)) for id in ids if id not in self.gone}


def test_one_look_serves_everybody():
    records = Records()

    async def watch(out, id):
        with out.watching(id) as look:
            return [(await look()).seen for _ in range(5)]

    async def run():
        out = Lookout(records.find)
        return await asyncio.gather(*(watch(out, str(number)) for number in range(50)))

    assert asyncio.run(run()) == [[1, 2, 3, 4, 5]] * 50
    assert records.asked == [{str(number) for number in range(50)}] * 5


def test_what_is_no_longer_watched_is_not_looked_for():
    records = Records()

    async def run():
        out = Lookout(records.find)
        with out.watching("1") as one, out.watching("1") as same:
            with out.watching("2") as two:
                await asyncio.gather(one(), same(), two())
            await one()

    asyncio.run(run())
    assert records.asked == [{"1", "2"}, {"1"}]


def test_a_job_that_was_forgotten_is_none():
    records = Records()
    records.gone = {"1"}

    async def run():
        with Lookout(records.find).watching("1") as look:
            return await look()

    assert asyncio.run(run()) is None


def test_who_leaves_takes_nobody_along():
    async def run():
        out = Lookout(Records().find)
        with out.watching("1") as one, out.watching("2") as two:
            leaving = asyncio.create_task(one())
            staying = asyncio.create_task(two())
            await asyncio.sleep(0)
            leaving.cancel()
            return (await staying).seen

    assert asyncio.run(run()) == 1


def test_who_comes_while_a_look_is_under_way_waits_for_the_next():
    records, out = Records(), []

    async def run():
        watched = Lookout(lambda ids: out.append(loop.call_soon_threadsafe(come, watched)) or records.find(ids))
        loop, late = asyncio.get_running_loop(), []

        def come(watched):
            if not late:
                late.append(loop.create_task(second(watched)))

        async def second(watched):
            with watched.watching("2") as look:
                return (await look()).seen

        with watched.watching("1") as look:
            await look()
            return await late[0]

    assert asyncio.run(run()) == 2
