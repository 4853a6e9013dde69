"""Every verb a person can ask for. The doors call one of these and show what comes back."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO

from facechain import limits
from facechain.config import App
from facechain.errors import (
    ConfigError,
    EngineError,
    Missing,
    PersonMissing,
    PhotoError,
    StoreError,
    TemplateError,
    UserError,
)
from facechain.judge.calibration import Calibration
from facechain.judge.judge import Judge, Reference
from facechain.judge.rank import least, rank
from facechain.people.cluster import cluster
from facechain.people.consent import checked, consent
from facechain.people.enrol import enrol
from facechain.people.names import safe_name, slug
from facechain.photos.album import look
from facechain.photos.crop import Framing
from facechain.photos.intake import Intake, intake
from facechain.photos.intake import Tools as IntakeTools
from facechain.photos.read import find, read
from facechain.photos.upright import Found, find_faces, turned
from facechain.portraits import fusion, guide, pool, provenance, scene
from facechain.portraits.export import copy_all, zip_all
from facechain.portraits.finish import finish
from facechain.portraits.prompt import words
from facechain.portraits.shots import Plan, mannered, plan, resolve_seed
from facechain.protocols import (
    Engine,
    EngineCard,
    FaceReader,
    Ground,
    Guard,
    Identity,
    Landmarker,
    Parser,
    Tick,
    silent,
)
from facechain.types import (
    Call,
    Face,
    Note,
    Person,
    Pixels,
    Portrait,
    Rejection,
    Request,
    Shot,
    Style,
    Tag,
    Verdict,
)

if TYPE_CHECKING:
    from facechain.packs.fetch import Packs
    from facechain.photos.tags import AgeReader
    from facechain.store.check import Finding
    from facechain.store.workspace import (
        Damaged,
        ImportedPerson,
        KeptPhoto,
        KeptPortrait,
        PersonSummary,
        Traces,
        Training,
        Workspace,
    )


_LONGEST_CAPTION = 1000
UNSAFE = "the safety guard does not pass it"
_DROPPED = "dropped: "
_SWAPPED = "people changed places: "


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What the stages are handed. Models are behind calls, so that listing people opens none."""

    reader: Callable[[], FaceReader]
    judge: Callable[[], Judge]
    landmarker: Callable[[], Landmarker]
    parser: Callable[[], Parser]
    ages: Callable[[], AgeReader]
    guard: Callable[[], Guard]
    ground: Callable[[str], Ground]  # the base of this name, or by default, and the engines as they are on it
    able: Callable[[], bool]  # whether the packages are here that painting on a base takes
    engine: Callable[[str, str, tuple[tuple[str, object], ...]], Engine]  # name, base, training settings
    calibration: Callable[[], Calibration]
    packs: Packs
    workspace: Workspace
    draw: Callable[[str, Pixels], Pixels]  # a picture's edges, skeleton or depth, by kind; see `portraits.guide`
    forget_jobs: Callable[[str, Traces], int]  # those about the person of this slug; how many


@dataclass(frozen=True, kw_only=True)
class Enrolled:
    person: Person
    rejections: tuple[Rejection, ...]


@dataclass(frozen=True, kw_only=True)
class Album:
    """A mixed album, by photo name; a name stands twice when two people are in the photo."""

    persons: tuple[tuple[str, ...], ...]
    left_out: tuple[str, ...]
    rejections: tuple[Rejection, ...]
    notes: Mapping[str, tuple[Note, ...]]  # of photos there is something to say about


@dataclass(frozen=True, kw_only=True)
class Result:
    """One picture and what the judge says of everybody in it."""

    id: str
    path: Path
    verdicts: tuple[Verdict, ...]
    engine: str = ""  # that made it, if it was made here
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Sitting:
    """A request with nothing left open."""

    request: Request  # with engine and seed
    engine: Engine
    style: Style
    canvas: Pixels | None
    faces: tuple[Face, ...]
    slots: tuple[int, ...]
    identities: tuple[Identity, ...]
    references: tuple[Reference, ...]
    shots: Plan
    since: str  # the workspace's generation before the people were read
    words: tuple[tuple[str, str], ...] = ()  # prompt and negative of each, when several are painted one by one
    fusion: fusion.Fusion | None = None
    notes: Mapping[str, tuple[Note, ...]] = field(default_factory=dict)  # on template, pose and start, by file name

    def id(self, index: int) -> str:
        """Of the portrait this shot becomes."""
        return f"{self.request.seed}-{index:04d}"

    def missing(self, stored: Container[str]) -> list[int]:
        """Indexes of the shots whose portraits are not among the `stored` ids."""
        return [index for index in range(len(self.shots)) if self.id(index) not in stored]


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """A portrait with a verdict for everybody in it; `unsafe` when the safety guard does not pass it."""

    portrait: Portrait
    verdicts: tuple[Verdict, ...]
    unsafe: bool
    swap: str = ""  # whose face stands where another's was meant

    @property
    def marked(self) -> tuple[Verdict, ...]:
        """The verdicts, saying what speaks against it: whoever reads them later need not look again."""
        if not (veto := UNSAFE if self.unsafe else _SWAPPED + self.swap if self.swap else ""):
            return self.verdicts
        return tuple(replace(verdict, why=_DROPPED + veto) for verdict in self.verdicts)


