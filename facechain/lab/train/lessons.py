"""What the UNet and IdentityNet learn from: latents, captions and faces of shards, noised step by step."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from facechain.lab import family
from facechain.lab.shards import Shard
from facechain.lab.train.discriminant import discriminant
from facechain.lab.train.loop import Run, held_out, pictures
from facechain.lab.train.vae import WEIGHTS

MOST_SIGNAL = 5.0  # ratio of signal to noise, in variance, above which a time counts less
DROP_TEXT, DROP_FACE, DROP_BOTH = 0.08, 0.08, 0.06
WHOLE = 0.3  # share of captions that say everything


@dataclass(frozen=True, kw_only=True, eq=False)
class Lesson:
    """One batch of N. The network sees `noisy` at `times` and is to say `wanted`, the velocity."""

    rows: np.ndarray  # (N,) of the shard
    noisy: Tensor  # (N, 4, S, S)
    wanted: Tensor  # (N, 4, S, S)
    weight: Tensor  # (N, 1, S, S), mean 1
    times: Tensor  # (N,)
    words: Tensor  # (N, 77) token ids; the empty prompt's where words were dropped
    faces: Tensor  # (N, D); zeros where the face was dropped
    own: Tensor  # (N, D) unit vectors of who is to be seen, as `true_faces`; zeros where the face was dropped
    points: Tensor  # (N, 5, 2) where the eyes, nose and mouth are, in picture widths
    signal: Tensor  # (N, 1, 1, 1) share of the picture in `noisy`
    noise: Tensor  # (N, 1, 1, 1) and of the noise
    chance: float  # 0…1, for whatever else is decided by the step

    def loss(self, guess: Tensor) -> Tensor:
        # With little noise the velocity is nearly all noise that nobody can tell, so such times count less
        # (Hang et al. 2023).
        told = ((self.noise / self.signal).square() * MOST_SIGNAL).clamp(max=1)
        return (told * self.weight * (guess.float() - self.wanted).square()).mean()

    def faced(self, most: int) -> Lesson:
        """At most so many of the batch, of those with a face."""
        rows = torch.nonzero(self.own.any(1)).flatten()[:most].cpu().numpy()
        parts = {name: value[rows] for name, value in vars(self).items() if name != "chance"}
        return replace(self, **parts)


class Lessons:
    def __init__(self, run: Run, vae: Any, tokenizer: Any) -> None:
        """Encodes every picture, which takes minutes, and keeps the latents in the run's folder."""
        self._shard, self._seed, self._device = run.shard, run.seed, run.device
        shard = run.shard
        self._alphas = family.new_scheduler().alphas_cumprod.to(run.device)
        run.team.first_alone(lambda: _encode(run, vae))
        self.latents = torch.from_numpy(np.load(_latents_file(run, vae))) * vae.config.scaling_factor
        self._weights = _latent_weights(shard.labels, self.latents.shape[-1])
        self._tokenizer, self._unusual = tokenizer, unusual(shard)
        self.empty = family.token_ids(tokenizer, [""])[0]
        self._faces = torch.from_numpy(shard.embedding)
        self.true_faces = true_faces(shard)
        usable = ~held_out(shard.person) & shard.embedding.any(1)
        self._rows = np.flatnonzero(usable)
        # Faces in pictures with dyed hair tell the hair that words ask for wrongly: then neither would be believed.
        usual = usable & np.array([not said for said in self._unusual])
        self._views = {}
        for person in np.unique(shard.person[usable]):
            own = shard.person == person
            self._views[int(person)] = np.flatnonzero(own & (usual if (own & usual).any() else usable))

    def at(self, step: int, size: int, late: bool = False) -> Lesson:
        """The batch of a step. `late` prefers times of much noise."""
        rng = np.random.default_rng([self._seed, 2, step])
        rows = rng.choice(self._rows, size)
        # The face comes from another picture of the same person, so pose and light cannot be copied.
        said = [thinned(str(self._shard.caption[row]), rng, self._unusual[row]) for row in rows]
        words = family.token_ids(self._tokenizer, said)
        faces = torch.stack([self._other(int(row), rng) for row in rows])
        own, chance = self.true_faces[rows], rng.random(size)
        words[torch.from_numpy(chance < DROP_TEXT + DROP_BOTH)] = self.empty
        faceless = torch.from_numpy((chance >= DROP_TEXT) & (chance < DROP_TEXT + DROP_BOTH + DROP_FACE))
        faces[faceless], own[faceless] = 0, 0
        clean = self.latents[rows].to(self._device)
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + step)
        noise = torch.randn(clean.shape, generator=generator).to(self._device)
        draws = torch.randint(0, len(self._alphas), (2, len(clean)), generator=generator)
        times = (draws.amax(0) if late else draws[0]).to(self._device)
        a = self._alphas[times].sqrt()[:, None, None, None]
        s = (1 - self._alphas[times]).sqrt()[:, None, None, None]
        return Lesson(
            rows=rows,
            noisy=(a * clean + s * noise).contiguous(memory_format=torch.channels_last),
            wanted=a * noise - s * clean,
            weight=self._weights[rows].to(self._device),
            times=times,
            words=words.to(self._device),
            faces=faces.to(self._device),
            own=own.to(self._device),
            points=torch.from_numpy(self._shard.points[rows]).to(self._device),
            signal=a,
            noise=s,
            chance=float(rng.random()),
        )

    def _other(self, row: int, rng: np.random.Generator) -> Tensor:
        """The face in one or two other pictures of the person, as users give one photo or several."""
        views = self._views[int(self._shard.person[row])]
        views = views[views != row] if len(views) > 1 else views
        chosen = rng.choice(views, 1 + int(rng.random() < 0.5))
        return functional.normalize(self._faces[chosen].mean(0), dim=0)


