"""An index of the workspace in a database: SQLite in the workspace, or whatever SQLAlchemy is given.

The folders are the truth. `sync` reads what is new there and drops what is gone, so a missing or older database costs
one pass over the sidecars and nothing else. Of one with other tables ours are made anew; a file that is damaged, or no
database, is set aside. Whatever else SQLite refuses, such as for a full disk, is told and changes nothing.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.pool import NullPool, StaticPool

from facechain import disk
from facechain.errors import StoreError
from facechain.store.people import SHEET, PersonSummary, read_summary
from facechain.store.portraits import KeptPortrait, read_portrait, sidecars
from facechain.types import Call, Verdict

BUSY_SECONDS = 60
_log = logging.getLogger("facechain.store")
_AT_ONCE = 500  # rows a statement names; SQLite's oldest limit is 999

_tables = sa.MetaData()

people = sa.Table(
    "people",
    _tables,
    sa.Column("file", sa.String(300), primary_key=True),  # person.json, from the workspace
    sa.Column("stamp", sa.String(60), nullable=False),
    sa.Column("slug", sa.String(120), nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("photos", sa.Integer, nullable=False),
    sa.Column("held_out", sa.Integer, nullable=False),
    sa.Column("consent_by", sa.Text, nullable=False),
    sa.Column("consent_when", sa.String(40), nullable=False),
)

portraits = sa.Table(
    "portraits",
    _tables,
    sa.Column("file", sa.String(300), primary_key=True),  # the sidecar, from the workspace
    sa.Column("stamp", sa.String(60), nullable=False),
    sa.Column("id", sa.String(120), nullable=False),
    sa.Column("picture", sa.String(300), nullable=False),
    sa.Column("slug", sa.String(120), nullable=False),
    sa.Column("run", sa.String(120), nullable=False),
    sa.Column("made", sa.String(40), nullable=False, index=True),  # UTC, ISO 8601
    sa.Column("slots", sa.JSON, nullable=False),
    sa.Column("recipe", sa.JSON, nullable=False),
)

shown = sa.Table(
    "shown",
    _tables,
    sa.Column("file", sa.String(300), sa.ForeignKey("portraits.file"), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("slug", sa.String(120), nullable=False, index=True),
    sa.Column("name", sa.Text, nullable=False),
)

verdicts = sa.Table(
    "verdicts",
    _tables,
    sa.Column("file", sa.String(300), sa.ForeignKey("portraits.file"), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("person", sa.Text, nullable=False),
    sa.Column("call", sa.String(40), nullable=False),
    sa.Column("likeness", sa.Float),
    sa.Column("likeness_given", sa.Float),
    sa.Column("likeness_before", sa.Float),
    sa.Column("copy_score", sa.Float),
    sa.Column("held_out", sa.Boolean, nullable=False),
    sa.Column("faces", sa.Integer, nullable=False),
    sa.Column("face_share", sa.Float, nullable=False),
    sa.Column("sharpness", sa.Float, nullable=False),
    sa.Column("judge", sa.Text, nullable=False),
    sa.Column("kept", sa.Boolean, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("llr", sa.Float),
    sa.Column("scores", sa.JSON, nullable=False),
    sa.Column("disagree", sa.Boolean, nullable=False),
    sa.Column("closer", sa.Integer, nullable=False),
    sa.Column("cohort", sa.Integer, nullable=False),
    sa.Column("recognisability", sa.Float),
    sa.Column("copy_paste", sa.Float),
    sa.Column("warp", sa.Float),
)

damaged = sa.Table(
    "damaged",  # what could not be read, so that it is tried again only when it changes
    _tables,
    sa.Column("file", sa.String(300), primary_key=True),
    sa.Column("stamp", sa.String(60), nullable=False),
)


def _new_engine(url: str) -> sa.Engine:
    is_sqlite = url.startswith("sqlite")
    engine = sa.create_engine(
        url,
        poolclass=StaticPool if url == "sqlite://" else NullPool,
        connect_args={"timeout": BUSY_SECONDS} if is_sqlite else {},
    )
    if is_sqlite:
        # Freed pages are overwritten, and no second file keeps what was removed from the first.
        event.listen(engine, "connect", _prepared)
    return engine


# An engine holds no connection here, only statements it has compiled; those are most of a query's cost.
_engine = functools.lru_cache(maxsize=64)(_new_engine)


class Records:
    """Callers hold the workspace's lock around `sync`, `rebuild` and `forget`. Raises StoreError throughout."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        in_memory = url == "sqlite://"
        is_sqlite = url.startswith("sqlite")
        self._engine = _new_engine(url) if in_memory else _engine(url)
        self._is_file = is_sqlite and not in_memory
        self._is_sqlite = is_sqlite

    def behind(self) -> bool:
        """Whether the folders have changed since the last `sync`."""
        try:
            with self._connection() as connection:
                return any(any(_changes(connection, table, files)) for table, files in self._files())
        except StoreError:
            return True

    def sync(self) -> None:
        try:
            self._sync()
        except _Foreign:
            self.rebuild()

    def rebuild(self) -> None:
        """Starts over from the folders. Tables that are not ours stay, a damaged file is set aside."""
        try:
            with self._connection(writing=True) as connection:
                _tables.drop_all(connection)
            self._sync()
        except _Foreign:
            if not (self._is_file and self._engine.url.database):
                raise
            database = Path(self._engine.url.database)
            database.with_name(f"{database.name}-journal").unlink(missing_ok=True)
            _log.warning("The index was damaged and is made anew; the old one is %s.", disk.set_aside(database).name)
            self._sync()

    def forget(self, slug: str) -> None:
        """Removes a person and what is no longer in the folders, down to the bytes."""
        self.sync()
        with self._connection(writing=True) as connection:
            connection.execute(people.delete().where(people.c.slug == slug))
            own = sa.select(portraits.c.file).where(portraits.c.slug == slug)
            _drop(connection, portraits, connection.execute(own).scalars().all())
            connection.execute(damaged.delete().where(damaged.c.file.startswith(f"people/{slug}/", autoescape=True)))
        if self._is_file:
            with self._connection() as connection:
                connection.execute(sa.text("VACUUM"))

    def portraits(self, slug: str | None = None) -> tuple[KeptPortrait, ...]:
        """Those that show a person, or all; newest first."""
        query = sa.select(portraits).order_by(portraits.c.made.desc(), portraits.c.id.desc())
        if slug is not None:
            query = query.where(portraits.c.file.in_(sa.select(shown.c.file).where(shown.c.slug == slug)))
        with self._connection() as connection:
            rows = connection.execute(query).mappings().all()
            shows, judged = _by_file(connection, shown), _by_file(connection, verdicts)
        return tuple(self._kept(row, shows.get(row["file"], []), judged.get(row["file"], [])) for row in rows)

    def page(
        self,
        slug: str | None = None,
        *,
        kept: bool | None = None,
        call: Call | None = None,
        engine: str = "",
        style: str = "",
        run: str = "",
        after: tuple[str, str] | None = None,
        limit: int,
    ) -> tuple[KeptPortrait, ...]:
        """At most `limit` of those asked for, newest first, after the one made then with that sidecar."""
        query = sa.select(portraits).order_by(portraits.c.made.desc(), portraits.c.file.desc()).limit(limit)
        if slug is not None:
            query = query.where(portraits.c.file.in_(sa.select(shown.c.file).where(shown.c.slug == slug)))
        if kept is not None:
            query = query.where(portraits.c.file.in_(sa.select(verdicts.c.file).where(verdicts.c.kept == kept)))
        if call is not None:
            others = sa.select(verdicts.c.file).where(verdicts.c.call != call.value)
            query = query.where(portraits.c.file.not_in(others))
        for name, wanted in (("engine", engine), ("style", style)):
            if wanted:
                query = query.where(portraits.c.recipe[name].as_string() == wanted)
        if run:
            query = query.where(portraits.c.run == run)
        if after is not None:
            query = query.where(sa.tuple_(portraits.c.made, portraits.c.file) < sa.tuple_(*map(sa.literal, after)))
        with self._connection() as connection:
            rows = connection.execute(query).mappings().all()
            files = [row["file"] for row in rows]
            shows, judged = _by_file(connection, shown, files), _by_file(connection, verdicts, files)
        return tuple(self._kept(row, shows.get(row["file"], []), judged.get(row["file"], [])) for row in rows)

    def _kept(self, row: sa.RowMapping, shows: list[sa.RowMapping], judged: list[sa.RowMapping]) -> KeptPortrait:
        return KeptPortrait(
            id=row["id"],
            path=(self._folder / row["file"]).with_name(row["picture"]),
            slug=row["slug"],
            run=row["run"],
            made=datetime.fromisoformat(row["made"]),
            people=tuple(who["name"] for who in shows),
            slugs=tuple(who["slug"] for who in shows),
            slots=tuple(row["slots"]),
            recipe=row["recipe"],
            verdicts=tuple(_verdict(verdict) for verdict in judged),
        )

    def _sync(self) -> None:
        with self._connection(writing=True) as connection:
            _tables.create_all(connection)
            for table, files in self._files():
                new, gone = _changes(connection, table, files)
                _drop(connection, table, {*new, *gone})
                for file in sorted(new):
                    for target, rows in self._rows(table, file, files[file]):
                        if rows:
                            connection.execute(target.insert(), rows)

    def _files(self) -> Iterator[tuple[sa.Table, dict[str, str]]]:
        """What is in the folders: each file and its stamp."""
        home = self._folder / "people"
        sheets = ((sheet, sheet.stat()) for sheet in home.glob(f"*/{SHEET}"))
        yield people, {self._name(sheet): f"{status.st_mtime_ns}-{status.st_size}" for sheet, status in sheets}
        yield portraits, {self._name(sidecar): stamp for sidecar, stamp in sidecars(home)}

    def _name(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix()

    def _rows(self, table: sa.Table, file: str, stamp: str) -> list[tuple[sa.Table, list[dict[str, Any]]]]:
        key = {"file": file, "stamp": stamp}
        path = self._folder / file
        try:
            read = read_summary(path.parent) if table is people else read_portrait(path)
        except StoreError:
            return [(damaged, [key])]
        if isinstance(read, PersonSummary):
            who = read
            agreed = {"consent_by": who.consent.given_by, "consent_when": who.consent.when.isoformat()}
            counts = {"slug": who.slug, "name": who.name, "photos": who.photos, "held_out": who.held_out}
            return [(people, [{**key, **counts, **agreed}])]
        kept = read
        row = {
            **key,
            **{name: getattr(kept, name) for name in ("id", "slug", "run", "recipe")},
            "picture": kept.path.name,
            "made": kept.made.isoformat(timespec="microseconds"),
            "slots": list(kept.slots),
        }
        shows = enumerate(zip(kept.slugs, kept.people, strict=True))
        judged = enumerate({**asdict(verdict), "call": verdict.call.value} for verdict in kept.verdicts)
        return [
            (portraits, [row]),
            (shown, [{"file": file, "position": at, "slug": slug, "name": name} for at, (slug, name) in shows]),
            (verdicts, [{"file": file, "position": at, **verdict} for at, verdict in judged]),
        ]

    @contextlib.contextmanager
    def _connection(self, writing: bool = False) -> Iterator[sa.Connection]:
        """`writing`: one transaction. SQLite's is alone from its start: begun by a look, it could not wait its turn."""
        try:
            with self._engine.begin() as connection:
                if writing and self._is_sqlite:
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                yield connection
        except (exc.DatabaseError, exc.InterfaceError) as error:
            raise self._told(error.orig) from error

    def _told(self, error: BaseException | None) -> StoreError:
        """What the database said, as one of ours."""
        if disk.is_damage(error) or getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_ERROR:
            return _Foreign(f"The index cannot be used: {error}.", "Run it again: it is made anew.")
        return disk.refused(error, self._folder)


class _Foreign(StoreError):
    """Not a database, a damaged one, or one with other tables than ours."""


def _prepared(connection: Any, _: object) -> None:
    connection.isolation_level = None  # transactions are begun by us, not by the driver
    connection.execute("PRAGMA journal_mode=DELETE")
    connection.execute("PRAGMA secure_delete=ON")


def _changes(connection: sa.Connection, table: sa.Table, files: dict[str, str]) -> tuple[set[str], set[str]]:
    """Files to be read, and files that are gone."""
    sheets = damaged.c.file.like(f"%/{SHEET}")
    unread = sa.select(damaged.c.file, damaged.c.stamp).where(sheets if table is people else ~sheets)
    read = sa.select(table.c.file, table.c.stamp)
    known = {row.file: row.stamp for query in (unread, read) for row in connection.execute(query)}
    new = {file for file, stamp in files.items() if known.get(file) != stamp}
    return new, known.keys() - files.keys()


def _drop(connection: sa.Connection, table: sa.Table, files: Iterable[str]) -> None:
    listed = sorted(files)
    for start in range(0, len(listed), _AT_ONCE):
        some = listed[start : start + _AT_ONCE]
        for target in (shown, verdicts, damaged, table) if table is portraits else (damaged, table):
            connection.execute(target.delete().where(target.c.file.in_(some)))


def _by_file(
    connection: sa.Connection, table: sa.Table, files: Sequence[str] | None = None
) -> dict[str, list[sa.RowMapping]]:
    """All of them, or those of a few files."""
    query = sa.select(table).order_by(table.c.file, table.c.position)
    rows = connection.execute(query if files is None else query.where(table.c.file.in_(files))).mappings()
    return {file: list(some) for file, some in groupby(rows, key=lambda row: row["file"])}


def _verdict(row: sa.RowMapping) -> Verdict:
    return Verdict.read({field.name: row[field.name] for field in fields(Verdict)})
