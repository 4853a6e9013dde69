"""Who does what on a cluster, and what becomes of it when workers die; Ray itself is played by a stand-in.

The same with Ray, two nodes and a real kill is `scripts/bench_batch`, and among the slow tests.
"""

import io
import sys
from types import ModuleType, SimpleNamespace

import pytest
from test_batch import Painter, orders, run

from facechain.errors import FaceChainError
from facechain.jobs import cluster
from facechain.protocols import silent
from facechain.store.workspace import Workspace


class RayError(Exception):
    pass


class RayTaskError(RayError):
    @property
    def cause(self):
        return self.__cause__


class Call:
    """Made by an actor when somebody asks for its answer."""

    def __init__(self, actor, name, arguments):
        self.actor, self.name, self.arguments = actor, name, arguments

    def answer(self):
        if self.name == "shoot" and not self.actor.dead:
            self.actor.dead = self.actor.ray.before(self.actor.node, self.arguments[1]) == "dies"
        if self.actor.dead or self.actor.node not in self.actor.ray.alive:
            self.actor.dead = True
            raise RayError("the actor died")
        return getattr(self.actor.hand, self.name)(*self.arguments)


class Actor:
    def __init__(self, ray, hand, node):
        self.ray, self.hand, self.node, self.dead = ray, hand, node, False

    def __getattr__(self, name):
        def remote(*arguments):
            call = Call(self, name, arguments)
            if name == "forget":  # nobody waits for its answer
                call.answer()
            return call

        return SimpleNamespace(remote=remote)


class Ray:
    """Nodes by id with what they have; `before` hears of every call, node and shots, and may say that it "dies"."""

    def __init__(self, **alive):
        self.alive, self.before = alive, lambda node, indexes: None
        self.put = lambda value: value
        self.get = lambda call: call.answer()

    def nodes(self):
        return [{"NodeID": id, "Alive": True, "Resources": has} for id, has in self.alive.items()]

    def remote(self, kind):
        def options(scheduling_strategy, **_):
            return SimpleNamespace(remote=lambda *given: Actor(self, kind(*given), scheduling_strategy))

        return SimpleNamespace(options=options)

    def wait(self, calls, num_returns, timeout):
        if all(call.name == "close" for call in calls):
            for call in calls:
                call.actor.hand.close()
        return calls[:num_returns], calls[num_returns:]


@pytest.fixture(autouse=True)
def _modules(monkeypatch):
    exceptions, strategies = ModuleType("ray.exceptions"), ModuleType("ray.util.scheduling_strategies")
    vars(exceptions).update(RayError=RayError, RayTaskError=RayTaskError)
    vars(strategies)["NodeAffinitySchedulingStrategy"] = lambda node, soft: node
    for module in (exceptions, strategies, ModuleType("ray"), ModuleType("ray.util")):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setenv("FACECHAIN_THREADS", "1")


FORGOTTEN: list[str] = []  # by workers


class Lent(Painter):
    """The studio of a worker: it has nobody but whom it is lent."""

    def __init__(self, folder):
        super().__init__(folder, names=())

    def borrow(self, name, lent):
        self.tools.workspace.import_person(
            io.BytesIO(lent), slug_of=str.lower, check=lambda person: None, trusted=lambda signer: True
        )

    def forget(self, name):
        self.tools.workspace.forget(name.lower())
        FORGOTTEN.append(name)

    def prepare(self, request, template=None, format="png", tick=silent):
        for name in request.people:
            self.person(name)
        return super().prepare(request, template, format, tick)


@pytest.fixture
def make(tmp_path):
    """Makes a table's batch on a cluster; returns its outcomes, what was said, and the pictures."""

    def call(ray, text="people,count\nAda;Bob,8\n", workers=0, studio=Lent):
        ours, said = Painter(tmp_path / "workspace"), []
        lend = ours.tools.workspace.export_person
        crew = cluster._Crew(
            ray,
            studio,
            lambda name: b"".join(lend(name.lower())),
            lambda name: ours.tools.workspace.has(name.lower()),
            workers,
            said.append,
        )
        try:
            outcomes = run(ours, orders(tmp_path, text), tmp_path, crew.shoot)
        finally:
            crew.dismiss()
        made = sorted((kept.slug, kept.id.split("-")[1]) for kept in ours.tools.workspace.portraits())
        assert ours.painted == []
        return outcomes, said, made

    return call


ALL = sorted((name, f"{index:04d}") for name in ("ada", "bob") for index in range(8))