@dataclass(frozen=True, kw_only=True)
class Made:
    folder: Path
    seed: int
    results: tuple[Result, ...]
    summary: str
    notes: Mapping[str, tuple[Note, ...]] = field(default_factory=dict)  # on template, pose and start, by file name


@dataclass(frozen=True, kw_only=True)
class Offer:
    """An engine, and whether it can run here."""

    card: EngineCard
    commercial: str  # "yes", "no" or "ask", of its packs together
    missing: tuple[str, ...]  # packs not fetched
    state: str
    base: str = ""  # title of the one it would paint on; empty: it needs none, or there is none for it
    base_note: str = ""  # what that is
    needs_base: bool = False  # none is named, or one of another family
    base_problem: str = ""  # what is wrong with the one that is named
    needs_packages: bool = False  # as `scripts/setup diffusion` installs them
    allows: str = ""  # what its packs' licences allow together, a sentence
    bytes: int = 0  # of its packs, as far as known
    unsized: tuple[str, ...] = ()  # packs whose size is not known


class Studio:
    def __init__(self, app: App, styles: dict[str, Style], tools: Tools) -> None:
        self.app = app
        self.tools = tools
        self._styles = styles

    # ── photos and people ────────────────────────────────────────────────────────────────────────

    def check_photos(self, paths: Sequence[Path], tick: Tick = silent) -> Intake:
        """Every photo as a crop or as a rejection with advice."""
        return self._intake(self._photos(paths), tick)

    def sort_album(self, paths: Sequence[Path], tick: Tick = silent) -> Album:
        """A mixed album sorted into persons."""
        names, faces, rejected, notes = [], [], [], {}
        for seen in look(self._photos(paths), self.tools.reader(), tick):
            if isinstance(seen, Rejection):
                rejected.append(seen)
            else:
                names.append(seen.photo_name)
                faces.append(seen.faces)
                notes |= {seen.photo_name: seen.notes} if seen.notes else {}
        sorted_ = cluster(faces, tick=tick)
        return Album(
            persons=tuple(tuple(names[where.photo] for where in person) for person in sorted_.persons),
            left_out=tuple(names[where.photo] for where in sorted_.left_out),
            rejections=tuple(rejected),
            notes=notes,
        )

    def enrol(
        self,
        name: str,
        paths: Sequence[Path],
        *,
        consent_by: str,
        purpose: str,
        since: str = "",
        tick: Tick = silent,
    ) -> Enrolled:
        """Photos of one person become that person.

        `since` is the workspace's generation of when this was asked for, by default now. Raises ConsentMissing before
        a photo is opened without consent, PersonForgotten when the person was forgotten since.
        """
        agreed = consent(who=name, given_by=consent_by, purpose=purpose)
        workspace, folder = self.tools.workspace, slug(name)
        since = since or workspace.generation()
        workspace.check_free(folder, since)
        with workspace.under_way((folder,), since):
            photos = self._photos(paths)
            checked = self._intake(photos, tick)
            person = enrol(name, checked.crops, agreed, self.app.hold_back)
        workspace.save_person(folder, person, photos, since)
        return Enrolled(person=person, rejections=checked.rejections)

    def check_free(self, name: str) -> None:
        """Raises PersonExists when there is already somebody of that name."""
        self.tools.workspace.check_free(slug(name))

    def people(self) -> tuple[PersonSummary, ...]:
        return self.tools.workspace.list_people()

    def is_here(self, name: str) -> bool:
        """Whether there is somebody of that name."""
        return self.tools.workspace.has(slug(name))

    def damaged_people(self) -> tuple[Damaged, ...]:
        """Those of whom the files cannot be read."""
        return self.tools.workspace.damaged_people()

    def person(self, name: str) -> Person:
        return self.tools.workspace.load_person(slug(name))

    def photos(self, name: str) -> tuple[KeptPhoto, ...]:
        """The photos a person was made of: quality, caption, tags and which are the judge's."""
        return self.tools.workspace.photos(slug(name))

    def describe(self, name: str, photo_id: str, caption: str, tags: Mapping[str, str]) -> None:
        """Corrects what is said of a photo; a tag a person gave is certain."""
        limits.text("The caption", caption, _LONGEST_CAPTION)
        for tag, value in tags.items():
            limits.text(f"The tag {tag!r:.40}", f"{tag}{value}", _LONGEST_CAPTION)
        known = next((photo for photo in self.photos(name) if photo.id == photo_id), None)
        seen = {tag.name: tag for tag in known.tags} if known else {}
        given = (Tag(name=tag, value=value, confidence=1.0) for tag, value in tags.items())
        changed = {tag.name: tag for tag in given if tag.name not in seen or seen[tag.name].value != tag.value}
        self.tools.workspace.describe_photo(slug(name), photo_id, caption.strip(), tuple((seen | changed).values()))

    def forget(self, name: str) -> int:
        """Deletes the person, the jobs about them and every portrait of them; returns how many portraits that were.

        Also reaches somebody who is known from jobs only, such as one whose photos were refused, and stops what is
        under way about them. Raises PersonMissing when there is nobody and nothing.
        """
        workspace, who = self.tools.workspace, slug(name)
        traces, jobs = workspace.traces(who), 0
        with contextlib.suppress(StoreError):  # such as for a full disk: below there will be room
            jobs = self.tools.forget_jobs(who, traces)
        try:
            return workspace.forget(who)
        except PersonMissing:
            if not jobs:
                raise
            return 0
        finally:
            self.tools.forget_jobs(who, traces)  # what running ones wrote meanwhile

    def train(
        self, name: str, base: str = "", settings: Mapping[str, object] | None = None, tick: Tick = silent
    ) -> Identity:
        """Learns a person into weights of their own, or goes on where an earlier training stopped."""
        self.check_training(name, base, settings)
        workspace, who = self.tools.workspace, slug(name)
        since = workspace.generation()
        with workspace.under_way((who,), since):
            person = self.person(name)
            engine = self._engine("lora", base, [person], settings)
            return engine.learn(person, self._present((who,), since, tick))

    def training(self, name: str) -> Training | None:
        """How far the newest training of a person has come: its curve of likeness and the pictures on the way."""
        return self.tools.workspace.training(slug(name))

    def export_person(self, name: str, passphrase: str = "", tick: Tick = silent) -> Iterator[bytes]:
        """A signed archive of a person, chunk by chunk: consent, photos, crops, trainings, and portraits of them alone.

        Encrypted when there is a passphrase. Raises PersonMissing or ArchiveError before the first chunk.
        """
        checked(self.person(name).consent)
        return self.tools.workspace.export_person(slug(name), passphrase=passphrase, tick=tick)

    def import_person(
        self,
        archive: IO[bytes],
        *,
        name: str = "",
        passphrase: str = "",
        trust_signer: str = "",
        tick: Tick = silent,
    ) -> ImportedPerson:
        """The person of an archive, under their own name or another.

        Archives of our own key are taken, and of the key whose fingerprint is `trust_signer`. Raises SignerUnknown for
        others, ConsentMissing, PersonExists, and ArchiveError for a wrong passphrase and a damaged or changed archive.
        """
        return self.tools.workspace.import_person(
            archive,
            name=safe_name(name) if name else "",
            slug_of=slug,
            check=lambda person: checked(person.consent),
            trusted=lambda signer: signer == trust_signer,
            passphrase=passphrase,
            tick=tick,
        )

    def lend(self, name: str) -> bytes:
        """What another machine needs to paint and judge a person: crops, consent and what was learned of them."""
        return b"".join(self.tools.workspace.export_person(slug(name), complete=False))

    def borrow(self, name: str, lent: bytes) -> None:
        """Somebody whom the machine that leads the batch has lent. Raises ConsentMissing, ArchiveError."""
        self.tools.workspace.import_person(
            io.BytesIO(lent),
            slug_of=slug,
            check=lambda person: checked(person.consent),
            trusted=lambda signer: True,  # the cluster's own connection brought it
        )

    # ── the workspace ────────────────────────────────────────────────────────────────────────────

    def check_workspace(self, tick: Tick = silent) -> tuple[Finding, ...]:
        """What is damaged in the workspace, every file having been read."""
        return self.tools.workspace.check(tick)

    def rebuild_index(self) -> None:
        """Makes the database's index of people and portraits anew from the folders."""
        self.tools.workspace.rebuild()

    def key_fingerprint(self) -> str:
        """What others compare when they import an archive of this workspace."""
        return self.tools.workspace.key_fingerprint()

    def backup(self, passphrase: str = "", tick: Tick = silent) -> Iterator[bytes]:
        """A signed archive of all people, portraits, trainings and users, chunk by chunk."""
        return self.tools.workspace.backup(passphrase, tick)

    def restore(self, archive: IO[bytes], *, passphrase: str = "", trust_signer: str = "", tick: Tick = silent) -> int:
        """Fills an empty workspace from a backup; returns the number of files. Raises as `import_person` does."""
        return self.tools.workspace.restore(
            archive, trusted=lambda signer: signer == trust_signer, passphrase=passphrase, tick=tick
        )

    def check_training(self, name: str, base: str = "", settings: Mapping[str, object] | None = None) -> None:
        """Raises UserError, naming it, for somebody or a setting unknown, before anything is queued or learned."""
        self.tools.workspace.photos(slug(name))
        card = self._card("lora", base)
        limits.check_options(settings or {})
        if card.training is not None:
            card.training.parse(settings or {}, "A training")

    # ── portraits ────────────────────────────────────────────────────────────────────────────────

    def make(
        self,
        request: Request,
        *,
        template: Path | None = None,
        pose: Mapping[str, Path] | None = None,
        start: Path | None = None,
        mask: Path | None = None,
        out: Path | None = None,
        format: str = "png",
        run: str = "",
        show: Callable[[Path], None] = lambda picture: None,
        tick: Tick = silent,
    ) -> Made:
        """enrolled people → learn → shoot → judge → keep.

        `run` names the folder of the portraits: the same request under the same name goes on where it was stopped.
        `show` hears of every portrait as soon as it is stored. `pose` names pictures to follow: "" → one to draw
        from, or openpose, depth or canny → one drawn already; the option "control" says what is followed. `start` is
        a picture to begin from instead of noise, `mask` white where it may change.
        """
        sitting = self.prepare(request, template, format, tick, pose, start, mask)
        folder = self.folder(sitting, run)
        before = self.stored(folder)
        goal, stopped = self._goal(sitting), ""
        left = sitting.missing(before)
        likenesses = [_worth(verdicts) for _, verdicts in before.values()]
        if not (stopped := pool.stop(goal, likenesses)):
            for judged in self.shoot(sitting, left, tick):
                show(self.store(sitting, folder, judged, format))
                likenesses.append(_worth(judged.marked))
                if stopped := pool.stop(goal, likenesses):
                    break
        return self.choose(sitting, folder, out, stopped)

    def check(self, request: Request, pictures: Collection[str] = ()) -> None:
        """Raises UserError, naming it, for what cannot be made, before anything is queued, loaded or learned.

        `pictures` are those given beside the request: "template", "pose", "start", "mask".
        """
        limits.check_request(request)
        for name in request.people:
            self.tools.workspace.photos(slug(name))
        style, card = self.style(request.style), self._card(request.engine or self.app.engine, request.base)
        fusion.asked(request.options, card.name)
        known = card.params.names()
        for name, option in (("start", "init_image"), ("mask", "mask")):
            if name in pictures and option not in known:
                raise EngineError(f"{card.title} cannot start from a picture.", f"Leave --{name} out.")
        if (guide.parse(request.options.get(guide.OPTION)) or "pose" in pictures) and "controls" not in known:
            raise EngineError(f"{card.title} takes no ControlNet image.", f"Leave --pose and --set {guide.OPTION} out.")
        own = {name: v for name, v in request.options.items() if name not in (fusion.OPTION, guide.OPTION)}
        asked = card.params.parse(own, card.title, card.unsupported)
        based = bool(style.template_pack) or "template" in pictures or "start" in pictures
        if not based and getattr(asked, "denoising_strength", None) is not None:
            raise EngineError(
                f"{card.title} uses denoising_strength only with a template or an initial image.", "Give one of them."
            )

    def prepare(
        self,
        request: Request,
        template: Path | None = None,
        format: str = "png",
        tick: Tick = silent,
        pose: Mapping[str, Path] | None = None,
        start: Path | None = None,
        mask: Path | None = None,
    ) -> Sitting:
        """All that is settled before the first shot; what cannot work is refused here. Learns the people."""
        self.tools.workspace.check_format(format)
        given = {"template": template, "pose": pose, "start": start, "mask": mask}
        self.check(request, [name for name, picture in given.items() if picture])
        request = replace(request, engine=request.engine or self.app.engine, seed=resolve_seed(request.seed))
        slugs, since = [slug(name) for name in request.people], self.tools.workspace.generation()
        with self.tools.workspace.under_way(slugs, since):
            return self._prepared(request, template, self._present(slugs, since, tick), pose, start, mask, since)

    def _prepared(
        self,
        request: Request,
        template: Path | None,
        tick: Tick,
        pose: Mapping[str, Path] | None,
        start: Path | None,
        mask: Path | None,
        since: str,
    ) -> Sitting:
        people = [self.person(name) for name in request.people]
        engine = self._engine(request.engine, request.base, people)
        style = mannered(self.style(request.style), engine.card.manner)
        notes: dict[str, tuple[Note, ...]] = {}
        canvas, faces, slots = self._canvas(engine.card, request, style, template, notes)
        asked, request = request, self._guided(request, style, engine.card, pose or {}, canvas, notes)
        request = self._begun(request, start, mask, notes)
        engine.check(style, {**style.options, **request.options})
        fuse = self._fusion(asked, people, tick)
        return Sitting(
            request=request,
            engine=engine,
            style=style,
            canvas=canvas,
            faces=faces,
            slots=slots,
            identities=tuple(engine.learn(person, tick) for person in people),
            references=tuple(self._reference(person) for person in people),
            since=since,
            shots=plan(replace(request, count=request.budget or request.count), style, *words(request, style, people)),
            words=tuple(words(request, style, [who]) for who in people) if canvas is not None and people[1:] else (),
            fusion=fuse,
            notes=notes,
        )

    def shoot(self, sitting: Sitting, indexes: Sequence[int], tick: Tick = silent) -> Iterator[Judged]:
        """These shots painted and judged, in order, and kept nowhere. Other shots have no influence on them."""
        shots = sitting.shots.only(indexes)
        judge, guard = self.tools.judge(), self.tools.guard()
        involved = sitting.engine.card.involved
        for portrait in self._painted(sitting, shots, tick):
            places = [sitting.faces[slot].box_px for slot in portrait.slots]
            verdicts = tuple(
                judge.verdict(
                    portrait.pixels,
                    reference,
                    involved=involved,
                    place=places[at] if places else None,
                    before=portrait.before_finish,
                )
                for at, reference in enumerate(sitting.references)
            )
            unsafe = guard.unsafe(portrait.pixels) > self.app.unsafe_above
            swap = judge.swapped(portrait.pixels, verdicts, sitting.references, places, involved) if places else ""
            yield Judged(portrait=portrait, verdicts=verdicts, unsafe=unsafe, swap=swap)

    def folder(self, sitting: Sitting, run: str = "") -> Path:
        """Where the portraits of this sitting go: a new folder, or the one that is named so already."""
        return self.tools.workspace.new_run(slug(sitting.request.people[0]), run)

    def store(self, sitting: Sitting, folder: Path, judged: Judged, format: str = "png") -> Path:
        """Keeps a portrait in its run, until `choose` among those the judge has it not chosen."""
        portrait = judged.portrait

        def write(to: Path) -> None:
            provenance.save(to, portrait.pixels, portrait.recipe, format, generated=not portrait.slots)

        return self.tools.workspace.save_portrait(folder, portrait, judged.marked, format, write, sitting.since)

    def stored(self, folder: Path) -> dict[str, tuple[Path, tuple[Verdict, ...]]]:
        """What a run has already, by id: the picture and its verdicts."""
        return {kept.id: (kept.path, kept.verdicts) for kept in self.tools.workspace.run(folder)}

    def choose(self, sitting: Sitting, folder: Path, out: Path | None = None, stopped: str = "") -> Made:
        """Ranks a run's portraits, keeps the best of the true likenesses and says how it went."""
        workspace, request = self.tools.workspace, sitting.request
        made = self.stored(folder)
        vetoes = {at: veto for at, (_, verdicts) in enumerate(made.values()) if (veto := _veto(verdicts))}
        ranked = rank(
            [verdicts for _, verdicts in made.values()],
            request.keep or self.app.keep,
            request.floor,
            len(sitting.faces) or len(request.people),
            vetoes,
        )
        for (id, (_, before)), verdicts in zip(made.items(), ranked, strict=True):
            if verdicts != before:
                workspace.save_verdicts(folder, id, verdicts)
        rows = zip(made.items(), ranked, strict=True)
        results = sorted(
            (
                Result(id=id, path=path, verdicts=verdicts, engine=sitting.engine.card.name)
                for (id, (path, _)), verdicts in rows
            ),
            key=lambda result: _best_first(result.verdicts),
        )
        kept = [result for result in results if result.verdicts[0].kept]
        if out is not None:
            copy_all([result.path for result in kept], out)
        summary = f"{len(kept)} of {len(results)} portraits kept."
        if request.budget:
            summary += f" {stopped}"
        if not kept:
            summary += " None was like the person: add photos closer to the template's pose, or take another template."
        return Made(
            folder=out or folder,
            seed=request.seed or 0,
            results=tuple(results),
            summary=summary,
            notes=sitting.notes,
        )

    def judge(self, paths: Sequence[Path], name: str, tick: Tick = silent) -> tuple[Result, ...]:
        """Any pictures, judged against one person."""
        judge, reference = self.tools.judge(), self._reference(self.person(name))
        pictures, results = self._photos(paths), []
        for done, path in enumerate(pictures):
            tick("judging", done, len(pictures))
            photo = self.faces(path).photo
            verdict = judge.verdict(photo.pixels, reference, involved=self._involved(path))
            verdicts = (replace(verdict, why=verdict.call.value),)
            results.append(Result(id=path.name, path=path, verdicts=verdicts, notes=photo.notes))
        tick("judging", len(pictures), len(pictures))
        return tuple(results)

    def faces(self, picture: Path) -> Found:
        """A picture to paint into, upright, and its faces, left to right, as `make` numbers them."""
        return find_faces(read(picture), self.tools.reader(), picture)

    # ── what was made ────────────────────────────────────────────────────────────────────────────

    def portraits(self, name: str = "") -> tuple[KeptPortrait, ...]:
        """Everything made, or what shows one person; newest first."""
        return self.tools.workspace.portraits(slug(name) if name else None)

    def page(
        self,
        name: str = "",
        *,
        kept: bool | None = None,
        call: Call | None = None,
        engine: str = "",
        style: str = "",
        run: str = "",
        limit: int = 50,
        after: tuple[str, str] | None = None,
    ) -> tuple[tuple[KeptPortrait, ...], bool]:
        """Some of what was made, newest first, and whether there is more; `after` is (made, key) of the last seen."""
        found = self.tools.workspace.page(
            slug(name) if name else None,
            kept=kept,
            call=call,
            engine=engine,
            style=style,
            run=run,
            limit=limit + 1,
            after=after,
        )
        return found[:limit], len(found) > limit

    def portrait(self, key: str) -> KeptPortrait:
        """One portrait by its key, person/run/id. Raises Missing when it is not here."""
        return self.tools.workspace.portrait(*_key(key))

    def keep(self, key: str, kept: bool) -> KeptPortrait:
        """The person's own word on a portrait outranks the judge's choice; the likeness stays what it was."""
        found = self.portrait(key)
        why = "kept: chosen by hand" if kept else "dropped: put aside by hand"
        verdicts = tuple(replace(verdict, kept=kept, why=why) for verdict in found.verdicts)
        self.tools.workspace.save_verdicts(found.path.parent, found.id, verdicts)
        return replace(found, verdicts=verdicts)

    def delete(self, keys: Sequence[str]) -> None:
        """Deletes portraits and everything known of them."""
        for key in keys:
            self.tools.workspace.delete_portrait(*_key(key))

    def export(self, keys: Sequence[str], to: BinaryIO) -> None:
        """A zip of these portraits, each with its recipe inside."""
        found = [self.portrait(key) for key in keys]
        zip_all([(f"{portrait.slug}-{portrait.path.name}", portrait.path) for portrait in found], to)

    def styles(self) -> tuple[Style, ...]:
        return tuple(self._styles.values())

    def style(self, id: str) -> Style:
        """Raises UserError with the nearest names when there is no such style."""
        if not id:
            return Style(id="", title="no style", licence="")
        if id not in self._styles:
            raise Missing(f"There is no style {id!r}.", "See `facechain styles`.")
        return self._styles[id]

    def engines(self, base: str = "") -> tuple[Offer, ...]:
        """Every engine as it is on this base, or on the default one."""
        offers, on, able = [], self.tools.ground(base), self.tools.able()
        for card in on.cards:
            fits = card.name in on.fits
            packs = [self.tools.packs.status(id) for id in card.packs]
            missing = tuple(pack.id for pack in packs if not pack.present)
            licence = self.tools.packs.licences(card.packs)
            offers.append(
                Offer(
                    card=card,
                    commercial=licence.commercial,
                    missing=missing,
                    state=_state(card, on, missing, able),
                    base=on.title if card.bases and fits else "",
                    base_note=on.note if card.bases and fits else "",
                    needs_base=not fits,
                    base_problem="" if fits else on.problem,
                    needs_packages=bool(card.bases) and not able,
                    allows=licence.sentence,
                    bytes=sum(pack.bytes for pack in packs),
                    unsized=tuple(pack.id for pack in packs if not pack.sized),
                )
            )
        return tuple(offers)

    # ── one paragraph each ───────────────────────────────────────────────────────────────────────

    def _card(self, name: str, base: str) -> EngineCard:
        cards = {card.name: card for card in self.tools.ground(base).cards}
        if name not in cards:
            raise ConfigError(f"There is no engine {name!r:.120}.", f"Known: {', '.join(cards)}.")
        return cards[name]

    def _engine(
        self, name: str, base: str, people: Sequence[Person], settings: Mapping[str, object] | None = None
    ) -> Engine:
        engine = self.tools.engine(name, base, tuple(sorted((settings or {}).items())))
        for person in people:
            photos = len(person.crops) + len(person.held_out)
            if photos < engine.card.min_photos:
                raise EngineError(
                    f"{engine.card.title} needs {engine.card.min_photos} photos, {person.name} has {photos}.",
                    "Add more photos, or choose another engine.",
                )
        return engine

    def _present(self, slugs: Sequence[str], since: str, tick: Tick) -> Tick:
        """`tick`, stopping as soon as one of these people is forgotten."""

        def checked(stage: str, done: int, total: int) -> None:
            self.tools.workspace.check_present(slugs, since)
            tick(stage, done, total)

        return checked

    def _fusion(self, request: Request, people: Sequence[Person], tick: Tick) -> fusion.Fusion | None:
        if not (strength := fusion.asked(request.options, request.engine)):
            return None
        engine = self._engine(fusion.ENGINE, "", people)
        return fusion.Fusion(
            engine=engine, identities=tuple(engine.learn(person, tick) for person in people), strength=strength
        )

    def _opened(self, picture: Path, notes: dict[str, tuple[Note, ...]]) -> Found:
        """As `faces`; what there is to say about the picture is added to `notes`."""
        found = self.faces(picture)
        if found.photo.notes:
            notes[picture.name] = found.photo.notes
        return found

    def _guided(
        self,
        request: Request,
        style: Style,
        card: EngineCard,
        pose: Mapping[str, Path],
        canvas: Pixels | None,
        notes: dict[str, tuple[Note, ...]],
    ) -> Request:
        """With what to follow drawn, as options the engines read; in a template that is the template itself."""
        asked = {name: value for name, value in request.options.items() if name != fusion.OPTION}
        size = style.width_px, style.height_px
        # What is drawn already has no face to tell which way is up.
        photos = {kind: read(path) if kind else self._opened(path, notes).photo for kind, path in pose.items()}
        pictures = {kind: guide.fitted(photo.pixels, *size) for kind, photo in photos.items()}
        if canvas is not None:
            if pictures:
                raise TemplateError(
                    "Faces of a template keep its pose.", f"Leave --pose out; --set {guide.OPTION}=depth follows it."
                )
            pictures = {"": canvas} if asked.get(guide.OPTION) else {}
        elif card.takes_pose and "" in pictures:
            faces = self.tools.reader().detect(pictures[""])
            asked["face_points"] = guide.face_points(pictures[""], faces, *size)
            if not asked.get(guide.OPTION):
                del pictures[""]
        asked |= guide.guides(asked.pop(guide.OPTION, ""), pictures, self.tools.draw)
        return replace(request, options=asked)

    def _begun(
        self, request: Request, start: Path | None, mask: Path | None, notes: dict[str, tuple[Note, ...]]
    ) -> Request:
        """With the pictures to begin from as options the engines read; a mask is turned as its picture is."""
        given, quarters = {}, 0
        if start is not None:
            given["init_image"], _, quarters = self._opened(start, notes)
        if mask is not None:
            photo = read(mask)
            given["mask"] = replace(photo, pixels=turned(photo.pixels, quarters))
        return replace(request, options={**request.options, **given})

    def _canvas(
        self,
        card: EngineCard,
        request: Request,
        style: Style,
        template: Path | None,
        notes: dict[str, tuple[Note, ...]],
    ) -> tuple[Pixels | None, tuple[Face, ...], tuple[int, ...]]:
        """The picture to paint into, its faces, and who becomes which; nothing for engines that paint freely."""
        if (template is not None or style.template_pack) and not card.paints_canvas:
            raise TemplateError(
                f"{card.title} paints whole pictures, not into one.",
                "Leave the template out, or use --engine template.",
            )
        if not (card.needs_canvas or template or style.template_pack) and len(request.people) > 1:
            raise EngineError(
                f"{card.title} paints one person at a time.", "Give a picture with several faces: --template IMAGE."
            )
        if template is not None:
            picture = template
        elif style.template_pack:
            picture = self.tools.packs.path(style.template_pack, style.template_file)
        elif card.needs_canvas:
            raise TemplateError(f"{card.title} needs a picture to paint into.", "Give --template IMAGE or --style ID.")
        else:
            return None, (), ()
        photo, faces, _ = self._opened(picture, notes)
        return photo.pixels, faces, scene.assign(faces, request.people, request.slots)

    def _painted(self, sitting: Sitting, shots: Sequence[Shot], tick: Tick) -> Iterator[Portrait]:
        engine, request = sitting.engine, sitting.request
        used = {*engine.card.packs, *(sitting.fusion.engine.card.packs if sitting.fusion else ())}
        packs = {id: self.tools.packs.revision(id) for id in sorted(used)}
        started = time.perf_counter()
        before = len(sitting.shots) - len(shots)  # made earlier
        painted = scene.paint(
            engine,
            sitting.identities,
            sitting.style,
            shots,
            sitting.canvas,
            sitting.faces,
            sitting.slots,
            sitting.words,
        )
        for done, (shot, pixels) in enumerate(painted):
            tick("painting", before + done, len(sitting.shots))
            finished, unfinished, fused = self._fused(sitting, shot, pixels)
            recipe = {
                "engine": engine.card.name,
                "involved": list(engine.card.involved),
                # not where it lies: that is nobody else's business
                "base": Path(request.base or self.app.base).name if engine.card.bases else "",
                "packs": packs,
                "style": sitting.style.id,
                "seed": request.seed,
                "shot": provenance.told(asdict(shot)),
                "faces": list(sitting.slots),
                "seconds": round(time.perf_counter() - started, 3),
            } | fused
            if sitting.words:
                recipe["prompts"] = [prompt for prompt, _ in sitting.words]
            started = time.perf_counter()
            yield Portrait(
                id=sitting.id(shot.index),
                people=request.people,
                pixels=finished,
                before_finish=unfinished,
                slots=sitting.slots,
                recipe=recipe,
            )
        tick("painting", len(sitting.shots), len(sitting.shots))

    def _fused(self, sitting: Sitting, shot: Shot, painted: Pixels) -> tuple[Pixels, Pixels | None, dict[str, object]]:
        """The finished picture, the one before fusion if there was any, and what the recipe says of it."""
        if (how := sitting.fusion) is None:
            return *finish(painted, ()), {}
        faces, slots = sitting.faces, sitting.slots
        if sitting.canvas is None:
            faces = self.tools.reader().detect(painted)
            slots = scene.assign(faces, sitting.request.people, ()) if faces else ()
        if not slots:
            return painted, None, {"fusion": {"strength": how.strength, "faces": []}}
        finished, done = how.over(painted, shot, sitting.style, faces, slots)
        return finished, painted, {"fusion": {"strength": how.strength, "faces": list(done)}}

    def _goal(self, sitting: Sitting) -> pool.Goal:
        """When to stop early. Without a budget every picture asked for is made, so nothing is ever enough."""
        request = sitting.request
        enough = (request.keep or self.app.keep) if request.budget else len(sitting.shots) + 1
        return pool.Goal(keep=enough, floor=request.floor, budget=len(sitting.shots))

    # ── small things ─────────────────────────────────────────────────────────────────────────────

    def _involved(self, picture: Path) -> tuple[str, ...]:
        """The recognisers that helped to make this picture, if it is one of ours."""
        recipe = provenance.read_recipe(picture) or {}
        if "involved" in recipe:
            return tuple(map(str, recipe["involved"]))
        cards = self.tools.ground(recipe.get("base", "")).cards  # made before recipes said all of them
        known = next((card.involved for card in cards if card.name == recipe.get("engine")), ())
        return (*known, *([str(recipe["coach"])] if recipe.get("coach") else []))

    def _reference(self, person: Person) -> Reference:
        return self.tools.judge().refer(person)

    def _intake(self, photos: Sequence[Path], tick: Tick) -> Intake:
        tools = IntakeTools(
            reader=self.tools.reader(),
            landmarker=self.tools.landmarker(),
            parser=self.tools.parser(),
            ages=self.tools.ages(),
        )
        framing = Framing(side_px=self.app.crop_px, max_enlarge=1.0)
        return intake(photos, tools, framing=framing, tick=tick)

    def _photos(self, paths: Sequence[Path]) -> list[Path]:
        photos = find(paths)
        if not photos:
            raise PhotoError(
                f"There are no pictures in {', '.join(map(str, paths))}.", "Give photos or folders of photos."
            )
        return photos


