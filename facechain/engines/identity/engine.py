"""What all one-photo engines have in common: weights named once, people read in milliseconds, one sitting at a time."""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, ClassVar

from facechain.engines.diffusion.lead import Lead, lead_to
from facechain.engines.identity.begin import Nets
from facechain.engines.identity.checkpoint import Checkpoint, open_checkpoint
from facechain.engines.identity.evidence import learn_faces
from facechain.errors import EngineError
from facechain.protocols import EngineCard, FaceReader, Identity, Paint, Tick, silent
from facechain.types import Person, Style


class OnePhotoEngine:
    """An engine that paints with published weights over a base, and learns by reading faces.

    Subclasses name their `kinds` of checkpoint and write `_paints`, the sitting itself.
    """

    kinds: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        *,
        base: Callable[[], Any],
        checkpoint: Path,
        card: EngineCard,
        reader: FaceReader | None = None,
        kind: str = "",
        recogniser: str = "",
        revision: str = "",
        controlnets: Nets | None = None,
    ) -> None:
        """`base` gives the diffusers pipeline to paint with, `controlnets` further ControlNets for it.

        `kind` says which file this is where its name does not, `revision` names its bytes without reading them, and
        `recogniser` is for weights trained on another recogniser than the published ones.
        """
        self._base, self._path, self._reader, self._kind = base, checkpoint, reader, kind
        self._recogniser, self._revision, self._controlnets = recogniser, revision, controlnets
        self.card = card

    def check(self, style: Style, options: Mapping[str, Any]) -> None:
        """Nothing beyond what the card says."""

    def learn(self, person: Person, tick: Tick = silent) -> Identity:
        kind = self._kind or open_checkpoint(self._path, kinds=self.kinds, layout=None).kind
        weights = self._revision or self._path.name
        return learn_faces(person, self.card.name, kind, self._reader, tick, self._recogniser, weights=weights)

    @contextmanager
    def sitting(self, identity: Identity, style: Style) -> Iterator[Paint]:
        from facechain.engines.diffusion.native import native
        from facechain.engines.identity.attention import layout_of

        pipe = self._base()
        with alone(pipe):
            file = open_checkpoint(self._path, kinds=self.kinds, layout=layout_of(pipe.unet), kind=self._kind)
            with self._paints(pipe, file, identity, style) as paint:
                yield lambda shot, onto=None: paint(native(shot, pipe) if onto is None else shot, onto)

    def _lead(self, identity: Identity) -> Callable[[], Lead]:
        """Whom a shot's `likeness` leads to, asked for only by shots that want it."""
        return functools.partial(lead_to, identity.data.fused, self._reader)

    def _paints(self, pipe: Any, file: Checkpoint, identity: Identity, style: Style) -> AbstractContextManager[Paint]:
        raise NotImplementedError


class _Turn:
    def __init__(self) -> None:
        self.lock, self.owner = threading.Lock(), 0


_TURNS: weakref.WeakKeyDictionary[Any, _Turn] = weakref.WeakKeyDictionary()
_TURNS_LOCK = threading.Lock()


@contextmanager
def alone(pipe: Any) -> Iterator[None]:
    """No other sitting changes this pipeline until the block ends; other threads wait for their turn."""
    with _TURNS_LOCK:
        turn = _TURNS.setdefault(pipe, _Turn())
    me = threading.get_ident()
    if turn.owner == me:
        raise EngineError("A sitting with this base is still open here.", "Leave it before the next one begins.")
    with turn.lock:
        turn.owner = me
        try:
            yield
        finally:
            turn.owner = 0