def test_whom_the_workspace_forgets_its_workers_forget(make, tmp_path):
    ray, workspace = Ray(one={"CPU": 2}), Workspace(tmp_path / "workspace")
    FORGOTTEN.clear()

    def before(node, indexes):
        if workspace.has("ada"):
            workspace.forget("ada")

    ray.before = before
    outcomes, _, made = make(ray, "people,count\nAda,8\nBob,4\n")
    assert FORGOTTEN == ["Ada"]
    assert [(outcome.people, outcome.made) for outcome in outcomes] == [("Ada", 0), ("Bob", 4)]
    assert {slug for slug, _ in made} == {"bob"}


def test_two_nodes_share_a_batch(make):
    ray, did = Ray(one={"CPU": 1}, two={"CPU": 1}), []
    ray.before = lambda node, indexes: did.append(node)
    outcomes, said, made = make(ray)
    assert made == ALL
    assert [(o.made, o.missed) for o in outcomes] == [(8, 0)] * 2
    assert set(did) == {"one", "two"}
    assert said == []


def test_a_node_that_dies_half_way_loses_and_doubles_nothing(make):
    ray, calls = Ray(one={"CPU": 1}, two={"CPU": 1}), []

    def before(node, indexes):
        calls.append(node)
        if len(calls) == 2:
            del ray.alive["two"]

    ray.before = before
    outcomes, said, made = make(ray)
    assert made == ALL
    assert [(o.made, o.missed, o.why) for o in outcomes] == [(8, 0, "")] * 2
    assert "others do its work" in said[0]


def test_a_shot_that_kills_whoever_paints_it_is_given_up_and_the_rest_is_done(make):
    ray = Ray(one={"CPU": 1}, two={"CPU": 1})

    def before(node, indexes):
        return "dies" if 5 in indexes else ""

    ray.before = before
    outcomes, _, made = make(ray, "people,count\nAda,8\n", workers=4)
    assert [id for _, id in made] == ["0000", "0001", "0002", "0003", "0006", "0007"]  # 4 goes along with 5
    assert (outcomes[0].made, outcomes[0].missed) == (6, 2)
    assert "died 3 times" in outcomes[0].why


def test_without_anybody_left_it_says_how_to_go_on_and_does(make):
    ray, calls = Ray(one={"CPU": 1}), []

    def before(node, indexes):
        calls.append(node)
        if len(calls) == 2:
            ray.alive.clear()

    ray.before = before
    with pytest.raises(FaceChainError, match="Run the same command again"):
        make(ray)
    outcomes, _, made = make(Ray(one={"CPU": 1}))
    assert made == ALL
    assert [(o.made, o.missed) for o in outcomes] == [(8, 0)] * 2


def test_what_a_worker_cannot_do_is_its_orders_own_trouble(make):
    class Broken(Lent):
        def shoot(self, sitting, indexes):
            if sitting.request.people == ("Ada",):
                raise FaceChainError("The paint ran out.", "Buy some.")
            return super().shoot(sitting, indexes)

    outcomes, said, made = make(Ray(one={"CPU": 1}), studio=Broken)
    assert [(o.made, o.missed) for o in outcomes] == [(0, 8), (8, 0)]
    assert "The paint ran out. Buy some." in outcomes[0].why
    assert (said, {slug for slug, _ in made}) == ([], {"bob"})


@pytest.mark.parametrize(
    ("nodes", "workers", "rooms"),
    [
        ({"a": {"CPU": 8}}, 0, [("a", 0.0, 8)]),
        ({"a": {"CPU": 8}}, 2, [("a", 0.0, 4), ("a", 0.0, 4)]),
        ({"a": {"CPU": 8, "GPU": 2}, "b": {"CPU": 4}}, 0, [("a", 1.0, 4), ("b", 0.0, 4), ("a", 1.0, 4)]),
        ({"a": {"CPU": 8, "GPU": 2}, "b": {"CPU": 4}}, 1, [("a", 1.0, 4)]),
        ({"a": {"CPU": 2}, "b": {"CPU": 2}}, 3, [("a", 0.0, 1), ("b", 0.0, 2), ("a", 0.0, 1)]),
    ],
)
def test_a_worker_a_device_or_as_many_as_asked_for(nodes, workers, rooms):
    crew = cluster._Crew(Ray(**nodes), Lent, lambda name: b"", lambda name: True, workers, lambda line: None)
    assert [(place.node, place.gpus, place.threads) for place in crew._places()] == rooms
