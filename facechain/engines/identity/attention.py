"""Face tokens beside the text tokens in a UNet's cross-attention, put in for a sitting and taken out after it.

The keys and values of the face tokens are computed once a sitting, not at every step. At scale 0 the base's own
processor runs, so no bit differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from facechain.engines.identity.layout import Layout
from facechain.engines.identity.perceiver import heads


def layout_of(unet: Any) -> Layout:
    """The layout of a diffusers UNet: its cross-attention blocks in adapter order."""
    paths = [name.removesuffix(".attn2.processor") for name in unet.attn_processors if ".attn2." in name]
    context = unet.config.cross_attention_dim
    family = {768: "sd15", 1024: "sd21", 2048: "sdxl"}.get(context, f"{context}-wide")
    if context != 2048 and getattr(unet.config, "addition_embed_type", None) == "text_time":
        family = f"sdxl-like, {context}-wide"
    blocks = tuple((path, unet.get_submodule(f"{path}.attn2").to_q.out_features) for path in paths)
    return Layout(family=family, context=context, blocks=blocks)


@dataclass(kw_only=True)
class Dial:
    """How strongly, and where, the face acts on the picture being painted; a sitting has one."""

    scale: float = 1.0
    mask: Tensor | None = None  # (1, H, W) in 0…1: where the face may act; None: everywhere
    mode: str = "add"  # or "orthogonal", "orthogonal_v2" (PuLID)
    identity_tokens: int = 5  # how many of the tokens carry identity (PuLID's orthogonal_v2)


class FaceAttention:
    """An attention processor for one cross-attention layer: text as usual, plus the face."""

    def __init__(self, original: Any, key: Tensor, value: Tensor, dial: Dial) -> None:
        """`key`, `value`: (2, tokens, inner), first the negative face, then the person's."""
        self.original, self.key, self.value, self.dial = original, key, value, dial

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        **rest: Any,
    ) -> Tensor:
        if self.dial.scale == 0:
            return self.original(attn, hidden_states, encoder_hidden_states, attention_mask, temb, **rest)
        if encoder_hidden_states is None:
            raise ValueError("face attention belongs in cross-attention")
        query = heads(attn.to_q(hidden_states), attn.heads)
        key = heads(attn.to_k(encoder_hidden_states), attn.heads)
        value = heads(attn.to_v(encoder_hidden_states), attn.heads)
        if attention_mask is not None:
            mask = attn.prepare_attention_mask(attention_mask, key.shape[2], len(hidden_states))
            attention_mask = mask.view(len(hidden_states), attn.heads, -1, mask.shape[-1])
        text = functional.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask)
        face_key, face_value = (heads(for_rows(x, query), attn.heads) for x in (self.key, self.value))
        face = functional.scaled_dot_product_attention(query, face_key, face_value)
        joined = self._join(text.transpose(1, 2).flatten(2), face.transpose(1, 2).flatten(2), query, face_key)
        out = attn.to_out[1](attn.to_out[0](joined))
        if attn.residual_connection:
            out = out + hidden_states
        return out / attn.rescale_output_factor

    def _join(self, text: Tensor, face: Tensor, query: Tensor, face_key: Tensor) -> Tensor:
        dial = self.dial
        if dial.mode != "add":
            # What the face adds along the text's own direction is taken off (PuLID), all of it or, in v2, in
            # proportion to how little attention a pixel pays to the identity tokens.
            t, f = text.float(), face.float()
            # SDXL's empty prompt is all zeros and has no direction.
            length = (t * t).sum(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
            along = (t * f).sum(dim=1, keepdim=True) / length * t
            if dial.mode == "orthogonal_v2":
                # unscaled logits, as published
                heed = (query @ face_key.transpose(-2, -1)).softmax(dim=-1).mean(dim=1)
                along = along * (1 - heed[..., : dial.identity_tokens].sum(dim=-1, keepdim=True))
            face = (f - along).to(text.dtype)
        if dial.mask is not None:
            face = face * shrink(dial.mask, face.shape[1]).to(face)
        return text + dial.scale * face


def for_rows(pair: Tensor, like: Tensor) -> Tensor:
    """(2, …) negative and person's rows, laid out as the batch of `like`: [negative, person] or person alone."""
    pair = pair.to(like.device, like.dtype)
    return pair[1:] if len(like) == 1 else pair.repeat_interleave(len(like) // 2, dim=0)


def shrink(mask: Tensor, count: int) -> Tensor:
    """A mask (1, H, W) as (1, count, 1) attention positions of the same aspect."""
    _, height, width = mask.shape
    rows = max(1, round((count * height / width) ** 0.5))
    return functional.interpolate(mask[None].float(), (rows, count // rows), mode="area").flatten(2).transpose(1, 2)


class FaceLayers:
    """The face attentions of one sitting."""

    def __init__(self, unet: Any, weights: Mapping[str, Tensor], names: tuple[str, str]) -> None:
        """`weights` holds `{2k + 1}.{name}.weight` for both `names`, key then value."""
        self.dial = Dial()
        self.layers: dict[str, FaceAttention] = {}
        self._given: Tensor | None = None
        self._maps = []
        for k, (path, _) in enumerate(layout_of(unet).blocks):
            name = f"{path}.attn2.processor"
            place = next(unet.get_submodule(f"{path}.attn2.to_q").parameters())
            self._maps.append([weights[f"{2 * k + 1}.{n}.weight"].to(place.device).float() for n in names])
            self.layers[name] = FaceAttention(unet.attn_processors[name], place.data[:0], place.data[:0], self.dial)

    @torch.no_grad()
    def give(self, tokens: Tensor) -> None:
        """`tokens`: (2, N, context), negative first; the same once more cost nothing."""
        if tokens is self._given:
            return
        self._given = tokens
        for layer, (key, value) in zip(self.layers.values(), self._maps, strict=True):
            place, given = layer.key, tokens.to(key.device).float()
            layer.key, layer.value = (given @ key.T).to(place), (given @ value.T).to(place)


@contextmanager
def face_in(
    unet: Any, weights: Mapping[str, Tensor], names: tuple[str, str], tokens: Tensor | None = None
) -> Iterator[FaceLayers]:
    """Face attention in every cross-attention of `unet` until the block ends."""
    original = dict(unet.attn_processors)
    faces = FaceLayers(unet, weights, names)
    if tokens is not None:
        faces.give(tokens)
    try:
        unet.set_attn_processor({**original, **faces.layers})
        yield faces
    finally:
        unet.set_attn_processor(original)