def thinned(caption: str, rng: np.random.Generator, kept: str = "") -> str:
    """What people write says less than a caption does; what it leaves open, the face decides. `kept` stays."""
    start, *phrases = caption.split(", ")
    if rng.random() < WHOLE:
        return caption
    share = rng.random()
    return ", ".join([start, *(phrase for phrase in phrases if rng.random() < share or phrase == kept)])


def unusual(shard: Shard) -> list[str]:
    """Of each picture, what its caption says of hair that is not coloured as in the person's first; otherwise empty."""
    colours = [json.loads(str(traits)).get("hair_colour", "") for traits in shard.traits]
    people, first = np.unique(shard.person, return_index=True)
    own = {person: colours[row] for person, row in zip(people, first, strict=True)}
    told = zip(shard.person, colours, shard.caption, strict=True)
    return ["" if colour == own[person] else _of_hair(str(caption), colour) for person, colour, caption in told]


def _of_hair(caption: str, colour: str) -> str:
    return next((phrase for phrase in caption.split(", ") if {colour, "hair"} <= set(phrase.split())), "")


def axes(shard: Shard) -> Tensor:
    """(D, D) the discriminant of the people trained on."""
    trained = shard.embedding.any(1) & ~held_out(shard.person)
    return discriminant(shard.embedding[trained], shard.person[trained])


def true_faces(shard: Shard) -> Tensor:
    """(N, D) unit vectors of who is in each picture, from all the person's pictures, on the discriminant's axes."""
    vectors = torch.from_numpy(shard.embedding) @ axes(shard)
    _, who = np.unique(shard.person, return_inverse=True)
    who = torch.from_numpy(who)
    sums = torch.zeros(int(who.max()) + 1, vectors.shape[1]).index_add_(0, who, vectors)
    return functional.normalize(sums, dim=1)[who]


def _latents_file(run: Run, vae: Any) -> Path:
    digest = hashlib.sha256(run.shard.scene.tobytes())
    for part in (vae.encoder, vae.quant_conv):
        for value in part.state_dict().values():
            digest.update(value.cpu().numpy().tobytes())
    return run.folder / f"latents-{digest.hexdigest()[:16]}.npy"


@torch.no_grad()
def _encode(run: Run, vae: Any) -> None:
    """Leaves (N, 4, S, S) in the folder."""
    file, pixels = _latents_file(run, vae), run.shard.pixels
    if file.is_file():
        return
    parts = [
        vae.encode(pictures(pixels[i : i + 32], run.device)).latent_dist.mean.cpu() for i in range(0, len(pixels), 32)
    ]
    with file.with_suffix(".part").open("wb") as part:
        np.save(part, torch.cat(parts).contiguous().numpy())
    file.with_suffix(".part").replace(file)


def _latent_weights(labels: np.ndarray, side: int) -> Tensor:
    """(N, 1, side, side): a latent counts as much as the pixels under it do, backgrounds least."""
    step = labels.shape[1] // side
    counts = [
        WEIGHTS[labels[i : i + 512]].reshape(-1, side, step, side, step).mean((2, 4))
        for i in range(0, len(labels), 512)
    ]
    weights = torch.from_numpy(np.concatenate(counts))[:, None]
    return functional.normalize(weights.flatten(1), 1, dim=1).view_as(weights) * side * side
