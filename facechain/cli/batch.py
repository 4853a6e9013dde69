"""facechain batch"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from facechain.cli.options import Json, Queue
from facechain.cli.text import plain
from facechain.limits import PORTRAITS, SEED


def batch(
    file: Annotated[
        Path,
        typer.Argument(help="A table (.csv, .jsonl, .xlsx, .ods), or a directory with one photo folder per person."),
    ],
    style: Annotated[list[str] | None, typer.Option(help="For lines that name none; may be given again.")] = None,
    count: Annotated[int, typer.Option(min=1, max=PORTRAITS, help="Portraits each, for lines that do not say.")] = 4,
    engine: Annotated[str, typer.Option(help="For lines that name none; see `facechain engines`.")] = "",
    seed: Annotated[int, typer.Option(min=0, max=SEED, help="Another seed, other pictures.")] = 0,
    encoding: Annotated[str, typer.Option(help="Of a .csv or .jsonl file, e.g. gbk; detected when empty.")] = "",
    format: Annotated[str, typer.Option(help="png, jpeg or webp.")] = "png",
    report: Annotated[Path | None, typer.Option(help="Where the report goes, .csv or .json; else beside FILE.")] = None,
    cluster: Annotated[str, typer.Option(help="Work on a Ray cluster: local, or its address.")] = "",
    workers: Annotated[int, typer.Option(min=0, help="Workers of the cluster in all; 0 is one a device.")] = 0,
    queue: Queue = False,
    as_json: Json = False,
) -> None:
    """Make portraits of many people in many styles; stopped or killed, the same command finishes it."""
    from facechain import bootstrap
    from facechain.cli import jobs, progress, show
    from facechain.errors import UserError

    asked = {
        "styles": style or [],
        "count": count,
        "engine": engine,
        "seed": seed,
        "encoding": encoding,
        "format": format,
    }
    where = {"file": jobs.path(file), "report": jobs.path(report), "cluster": cluster, "workers": workers}
    given = bootstrap.batch_of({**asked, **where})

    def say(line: str) -> None:
        print(plain(line), file=sys.stderr)

    if queue:
        bootstrap.batch_orders(given, say)
        jobs.leave("batch", {**asked, **where}, as_json)
        return
    with progress.progress(as_json) as tick:
        outcomes = bootstrap.batch(given, tick=tick, say=say)
    if as_json:
        typer.echo(show.as_json({"report": given.report_path, "outcomes": outcomes}))
    else:
        columns = ("line", "people", "style", "made", "passed", "kept", "why")
        rows = [(o.line, o.people, o.style, f"{o.made} of {o.asked}", o.passed, o.kept, o.why) for o in outcomes]
        show.table("", columns, rows)
        made, all_ = sum(o.made for o in outcomes), sum(o.asked for o in outcomes)
        typer.echo(f"\n{made} of {all_} portraits are made. The report is {given.report_path}")
    if missed := sum(outcome.missed for outcome in outcomes):
        raise UserError(f"{missed} portraits were missed.", "The report says why; the same command makes what is left.")
