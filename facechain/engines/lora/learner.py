"""One change of the weights: a function of the step's number and of nothing else, spread over the processes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from facechain.engines.lora import text
from facechain.engines.lora.adapters import Adapters
from facechain.engines.lora.examples import Batch, Examples
from facechain.engines.lora.loss import Task, error, task
from facechain.engines.lora.optimizers import OPTIMIZERS, rate
from facechain.engines.lora.settings import TrainSettings


class Learner:
    """What one step needs. `optimizer` and `adapters` are all that changes."""

    def __init__(
        self, pipe: Any, adapters: Adapters, examples: Examples, accelerator: Any, settings: TrainSettings
    ) -> None:
        from diffusers import DDPMScheduler  # type: ignore[attr-defined]

        self.pipe, self.adapters, self.accelerator = pipe, adapters, accelerator
        self.examples, self.settings = examples, settings
        self.schedule = DDPMScheduler.from_config(pipe.scheduler.config)
        optimizer = OPTIMIZERS[settings.optimizer](adapters.groups(settings), settings)
        self._rates = [group["lr"] for group in optimizer.param_groups]
        self.optimizer = accelerator.prepare(optimizer)
        self._dtype = pipe.unet.dtype

    def step(self, step: int) -> float:
        """One change of the weights; returns the mean error over all processes."""
        import torch

        settings, accelerator = self.settings, self.accelerator
        for group, full in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = full * rate(step, settings)
        mine = range(accelerator.process_index, settings.accumulate, accelerator.num_processes)
        total = torch.zeros((), device=accelerator.device)
        for place in mine:
            found = self._error(step * settings.accumulate + place) / len(mine)
            accelerator.backward(found)
            total += found.detach()
        trained = list(self.adapters.named().values())
        self._share(trained)
        accelerator.clip_grad_norm_(trained, settings.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.adapters.ema is not None:
            self.adapters.ema.step(trained)
        if accelerator.num_processes > 1:
            total = accelerator.reduce(total, "mean")
        return float(total)

    def _share(self, trained: list[Any]) -> None:
        """Gradients become their mean over all processes, in one message: low-rank weights are small."""
        import torch

        grads = [value.grad for value in trained if value.grad is not None]
        if self.accelerator.num_processes == 1 or not grads:
            return
        mean = self.accelerator.reduce(torch.cat([grad.flatten() for grad in grads]), "mean")
        for grad, part in zip(grads, mean.split([grad.numel() for grad in grads]), strict=True):
            grad.copy_(part.view_as(grad))

    def _error(self, number: int) -> Any:
        """Of batch `number`, ready for the backward pass."""
        batch = _on(self.examples.batch(number), self.accelerator.device)
        asked = task(batch, number, self.schedule, self.settings)
        with self.accelerator.autocast():
            words = self._words(batch)
            answer = self._answer(asked, words)
            return error(answer, asked, batch, self.schedule, self.settings, lambda: self._as_base(asked, words))

    def _words(self, batch: Batch) -> dict[str, Any]:
        found: dict[str, Any] = {"text": batch.text, "pooled": batch.pooled}
        if batch.text is None:
            found = {"pooled": None, **text.embeddings(self.pipe, batch.ids, grad=True)}
        words: dict[str, Any] = {"encoder_hidden_states": found["text"].to(self._dtype)}
        if found["pooled"] is not None:
            words["added_cond_kwargs"] = {"text_embeds": found["pooled"], "time_ids": batch.size}
        return words

    def _answer(self, asked: Task, words: dict[str, Any]) -> Any:
        return self.pipe.unet(asked.noisy.to(self._dtype), asked.times, **words, return_dict=False)[0]

    def _as_base(self, asked: Task, words: dict[str, Any]) -> Any:
        import torch

        with torch.no_grad(), self.adapters.off():
            return self._answer(asked, words)


def _on(batch: Batch, device: Any) -> Batch:
    return replace(
        batch, **{name: value.to(device) for name, value in vars(batch).items() if value is not None and name != "ids"}
    )
