"""A model as data: what it is, what it may be used for, which bytes it is and where those may come from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, TypeAlias

from facechain.config import build, read_toml
from facechain.errors import ConfigError

COMMERCIAL = ("no", "ask", "yes")  # from least to most free
_ID = re.compile(r"[a-z0-9][a-z0-9_-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_REVISION = re.compile(r"[0-9a-f]{40}")
_REPO = re.compile(r"[\w.-]+/[\w.-]+")
_PYPI_NAME = re.compile(r"[A-Za-z0-9]([\w.-]*[A-Za-z0-9])?")
_NPM_NAME = re.compile(r"(@[a-z0-9][\w.-]*/)?[a-z0-9][\w.-]*")
_VERSION = re.compile(r"[0-9][0-9A-Za-z.+!-]*")


@dataclass(frozen=True, kw_only=True)
class Licence:
    """Of the weights or pictures themselves, which is not always that of the package carrying them."""

    name: str
    url: str
    commercial: str  # "yes", "no" or "ask"
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class PackFile:
    """One file under models/<pack id>/."""

    path: str
    sha256: str = ""  # 64 hex digits; may be left out only together with `unverified`
    bytes: int = 0  # 0: not known
    about_bytes: int = 0  # as others tell, to show what a download costs; never checked
    unverified: bool = False  # nobody here has seen these bytes: the first download decides, and is shown as such


@dataclass(frozen=True, kw_only=True)
class HubSource:
    """Single files of a model hub repository, at one commit."""

    kind: ClassVar[str] = "hub"
    repo: str
    revision: str  # 40 hex digits
    members: Mapping[str, str]  # file path → path in the repository

    @property
    def label(self) -> str:
        return f"hub {self.repo}@{self.revision[:8]}"


@dataclass(frozen=True, kw_only=True)
class GithubSource:
    """Single files of a public GitHub repository, at one commit."""

    kind: ClassVar[str] = "github"
    repo: str
    revision: str  # 40 hex digits
    members: Mapping[str, str]  # file path → path in the repository

    @property
    def label(self) -> str:
        return f"github {self.repo}@{self.revision[:8]}"


@dataclass(frozen=True, kw_only=True)
class PypiSource:
    """Members of one Python package archive, downloaded by pip but never installed."""

    kind: ClassVar[str] = "pypi"
    name: str
    version: str
    archive: str  # "wheel" or "sdist"
    sha256: str  # of the archive
    bytes: int  # of the archive
    members: Mapping[str, str]  # file path → name inside the archive
    tag: str = ""  # e.g. "cp311-cp311-manylinux_2_28_x86_64": take this build wherever we run

    @property
    def label(self) -> str:
        return f"pypi {self.name} {self.version}"


@dataclass(frozen=True, kw_only=True)
class NpmSource:
    """Members of one npm package archive."""

    kind: ClassVar[str] = "npm"
    name: str
    version: str
    sha256: str  # of the archive
    bytes: int  # of the archive
    members: Mapping[str, str]  # file path → name inside the archive

    @property
    def label(self) -> str:
        return f"npm {self.name} {self.version}"


@dataclass(frozen=True, kw_only=True)
class LocalSource:
    """A folder of this machine; `~` and `$NAME` are filled in."""

    kind: ClassVar[str] = "local"
    folder: str
    members: Mapping[str, str]  # file path → path below the folder

    @property
    def label(self) -> str:
        return f"folder {self.folder}"


Source: TypeAlias = HubSource | GithubSource | PypiSource | NpmSource | LocalSource
SOURCES = {cls.kind: cls for cls in (HubSource, GithubSource, PypiSource, NpmSource, LocalSource)}


@dataclass(frozen=True, kw_only=True)
class Pack:
    """One manifest; sources are tried in their order."""

    id: str
    title: str
    role: str  # what it does here: detector, recogniser, landmarks, photos …
    family: str  # model family, or where the pictures come from
    licence: Licence
    files: tuple[PackFile, ...]
    sources: tuple[Source, ...]
    note: str = ""
    home: Path | None = None  # where the files lie when the pack comes with the program

    @property
    def opt_in(self) -> bool:
        """Not free for commercial use, so never fetched unless asked for by name."""
        return self.licence.commercial == "no"

    @property
    def bytes(self) -> int:
        return sum(file.bytes or file.about_bytes for file in self.files)

    @property
    def sized(self) -> bool:
        """Of every file it is known, at least roughly, how large it is."""
        return all(file.bytes or file.about_bytes for file in self.files)

    def file(self, path: str) -> PackFile | None:
        return next((file for file in self.files if file.path == path), None)


def read_pack(path: Path) -> Pack:
    """The manifest of the pack named by the file's stem. Raises ConfigError saying what is wrong with it.

    With `shipped = true` the files lie in the folder of the pack's name beside the manifest, and need no source.
    """
    values = read_toml(path)
    where = path.name
    for key in ("id", "home"):
        if key in values:
            raise ConfigError(f"{where} has the key {key!r}.", "Remove it: a pack is named by its file.")
    shipped, listed = values.pop("shipped", False), values.get("sources", [])
    if not isinstance(shipped, bool):
        raise ConfigError(f"{where}: shipped is {shipped!r}.", "Expected true or false.")
    if not isinstance(listed, list) or bool(listed) == shipped:
        what = "lists sources though it is shipped" if shipped else "lists no sources"
        raise ConfigError(f"{where} {what}.", "Add a [[sources]] table, or shipped = true.")
    sources = tuple(_source(item, f"{where}: sources[{i}]") for i, item in enumerate(listed))
    made = build(Pack, {**values, "id": path.stem, "sources": []}, where)
    pack = replace(made, sources=sources, home=path.with_suffix("").absolute() if shipped else None)
    _check(pack, where)
    return pack


def read_packs(folder: Path) -> dict[str, Pack]:
    """Every manifest of a folder by id, in the order of their names."""
    return {pack.id: pack for pack in map(read_pack, sorted(folder.glob("*.toml")))}


def _source(values: Any, where: str) -> Source:
    kind = values.get("kind") if isinstance(values, Mapping) else None
    if kind not in SOURCES:
        raise ConfigError(f"{where} is of kind {kind!r}.", f"Known kinds: {', '.join(SOURCES)}.")
    return build(SOURCES[kind], {key: value for key, value in values.items() if key != "kind"}, where)


def _check(pack: Pack, where: str) -> None:
    def need(right: object, what: str, next_step: str) -> None:
        if not right:
            raise ConfigError(f"{where}: {what}", next_step)

    need(_ID.fullmatch(pack.id), f"{pack.id!r} is no pack id.", "Use small letters, digits, - and _.")
    need(pack.title and pack.role and pack.family, "title, role or family is empty.", "Say what the pack is.")
    need(pack.licence.name, "the licence has no name.", "Name it.")
    need(pack.licence.url.startswith("https://"), "the licence has no https url.", "Say where to read it.")
    need(
        pack.licence.commercial in COMMERCIAL,
        f"commercial is {pack.licence.commercial!r}.",
        f"Expected one of {', '.join(COMMERCIAL)}.",
    )
    need(pack.files, "no files.", "Add a [[files]] table.")
    paths = [file.path for file in pack.files]
    need(len({path.lower() for path in paths}) == len(paths), "a file is listed twice.", "Remove one.")
    for file in pack.files:
        need(_inside(file.path), f"the file path {file.path!r} leaves its folder.", "Use a plain relative path.")
        need(not (file.bytes and file.about_bytes), f"{file.path} has bytes and about_bytes.", "Keep bytes.")
        if file.unverified:
            need(not file.sha256, f"{file.path} is unverified but has a sha256.", "Keep one of the two.")
        else:
            need(
                _SHA256.fullmatch(file.sha256) and file.bytes > 0,
                f"{file.path} lacks a sha256 of 64 hex digits or its bytes.",
                "Compute both, or write unverified = true.",
            )
        need(
            pack.home or any(file.path in source.members for source in pack.sources),
            f"no source has {file.path}.",
            "Add it to the members of a source.",
        )
    for source in pack.sources:
        _check_source(source, set(paths), need)


def _check_source(source: Source, paths: set[str], need: Any) -> None:
    need(isinstance(source.members, Mapping), f"the members of {source.label} are no table.", "Write file = member.")
    need(
        len(set(map(str, source.members.values()))) == len(source.members),
        f"{source.label} gives one member twice.",
        "List each member once.",
    )
    for path, member in source.members.items():
        need(path in paths, f"{source.label} has the member {path!r}, which is not a file here.", "Check the name.")
        need(isinstance(member, str) and _inside(member), f"{member!r} is no member name.", "Use a relative path.")
    if isinstance(source, HubSource | GithubSource):
        need(_REPO.fullmatch(source.repo), f"{source.repo!r} is no repository.", "Expected owner/name.")
        need(
            _REVISION.fullmatch(source.revision),
            f"the revision {source.revision!r} is not a commit.",
            "Expected 40 hex digits; a branch or tag can move.",
        )
    if isinstance(source, PypiSource | NpmSource):
        pattern = _PYPI_NAME if isinstance(source, PypiSource) else _NPM_NAME
        need(pattern.fullmatch(source.name), f"{source.name!r} is no package name.", "Check the name.")
        need(_VERSION.fullmatch(source.version), f"{source.version!r} is no version.", "Pin one version.")
        need(
            _SHA256.fullmatch(source.sha256) and source.bytes > 0,
            f"{source.label} lacks the sha256 or the bytes of its archive.",
            "Compute both: unchecked archives are never opened.",
        )
    if isinstance(source, PypiSource):
        need(source.archive in ("wheel", "sdist"), f"archive is {source.archive!r}.", "Expected wheel or sdist.")
        need(
            not source.tag or (source.archive == "wheel" and source.tag.count("-") == 2),
            f"the tag {source.tag!r} is not python-abi-platform of a wheel.",
            "Expected for example cp311-cp311-manylinux_2_28_x86_64.",
        )


def _inside(path: str) -> bool:
    """A relative POSIX path that stays below the folder it is joined to, on every system."""
    parts = PurePosixPath(path).parts
    return bool(parts) and not path.startswith("/") and ".." not in parts and not re.search(r"[\\:\0]", path)
