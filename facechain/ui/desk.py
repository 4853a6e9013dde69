"""What a handler works with: whose studio, whose jobs, and errors that say what to do."""

from __future__ import annotations

import functools
import html
import logging
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from facechain import bootstrap
from facechain.api.uploads import Uploads
from facechain.errors import Cancelled, FaceChainError, UserError
from facechain.studio import Studio
from facechain.types import Job, JobState
from facechain.ui.phrases import Words

if TYPE_CHECKING:
    from facechain.ui.watch import Watch

OPEN = (JobState.QUEUED, JobState.RUNNING)
ROOM = "drops"  # folder of the pictures dropped on a page; they stay after a job has looked at them
log = logging.getLogger("facechain.ui")


class Changes:
    """Counts, per owner, what was changed by a click, so that every page of theirs draws itself anew."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = defaultdict(int)
        self._lock = threading.Lock()

    def add(self, owner: str) -> None:
        with self._lock:
            self._counts[owner] += 1

    def of(self, owner: str) -> int:
        return self._counts[owner]


CHANGES = Changes()


@dataclass(frozen=True, kw_only=True)
class Desk:
    """One owner's view of everything, in one language."""

    owner: str
    w: Words

    @property
    def faces(self) -> Studio:
        return bootstrap.studio(self.owner)

    @property
    def uploads(self) -> Uploads:
        return Uploads(bootstrap.workspace_folder(self.owner), ROOM)

    def submit(self, kind: str, arguments: dict[str, Any]) -> Job:
        job = bootstrap.jobs().submit(kind, arguments, owner=self.owner)
        CHANGES.add(self.owner)
        return job

    def recent(self, *kinds: str) -> list[Job]:
        """Newest first."""
        found = bootstrap.jobs().list(owner=self.owner, limit=100)
        return [job for job in found if not kinds or job.kind in kinds]

    def job(self, id: str) -> Job:
        return bootstrap.jobs().get(id, owner=self.owner)

    def stuck(self) -> bool:
        """Whether something waits and nobody is there to do it."""
        return any(job.state in OPEN for job in self.recent()) and not bootstrap.jobs().workers()

    def check_base(self, named: str) -> str:
        """At this machine a base may be any file; from afar only a model by its id, or files could be probed by name.

        Raises UserError for others.
        """
        named = named.strip()
        if named and self.owner and named not in self.faces.tools.packs.manifests:
            raise UserError(self.w("base.far"), self.w("base.far.next"))
        return named

    def own_files(self, lines: str) -> list[str]:
        """Files of this machine, one a line. Raises UserError from afar, where they could be probed by name."""
        files = [line.strip() for line in lines.splitlines() if line.strip()]
        if files and self.owner:
            raise UserError(self.w("files.far"), self.w("files.far.next"))
        return files

    def changed(self) -> None:
        CHANGES.add(self.owner)


@dataclass(kw_only=True)
class Shop:
    """What a tab is built with; one a page."""

    w: Words
    watch: Watch
    blocks: gr.Blocks
    safe_only: gr.Checkbox  # shown under Models, obeyed by Create

    def desk(self, request: gr.Request) -> Desk:
        """Raises UserError when it is nobody's request: "" is who sits at the machine, None is nobody."""
        if request.username is None:
            raise UserError("Nobody is signed in.", "Open the page again.")
        return Desk(owner=request.username, w=self.w)

    def guarded(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        """Errors become a message for the person; ours are logged too."""

        @functools.wraps(handler)
        def run(*arguments: Any, **named: Any) -> Any:
            try:
                return handler(*arguments, **named)
            except gr.Error:
                raise
            except Cancelled as stopped:
                raise gr.Error(toast(str(stopped)), title=self.w("error.stopped"), print_exception=False) from None
            except FaceChainError as error:
                raise gr.Error(toast(said(error)), title=self.w("error.title"), print_exception=False) from None
            except Exception as error:
                log.exception("internal error")
                what = self.w("error.ours", what=f"{type(error).__name__}: {error}")
                raise gr.Error(toast(what), title=self.w("error.title"), print_exception=False) from None

        return run

    def on(
        self, event: Callable[..., Any], handler: Callable[..., Any], inputs: Any = None, outputs: Any = None
    ) -> Any:
        """Binds a handler the pages' own way: no spinners over boards, not an endpoint for others."""
        return event(
            self.guarded(handler), inputs, outputs, show_progress="hidden", api_visibility="private", queue=True
        )

    def look_at(self, event: Callable[..., Any], id: str) -> None:
        """Scrolls there, for results that come in beside or below what was clicked."""
        event(None, js=f"() => document.getElementById('{id}').scrollIntoView({{behavior: 'smooth', block: 'start'}})")

    def draw(self, event: Callable[..., Any], render: Callable[..., Any], inputs: Any, outputs: Any) -> Any:
        """Binds `render(desk, *inputs)`."""

        def handler(request: gr.Request, *values: Any) -> Any:
            return render(self.desk(request), *values)

        return self.on(event, handler, inputs, outputs)


def toast(text: str) -> str:
    """For gr.Error, gr.Warning and gr.Info, which show their message as HTML; people's text is never markup."""
    return html.escape(text, quote=False)


def said(error: FaceChainError) -> str:
    return f"{error.what} {error.next_step}".strip()
