"""The prompt with photos stacked into its class word, merged in after the first steps."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

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


def split_prompt(prompt: str, trigger: str) -> tuple[str, str]:
    """What stands before the trigger (its last word is the class word) and after it.

    A prompt without the trigger gets "a person" in front. Raises EngineError for two triggers or no class word.
    """
    parts = re.split(_alone(trigger), prompt)
    if len(parts) == 1:
        return "a person", f", {prompt}" if prompt else ""
    if len(parts) > 2:
        raise EngineError(f"The trigger {trigger!r} stands {len(parts) - 1} times.", "Use it once.")
    if not re.search(r"\w\s*$", parts[0]):
        raise EngineError(f"No class word stands before {trigger!r}.", f"Write, for example, 'a woman {trigger}'.")
    return parts[0].strip(), parts[1].strip()


def without_trigger(prompt: str, trigger: str) -> str:
    return re.sub(rf"\s*{_alone(trigger)}", "", prompt)


def _alone(word: str) -> str:
    return rf"(?<!\w){re.escape(word)}(?!\w)"


class Stacked:
    """Prompt embeddings of one shot, from the words alone and with the photos in the class word."""

    def __init__(self, pipe: Any, shot: Shot, trigger: str, tokens: Tensor, fusion: nn.Module) -> None:
        before, after = split_prompt(shot.prompt, trigger)
        words = f"{before}{after}" if after.startswith(",") else f"{before} {after}".strip()
        (self.words, self.negative, self.words_pooled, self.negative_pooled) = pipe.encode_prompt(
            prompt=words, negative_prompt=shot.negative, do_classifier_free_guidance=True
        )
        self.merged, self.merged_pooled = _stack(pipe, before, after, tokens, fusion)

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


@torch.no_grad()
def _stack(pipe: Any, before: str, after: str, tokens: Tensor, fusion: nn.Module) -> tuple[Tensor, Tensor]:
    """The class word once for every token, through both text encoders, then fused; and the pooled text."""
    embeddings, pooled, place = [], None, slice(0)
    for tokenizer, encoder in ((pipe.tokenizer, pipe.text_encoder), (pipe.tokenizer_2, pipe.text_encoder_2)):
        left = tokenizer(before, add_special_tokens=False).input_ids
        right = tokenizer(after, add_special_tokens=False).input_ids if after else []
        ids = [tokenizer.bos_token_id, *left[:-1], *[left[-1]] * len(tokens), *right, tokenizer.eos_token_id]
        if len(ids) > tokenizer.model_max_length:
            raise EngineError(
                f"The prompt with {len(tokens)} photo tokens takes {len(ids)} of {tokenizer.model_max_length} places.",
                "Shorten the prompt or set most_photos lower.",
            )
        place = slice(len(left), len(left) + len(tokens))
        ids += [tokenizer.pad_token_id] * (tokenizer.model_max_length - len(ids))
        out = encoder(torch.tensor([ids], device=encoder.device), output_hidden_states=True)
        embeddings.append(out.hidden_states[-2])
        pooled = out[0]
    stacked = torch.cat(embeddings, dim=-1)
    fused = fusion(stacked[0, place].float().cpu(), tokens.float().cpu())
    stacked[0, place] = fused.to(stacked)
    return stacked, pooled  # type: ignore[return-value]
