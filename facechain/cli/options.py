"""Options several commands share."""

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Queue = Annotated[bool, typer.Option("--queue", help="Leave it to a worker and come back; see `facechain jobs`.")]