def _state(card: EngineCard, on: Ground, missing: Sequence[str], able: bool) -> str:
    """What a person has to do first, or "ready"."""
    base = "another base" if on.family else "a base"
    needs = [f"{base} of the family {' or '.join(card.bases)}"] * (card.name not in on.fits)
    needs += ["bash scripts/setup diffusion"] * bool(card.bases and not able)
    needs += [f"facechain packs fetch {' '.join(missing)}"] * bool(missing)
    return f"needs: {'; '.join(needs)}" if needs else "ready"


def _key(key: str) -> tuple[str, str, str]:
    parts = key.split("/")
    if len(parts) != 3:
        raise UserError(f"{key!r} does not name a portrait.", "Expected person/run/id.")
    return parts[0], parts[1], parts[2]


def _likeness(verdicts: tuple[Verdict, ...]) -> float | None:
    """Of the person least alike; None when a face is missing."""
    found = [v.likeness for v in verdicts]
    return None if None in found else min(v for v in found if v is not None)


def _veto(verdicts: tuple[Verdict, ...]) -> str:
    """Why it cannot be kept however alike it is; "" when it can."""
    why = next((verdict.why for verdict in verdicts), "").removeprefix(_DROPPED)
    return why.split(";")[0] if why.startswith((UNSAFE, _SWAPPED)) else ""


def _worth(verdicts: tuple[Verdict, ...]) -> float | None:
    """A portrait's likeness, None when it is of no use."""
    if _veto(verdicts) or any(verdict.call is not Call.SAME for verdict in verdicts):
        return None
    return _likeness(verdicts)


def _best_first(verdicts: tuple[Verdict, ...]) -> tuple[bool, float]:
    return not verdicts[0].kept, -least(verdicts)
