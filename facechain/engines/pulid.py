"""PuLID v1 and v1.1 (Guo et al. 2024) on SDXL: identity that disturbs the rest of the picture little."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from facechain.engines.identity.checkpoint import open_checkpoint
from facechain.engines.identity.evidence import learn_faces
from facechain.engines.identity.paint import paint, settings, worded
from facechain.errors import EngineError
from facechain.protocols import EngineCard, FaceReader, Identity, Paint, Tick, silent
from facechain.types import Canvas, Crop, Person, Pixels, Shot, Style

KINDS = ("pulid-v1", "pulid-v1.1")

CARD = EngineCard(
    name="pulid",
    title="PuLID",
    learns="instantly",
    bases=("sdxl",),
    min_photos=1,
    packs=("pulid", "antelopev2"),
    needs_canvas=False,
    paints_canvas=False,
    recogniser="glintr100",
    summary="Keeps style and background; made for fast bases. Also needs the EVA02-CLIP-L image tower. "
    "Non-commercial, as its face recogniser is.",
)


class FaceTower(Protocol):
    """EVA02-CLIP-L-14-336's image side, over prepared faces; not part of PuLID's files."""

    def __call__(self, crops: Sequence[Crop]) -> tuple[Any, Any]:
        """(photos, 768) class features and (5, photos, 577, 1024) hidden levels, as float32 arrays or tensors."""
        ...


@dataclass(frozen=True, kw_only=True)
class PulidSettings:
    scale: float = 0.8
    preset: str = "fidelity"  # or "style", "plain"; see PRESETS
    mix: bool = False  # v1: take every token of the further photos, not only their face-vector tokens
    most_photos: int = 4
    sampler: str = "dpmpp_2m"
    steps: int = 4
    guidance: float = 1.2


# preset -> how the face joins the text attention, and how many empty tokens dilute it
PRESETS = {"fidelity": ("orthogonal_v2", 8), "style": ("orthogonal", 16), "plain": ("add", 0)}


class PulidEngine:
    card = CARD

    def __init__(
        self,
        *,
        base: Callable[[], Any],
        checkpoint: Path,
        reader: FaceReader,
        tower: FaceTower | None = None,
        recogniser: str = "",
    ) -> None:
        """`base` gives a diffusers SDXL pipeline; `tower` looks at the photos through EVA02-CLIP."""
        self._base, self._path, self._reader = base, checkpoint, reader
        self._tower, self._recogniser = tower, recogniser

    def learn(self, person: Person, tick: Tick = silent) -> Identity:
        kind = open_checkpoint(self._path, kinds=KINDS, layout=None).kind
        return learn_faces(person, "pulid", kind, self._reader, tick, self._recogniser, file=self._path.name)

    @contextmanager
    def sitting(self, identity: Identity, style: Style) -> Iterator[Paint]:
        from facechain.engines.identity.attention import face_in, layout_of
        from facechain.engines.identity.pulid_tokens import PulidTokens

        if self._tower is None:
            raise EngineError(
                "PuLID also looks at the face through EVA02-CLIP-L-14-336, which its own files do not hold.",
                "Give a face tower, or use the instantid engine.",
            )
        pipe = self._base()
        file = open_checkpoint(self._path, kinds=KINDS, layout=layout_of(pipe.unet))
        encoder = PulidTokens(file, identity.data, self._tower)
        with face_in(pipe.unet, file.under("id_adapter_attn_layers."), ("id_to_k", "id_to_v")) as face:

            def one(shot: Shot, onto: Canvas | None = None) -> Pixels:
                chosen = settings(PulidSettings, style, shot)
                if chosen.preset not in PRESETS:
                    raise EngineError(f"There is no preset {chosen.preset!r}.", f"Known: {', '.join(PRESETS)}.")
                mode, empty = PRESETS[chosen.preset]
                face.give(encoder.tokens(chosen.most_photos, chosen.mix, empty))
                face.dial.scale, face.dial.mode = chosen.scale, mode
                return paint(pipe, worded(shot, style, identity.data), chosen, onto)

            yield one
