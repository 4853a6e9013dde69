"""facechain jobs list | show | cancel | retry | move | work"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facechain.cli.options import Json

if TYPE_CHECKING:
    from facechain.types import Job

app = typer.Typer(help="Long work that outlives the page, the process and the machine.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(help="The job's id; see `facechain jobs list`.")]


@app.command("list")
def list_(
    state: Annotated[list[str] | None, typer.Option(help="queued, running, done, failed or cancelled.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
    before: Annotated[str, typer.Option(help="The last id of the page before.")] = "",
    as_json: Json = False,
) -> None:
    """Jobs, newest first: what they are doing, how far they are, and what went wrong."""
    from facechain.bootstrap import jobs
    from facechain.cli import show

    queue = jobs()
    found = queue.list(states=state or (), limit=limit, before=before or None)
    workers = queue.workers()
    if as_json:
        typer.echo(show.as_json({"jobs": found, "workers": workers}))
        return
    if found:
        rows = [(job.id, job.kind, job.owner or "–", job.state.value, doing(job)) for job in found]
        show.table("", ("job", "kind", "user", "state", "doing"), rows)
    else:
        typer.echo("No jobs yet. Next: facechain make NAME --queue, or facechain train NAME --queue")
    waiting = any(job.state == "queued" for job in found)
    if waiting and not workers:
        typer.echo("\nNobody works on them. Next: facechain jobs work")


@app.command("show")
def show_(
    id: Id,
    follow: Annotated[bool, typer.Option("--follow", help="Stay until it has ended.")] = False,
    as_json: Json = False,
) -> None:
    """One job: progress, result, or what went wrong and what to do."""
    from facechain.bootstrap import jobs
    from facechain.cli import progress, show

    job = jobs().get(id)
    if follow:
        with progress.progress(as_json) as tick:
            for job in jobs().watch(id):
                tick(job.stage or job.state.value, job.done, max(job.total, 1))
    typer.echo(show.as_json(job) if as_json else "\n".join(_about(job)))


@app.command()
def cancel(id: Id, as_json: Json = False) -> None:
    """Stop a job: at once if it waits, at its next step if it runs. What was finished is kept."""
    from facechain.bootstrap import jobs

    _say(jobs().cancel(id), as_json)


@app.command()
def retry(id: Id, as_json: Json = False) -> None:
    """Try a failed or cancelled job again; it goes on with what was finished."""
    from facechain.bootstrap import jobs

    _say(jobs().retry(id), as_json)


@app.command()
def move(
    id: Id, position: Annotated[int, typer.Argument(min=1, help="Its new place; 1 is next.")], as_json: Json = False
) -> None:
    """Change the order of waiting jobs."""
    from facechain.bootstrap import jobs

    _say(jobs().move(id, position), as_json)


@app.command()
def work(
    device: Annotated[str, typer.Option(help="Only this one, e.g. cpu or cuda-0; by default one worker each.")] = "",
    until_idle: Annotated[bool, typer.Option("--until-idle", help="Leave when nothing waits.")] = False,
    with_parent: Annotated[
        int, typer.Option(help="The process that started it; when that is gone, leave as soon as nothing waits.")
    ] = 0,
    log: Annotated[bool, typer.Option("--log", help="Log to .jobs/worker-DEVICE.log instead of printing.")] = False,
) -> None:
    """Do the jobs, one worker a device, models kept warm. Ctrl-C puts what was being done back into the queue."""
    from facechain.bootstrap import work as run

    run(device, until_idle=until_idle, parent=with_parent, log=log, say=lambda line: print(line, flush=True))


def leave(kind: str, arguments: Mapping[str, Any], as_json: bool) -> None:
    """Puts a job into the queue and says what comes next."""
    from facechain.bootstrap import jobs
    from facechain.cli import show

    queue = jobs()
    given = json.loads(show.as_json(arguments))
    job = queue.submit(kind, {name: value for name, value in given.items() if value is not None})
    if as_json:
        typer.echo(show.as_json(job))
        return
    typer.echo(f"{job.id}: {doing(job)}.\nWatch it: facechain jobs show {job.id} --follow")
    if not queue.workers():
        typer.echo("Nobody works on the queue yet. Next: facechain jobs work")


def path(given: Path | str | None) -> str:
    """A file or folder as a worker elsewhere finds it; what is not here, such as a pack's id, stays as it is."""
    return str(Path(given).absolute()) if given and (isinstance(given, Path) or Path(given).exists()) else given or ""


def doing(job: Job) -> str:
    """One line: where it is in the queue, how far it is, or how it ended."""
    match job.state:
        case "queued":
            return f"number {job.position} in line"
        case "running":
            far = f"{job.stage} ({job.done} of {job.total})" if job.total else job.stage or "starting"
            left = "" if job.eta_s is None else f", about {job.eta_s:.0f} s left"
            return f"{far}{', stopping' if job.cancelling else left}"
        case "done":
            return str((job.result or {}).get("summary", "done"))
        case _:
            return job.error


def _about(job: Job) -> list[str]:
    lines = [f"{job.id}: {job.kind}, {job.state.value}. {doing(job)}"]
    lines += [f"Next: {job.next_step}"] if job.next_step else []
    lines += [f"Newest picture: {job.preview}"] if job.preview else []
    took = f", ended {job.ended:%Y-%m-%d %H:%M:%S}" if job.ended else ""
    return [*lines, f"Asked for {job.created:%Y-%m-%d %H:%M:%S} UTC{took}, attempt {job.attempt}."]


def _say(job: Job, as_json: bool) -> None:
    from facechain.cli import show

    typer.echo(show.as_json(job) if as_json else f"{job.id}: {job.state.value}. {doing(job)}")
