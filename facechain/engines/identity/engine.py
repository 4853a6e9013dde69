"""What all one-photo engines have in common: published weights over a base, and people read in milliseconds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, ClassVar, cast

from facechain.engines.diffusion.lead import Lead, lead_to
from facechain.engines.diffusion.params import SamplingParams
from facechain.engines.diffusion.session import Condition, DiffusionContext, DiffusionEngine
from facechain.engines.identity.checkpoint import Checkpoint, open_checkpoint
from facechain.engines.identity.evidence import learn_faces
from facechain.protocols import EngineCard, FaceReader, Identity, Tick, silent
from facechain.types import Person, Style

# The adapters change weights between shots, which accelerate's hooks move out of reach.
NO_LAYERWISE_OFFLOAD = {"offload": "its adapter needs the base's weights in one place"}


class OnePhotoEngine(DiffusionEngine):
    """Subclasses name their `kinds` of checkpoint and their parameters, and write `conditioned`."""

    kinds: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        *,
        context: DiffusionContext,
        checkpoint: Path,
        card: EngineCard,
        params: type[SamplingParams] | None = None,
        reader: FaceReader | None = None,
        kind: str = "",
        recogniser: str = "",
        revision: str = "",
    ) -> None:
        """`params` are the card's unless the checkpoint is of a kind with others.

        `kind` says which file this is where its name does not, `revision` names its bytes without reading them, and
        `recogniser` is for weights trained on another recogniser than the published ones.
        """
        self.context, self.card = context, card
        self.params = params or cast(type[SamplingParams], card.params)
        self._path, self._reader, self._kind = checkpoint, reader, kind
        self._recogniser, self._revision = recogniser, revision

    def learn(self, person: Person, tick: Tick = silent) -> Identity:
        kind = self._kind or open_checkpoint(self._path, kinds=self.kinds, layout=None).kind
        weights = self._revision or self._path.name
        return learn_faces(person, self.card.name, kind, self._reader, tick, self._recogniser, weights=weights)

    @contextmanager
    def adapter(self, pipe: Any, identity: Identity, style: Style) -> Iterator[Condition]:
        from facechain.engines.identity.attention import layout_of

        file = open_checkpoint(self._path, kinds=self.kinds, layout=layout_of(pipe.unet), kind=self._kind)
        with self.conditioned(pipe, file, identity, style) as condition:
            yield condition

    def face_guidance(self, identity: Identity) -> Lead:
        return lead_to(identity.data.fused, self._reader)

    def conditioned(
        self, pipe: Any, file: Checkpoint, identity: Identity, style: Style
    ) -> AbstractContextManager[Condition]:
        raise NotImplementedError
