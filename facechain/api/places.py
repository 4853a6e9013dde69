"""What may be said outside of where things are on this machine: addresses instead of paths, ids instead of files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from facechain import bootstrap
from facechain.api.schemas import readable
from facechain.errors import Missing, UserError
from facechain.studio import Studio

_OWN = ("folder", "out")  # of no use to who is not at this machine
_FILES = ("vae", "lora")  # settings that name a file
_MACHINES = ("processes",)  # and those that take more of the machine than one job's share


class Shown:
    """What a job took and gave, as its owner may see it from afar."""

    def __init__(self, owner: str) -> None:
        self._home = bootstrap.workspace_folder(owner).absolute()

    def picture(self, path: str) -> str | None:
        """Address of a portrait; None for any other file."""
        parts = self._parts(path)
        if len(parts) == 5 and (parts[0], parts[2]) == ("people", "portraits"):
            return f"/v1/portraits/{parts[1]}/{parts[3]}/{Path(parts[4]).stem}/picture"
        return None

    def text(self, text: str) -> str:
        """Messages may name files; here they name them from the workspace."""
        return readable(text).replace(f"{self._home}/", "").replace(str(self._home), "the workspace")

    def value(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return dict(self._pair(name, item) for name, item in value.items() if name not in _OWN)
        if isinstance(value, (list, tuple)):
            return [self.value(item) for item in value]
        return self.text(value) if isinstance(value, str) else value

    def _pair(self, name: str, value: Any) -> tuple[str, Any]:
        if name == "path":
            address = self.picture(value)
            return ("picture", address) if address else ("name", _name(value))
        if name == "paths":
            return "names", [_name(path) for path in value]
        if name == "template":
            return name, _name(value)
        return name, self.value(value)

    def _parts(self, path: str) -> tuple[str, ...]:
        whole = Path(path).absolute()
        return whole.relative_to(self._home).parts if whole.is_relative_to(self._home) else ()


def _name(path: str) -> str:
    return readable(Path(path).name)


def check_pack(studio: Studio, id: str) -> None:
    if id not in studio.tools.packs.manifests:
        raise Missing(f"There is no pack {id!r}.", "See the list of packs.")


def check_base(studio: Studio, id: str) -> None:
    """At this machine a base may be any file; from afar only a pack, or files could be probed by name."""
    if id:
        check_pack(studio, id)


def check_settings(studio: Studio, settings: Mapping[str, Any]) -> None:
    """Raises UserError for settings that are only for who is at this machine, Missing for a pack there is not."""
    for name, value in settings.items():
        if name in (*_FILES, *_MACHINES):
            raise UserError(f"The setting {name!r} is for who sits at this machine.", "Leave it out.")
        if name.startswith("controlnet_"):
            check_pack(studio, str(value))
