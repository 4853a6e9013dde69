"""The prompt with photos stacked into its class word, merged in after the first steps."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from facechain.engines.diffusion.words import Encoder, parse
from facechain.engines.identity.clip import clip_pixels
from facechain.engines.identity.evidence import Evidence
from facechain.engines.identity.photomaker_net import PhotoEncoder
from facechain.errors import EngineError
from facechain.types import Shot


def photo_tokens(encoder: PhotoEncoder, evidence: Evidence, most: int, average: bool = False) -> Tensor:
    """(photos × tokens per photo, width) of the `most` best photos; with `average` the mean over all, as if of one."""
    crops, seen = (evidence.crops, evidence.vectors) if average else (evidence.crops[:most], evidence.vectors[:most])
    vectors = torch.from_numpy(np.stack([vector.vector for vector in seen])) if seen else None
    tokens = encoder.tokens(clip_pixels([crop.pixels for crop in crops], encoder.image_px), vectors)
    if not average:
        return tokens
    return torch.einsum("p,ptw->tw", torch.tensor(evidence.shares), tokens.unflatten(0, (len(crops), -1)))


def with_trigger(prompt: str, trigger: str) -> str:
    """The prompt if it holds the trigger after a class word; without a trigger it gets "a person" in front.

    Raises EngineError for two triggers or no class word.
    """
    parts = re.split(_alone(trigger), "".join(text for text, _ in parse(prompt)))
    if len(parts) == 1:
        return f"a person {trigger}" + (f", {prompt}" if prompt else "")
    if len(parts) > 2:
        raise EngineError(f"The trigger {trigger!r} stands {len(parts) - 1} times.", "Use it once.")
    if not re.search(r"\w\s*$", parts[0]):
        raise EngineError(f"No class word stands before {trigger!r}.", f"Write, for example, 'a woman {trigger}'.")
    return prompt


def without_trigger(prompt: str, trigger: str) -> str:
    return re.sub(rf"\s*{_alone(trigger)}", "", prompt)


def _alone(word: str) -> str:
    return rf"(?<!\w){re.escape(word)}(?!\w)"


class Stacked:
    """Prompt embeddings of one shot, from the words alone and with the photos in the class word."""

    def __init__(self, pipe: Any, shot: Shot, trigger: str, tokens: Tensor, fusion: nn.Module) -> None:
        prompt = with_trigger(shot.prompt, trigger)
        encoder = Encoder(pipe)
        words = encoder.encode(without_trigger(prompt, trigger), shot.negative)
        merged, self.merged_pooled = _stack(pipe, prompt, trigger, tokens, fusion)
        self.words_pooled, self.negative_pooled = words.pooled, words.negative_pooled
        longest = max(words.positive.shape[1], merged.shape[1])
        empty = encoder.encode("", " ").positive
        # An empty negative prompt of SDXL is all zeros, however long.
        blank = empty if words.negative.any() else torch.zeros_like(empty)
        self.words, self.merged = _filled(words.positive, empty, longest), _filled(merged, empty, longest)
        self.negative = _filled(words.negative, blank, longest)

    def inputs(self, merge_after: int, guided: bool) -> dict[str, Any]:
        """Pipeline arguments: words up to and including step `merge_after` (from 0), the merged prompt after it.

        Below 0 the photos are in from the first step.
        """
        if merge_after < 0:
            return {
                "prompt_embeds": self.merged,
                "negative_prompt_embeds": self.negative,
                "pooled_prompt_embeds": self.merged_pooled,
                "negative_pooled_prompt_embeds": self.negative_pooled,
            }

        def at_step_end(_: Any, step: int, __: Any, now: dict[str, Any]) -> dict[str, Any]:
            if step == merge_after:
                now["prompt_embeds"] = torch.cat([self.negative, self.merged] if guided else [self.merged])
                now["add_text_embeds"] = torch.cat(
                    [self.negative_pooled, self.merged_pooled] if guided else [self.merged_pooled]
                )
            return now

        return {
            "prompt_embeds": self.words,
            "negative_prompt_embeds": self.negative,
            "pooled_prompt_embeds": self.words_pooled,
            "negative_pooled_prompt_embeds": self.negative_pooled,
            "callback_on_step_end": at_step_end,
            "callback_on_step_end_tensor_inputs": ["latents", "prompt_embeds", "add_text_embeds"],
        }


def _filled(embeddings: Tensor, empty: Tensor, length: int) -> Tensor:
    """(1, length, width): as many empty windows at the end as it takes."""
    return torch.cat([embeddings, *[empty] * ((length - embeddings.shape[1]) // empty.shape[1])], dim=1)


@torch.no_grad()
def _stack(pipe: Any, prompt: str, trigger: str, tokens: Tensor, fusion: nn.Module) -> tuple[Tensor, Tensor]:
    """The class word once for every photo token, through both text encoders, then fused; and the pooled text.

    A prompt of any length goes through the encoders in windows, as words do.
    """
    sides, places, pooled = [], [], None
    for tokenizer, encoder in ((pipe.tokenizer, pipe.text_encoder), (pipe.tokenizer_2, pipe.text_encoder_2)):
        ids, weights, first = _sequence(tokenizer, prompt, trigger, len(tokens))
        room = tokenizer.model_max_length - 2
        windows = []
        for start in range(0, len(ids), room):
            window = [tokenizer.bos_token_id, *ids[start : start + room], tokenizer.eos_token_id]
            windows.append([*window, *[tokenizer.pad_token_id] * (room + 2 - len(window))])
        empty = [tokenizer.bos_token_id, tokenizer.eos_token_id, *[tokenizer.pad_token_id] * room]
        out = encoder(torch.tensor([*windows, empty], device=encoder.device), output_hidden_states=True)
        seen, nothing = out.hidden_states[-2][:-1], out.hidden_states[-2][-1:]
        heavy = torch.ones(seen.shape[:2], device=seen.device, dtype=seen.dtype)
        for number, weight in enumerate(weights):
            heavy[number // room, number % room + 1] = weight
        if (heavy != 1).any():
            seen = nothing + heavy[..., None] * (seen - nothing)
        sides.append(seen.flatten(0, 1)[None])
        pooled = out[0][:1]
        places = [n // room * (room + 2) + n % room + 1 for n in range(first, first + len(tokens))]
    stacked = torch.cat(sides, dim=-1)
    fused = fusion(stacked[0, places].float().cpu(), tokens.float().cpu())
    stacked[0, places] = fused.to(stacked)
    return stacked, pooled  # type: ignore[return-value]


def _sequence(tokenizer: Any, prompt: str, trigger: str, count: int) -> tuple[list[int], list[float], int]:
    """Token numbers with the class word `count` times, their weights, and where the class word begins."""
    ids: list[int] = []
    weights: list[float] = []
    first = 0
    for text, weight in parse(prompt):
        for number, part in enumerate(re.split(_alone(trigger), text)):
            if number:
                first = len(ids) - 1
                ids, weights = ids[:-1] + [ids[-1]] * count, weights[:-1] + [weights[-1]] * count
            told = tokenizer(part, add_special_tokens=False).input_ids if part.strip() else []
            ids, weights = ids + told, weights + [weight] * len(told)
    return ids, weights, first
