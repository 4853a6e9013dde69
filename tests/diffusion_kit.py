"""An engine on a base that adds nobody: what is around a person is under test."""

from contextlib import contextmanager

from facechain.engines.diffusion.base import BaseRef
from facechain.engines.diffusion.params import SamplingParams
from facechain.engines.diffusion.sampling import Conditioning
from facechain.engines.diffusion.session import DiffusionContext, DiffusionEngine
from facechain.engines.lora.card import CARD
from facechain.protocols import Identity
from facechain.types import Style


class Quick(SamplingParams):
    steps: int = 2
    sampler: str = "euler_a"


class Bare(DiffusionEngine):
    card, params, batches = CARD, Quick, True

    def __init__(self, context, prompt=None):
        self.context, self._prompt = context, prompt

    @contextmanager
    def adapter(self, pipe, identity, style):
        yield lambda shot, params, canvas: Conditioning(pipe=pipe)

    def prompt(self, shot, identity, style):
        return self._prompt(identity) if self._prompt else shot.prompt

    def session(self, person="nobody", style=None):
        known = Identity(person=person, engine="bare", digest="", data=None)
        return self.sitting(known, style or Style(id="test", title="test", licence="none"))


def context(folder, **more):
    return DiffusionContext(base=lambda: BaseRef(path=folder), **more)
