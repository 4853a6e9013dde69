"""Arc2Face's prompt: a fixed sentence whose word "id" is replaced by the face itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from facechain.engines.identity.folder import open_net
from facechain.errors import EngineError

SENTENCE = "photo of a id person"
WORD = "id"


def with_weights(like: Any, weights: dict[str, Tensor]) -> Any:
    """A text encoder of the same build as `like` with these weights; names may carry `text_model.` there or not.

    transformers 5 dropped that prefix from CLIPTextModel while the published file keeps it.
    """
    place = next(like.parameters())
    weights = {key: value for key, value in weights.items() if not key.endswith("position_ids")}
    prefix = "text_model." if any(key.startswith("text_model.") for key in like.state_dict()) else ""
    named = {prefix + key: value.to(place.device, place.dtype) for key, value in weights.items()}
    made = type(like)(like.config)
    made.load_state_dict(named, strict=True)
    return made.to(place.device, place.dtype).eval().requires_grad_(False)


def open_unet(folder: Path, like: Any) -> Any:
    """The UNet in a diffusers folder, where and as precise as `like`."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    context = like.config.cross_attention_dim
    return open_net(UNet2DConditionModel, folder, "Arc2Face's UNet", context, like.device, like.dtype)


@torch.no_grad()
def face_prompt(tokenizer: Any, encoder: Any, vector: NDArray, scale: float = 1.0) -> Tensor:
    """Prompt embeddings (1, 77, width) of a unit-length face vector, zero-padded to the encoder's width.

    At `scale` 0 the word stays as it was, between 0 and 1 the two are mixed.
    """
    word = tokenizer(WORD, add_special_tokens=False).input_ids
    ids = tokenizer(
        SENTENCE, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
    ).input_ids.to(encoder.device)
    places = ids == word[0]
    if len(word) != 1 or places.sum() != 1:
        raise EngineError(f"This tokenizer does not know {WORD!r} as one word.", "Use CLIP's own tokenizer.")
    words = encoder.get_input_embeddings()
    if len(vector) > words.embedding_dim:
        raise EngineError(
            f"A face of {len(vector)} numbers does not fit tokens {words.embedding_dim} wide.", "Use an SD 1.5 base."
        )
    face = torch.zeros(words.embedding_dim, device=encoder.device, dtype=encoder.dtype)
    face[: len(vector)] = torch.from_numpy(vector).to(face)

    def replaced(_: Any, __: Any, embeddings: Tensor) -> Tensor:
        return torch.where(places[..., None], torch.lerp(embeddings, face.expand_as(embeddings), scale), embeddings)

    handle = words.register_forward_hook(replaced)
    try:
        return encoder(ids)[0]
    finally:
        handle.remove()
