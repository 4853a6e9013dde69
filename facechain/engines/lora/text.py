"""Captions for the UNet in training: one window of 77 tokens, unweighted, as the base was trained."""

from __future__ import annotations

from typing import Any


def encoders(pipe: Any) -> list[tuple[str, Any, Any]]:
    """(part, tokenizer, text encoder), in the order their outputs stand side by side."""
    made = [("text_encoder", pipe.tokenizer, pipe.text_encoder)]
    if getattr(pipe, "text_encoder_2", None) is not None:
        made.append(("text_encoder_2", pipe.tokenizer_2, pipe.text_encoder_2))
    return made


def tokens(pipe: Any, caption: str) -> Any:
    """(encoders, 77) int64."""
    import torch

    return torch.cat(
        [
            tokenizer(caption, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
            for _, tokenizer, _ in encoders(pipe)
        ]
    )


def embeddings(pipe: Any, ids: Any, grad: bool = False) -> dict[str, Any]:
    """ids (B, encoders, 77) → text (B, 77, width), and pooled (B, width) for SDXL."""
    import torch

    with torch.set_grad_enabled(grad):
        models = encoders(pipe)
        if len(models) == 1:
            model = models[0][2]
            return {"text": model(ids[:, 0].to(model.device))[0]}
        outputs = [
            model(ids[:, i].to(model.device), output_hidden_states=True) for i, (_, _, model) in enumerate(models)
        ]
        text = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
        return {"text": text, "pooled": outputs[1].text_embeds}
