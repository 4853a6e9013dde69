"""Prompts of any length with (weighted:1.2) words, for one or two text encoders.

The notation is the one people know from web interfaces: (word) is 1.1 times, (word:1.3) is 1.3 times, [word] is
1/1.1 times, they nest, and a backslash makes a bracket a letter. compel cuts long prompts into windows of 77 tokens
and weighs tokens against the empty prompt; only its parser is left aside, as it reads "+", "-" and quotes as commands.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

_TOKEN = re.compile(r"\\.|:\s*(-?\d*\.?\d+)\s*\)|[()\[\]]|[^\\()\[\]:]+|:|\\")
_STEP = 1.1


def parse(prompt: str) -> tuple[tuple[str, float], ...]:
    """Pieces of text with their weights. Brackets left open count to the end, brackets never opened are letters."""
    pieces: list[list[Any]] = []
    opened: list[tuple[str, int]] = []

    def weigh(start: int, factor: float) -> None:
        for piece in pieces[start:]:
            piece[1] *= factor

    for found in _TOKEN.finditer(prompt):
        token = found[0]
        if token in "([":
            opened.append((token, len(pieces)))
        elif found[1] is not None and opened and opened[-1][0] == "(":
            weigh(opened.pop()[1], max(0.0, float(found[1])))
        elif token == ")" and opened and opened[-1][0] == "(":
            weigh(opened.pop()[1], _STEP)
        elif token == "]" and opened and opened[-1][0] == "[":
            weigh(opened.pop()[1], 1 / _STEP)
        else:
            pieces.append([token[1:] if len(token) == 2 and token[0] == "\\" else token, 1.0])
    for bracket, start in opened:
        weigh(start, _STEP if bracket == "(" else 1 / _STEP)
    return _joined(pieces)


def _joined(pieces: list[list[Any]]) -> tuple[tuple[str, float], ...]:
    made: list[tuple[str, float]] = []
    for text, weight in pieces:
        weight = round(weight, 6)
        if made and made[-1][1] == weight:
            made[-1] = (made[-1][0] + text, weight)
        else:
            made.append((text, weight))
    return tuple(piece for piece in made if piece[0].strip())


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoded:
    """What the pipeline is given in place of text; `pooled` only for SDXL. Tensors (1, 77·n, width) and (1, width)."""

    positive: Any
    negative: Any
    pooled: Any = None
    negative_pooled: Any = None

    def arguments(self) -> dict[str, Any]:
        given = {"prompt_embeds": self.positive, "negative_prompt_embeds": self.negative}
        if self.pooled is not None:
            given |= {"pooled_prompt_embeds": self.pooled, "negative_pooled_prompt_embeds": self.negative_pooled}
        return given


class Encoder:
    """The text encoders of one pipeline. Make a new one after their weights change: it remembers what it encoded."""

    def __init__(self, pipe: Any) -> None:
        from compel.embeddings_provider import EmbeddingsProvider, ReturnedEmbeddingsType

        self._pipe = pipe
        self._two = getattr(pipe, "text_encoder_2", None) is not None
        kind = ReturnedEmbeddingsType.LAST_HIDDEN_STATES_NORMALIZED
        pairs = [(pipe.tokenizer, pipe.text_encoder)]
        if self._two:
            kind = ReturnedEmbeddingsType.PENULTIMATE_HIDDEN_STATES_NON_NORMALIZED
            pairs.append((pipe.tokenizer_2, pipe.text_encoder_2))
        self._providers: list[Any] = [
            EmbeddingsProvider(
                tokenizer, encoder, truncate=False, returned_embeddings_type=kind, device=pipe._execution_device
            )
            for tokenizer, encoder in pairs
        ]
        self.encode = lru_cache(maxsize=64)(self._encode)

    def _encode(self, prompt: str, negative: str) -> Encoded:
        import torch

        with torch.no_grad():
            positive, against = self._tokens(prompt), self._tokens(negative)
            longest = max(positive.shape[1], against.shape[1])
            positive, against = self._padded(positive, longest), self._padded(against, longest)
            if not self._two:
                return Encoded(positive=positive, negative=against)
            pooled, negative_pooled = self._pooled(prompt), self._pooled(negative)
            if not negative.strip() and self._pipe.config.get("force_zeros_for_empty_prompt", True):
                against, negative_pooled = torch.zeros_like(against), torch.zeros_like(negative_pooled)
            return Encoded(positive=positive, negative=against, pooled=pooled, negative_pooled=negative_pooled)

    def _tokens(self, prompt: str) -> Any:
        """(1, 77·n, width); both encoders side by side, the shorter one filled up with the empty prompt."""
        import torch

        pieces = parse(prompt) or (("", 1.0),)
        texts, weights = [text for text, _ in pieces], [weight for _, weight in pieces]
        device = self._pipe._execution_device
        made = [
            provider.get_embeddings_for_weighted_prompt_fragments([texts], [weights], device=device).to(device)
            for provider in self._providers
        ]
        longest = max(one.shape[1] for one in made)
        return torch.cat([self._filled(one, longest, i) for i, one in enumerate(made)], dim=-1)

    def _padded(self, tokens: Any, length: int) -> Any:
        import torch

        if tokens.shape[1] == length:
            return tokens
        return torch.cat([tokens, *[self._tokens("")] * ((length - tokens.shape[1]) // 77)], dim=1)

    def _filled(self, tokens: Any, length: int, which: int) -> Any:
        import torch

        empty = self._providers[which].empty_z.to(tokens)
        return torch.cat([tokens, *[empty] * ((length - tokens.shape[1]) // empty.shape[1])], dim=1)

    def _pooled(self, prompt: str) -> Any:
        text = "".join(text for text, _ in parse(prompt))
        device = self._pipe._execution_device
        pooled = self._providers[1].get_pooled_embeddings([text], device=device)
        return pooled.to(device, self._pipe.unet.dtype)
