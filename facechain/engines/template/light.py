"""The picture's skin tone and light, on the person's face.

Shading is multiplicative, so the person's face is scaled in linear light by the ratio of two low-passed pictures of
skin: the template's over the person's. Beard, moles and wrinkles are finer than the low-pass and stay the person's.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from facechain.types import Mask

Linear = NDArray[np.float32]  # (H, W, 3), 0…1 linear light


def to_linear(pixels: NDArray) -> NDArray:
    """sRGB 0…255 to linear 0…1 (IEC 61966-2-1)."""
    v = np.clip(pixels.astype(np.float32) / 255, 0, 1)
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4).astype(np.float32)


def to_srgb(linear: Linear) -> NDArray:
    """Linear 0…1 to sRGB 0…255, with highlights rolled off instead of clipped."""
    v = np.maximum(linear, 0)
    v = np.where(v > 0.85, 0.85 + 0.15 * np.tanh((v - 0.85) / 0.15), v)
    return np.where(v <= 0.0031308, v * 12.92, 1.055 * v ** (1 / 2.4) - 0.055).astype(np.float32) * 255


def _low_pass(picture: Linear, skin: Mask, sigma_px: float) -> NDArray:
    """Mean of the skin around each pixel; where no skin is near, the mean of all of it."""
    # Work small: a blur this wide carries no detail.
    factor = max(1, int(sigma_px / 4))
    size = (max(1, picture.shape[1] // factor), max(1, picture.shape[0] // factor))
    small = cv2.resize(picture * skin[..., None], size, interpolation=cv2.INTER_AREA)
    small = small.reshape(size[1], size[0], -1)  # OpenCV drops a last axis of one
    weight = cv2.resize(skin, size, interpolation=cv2.INTER_AREA)
    overall = small.sum((0, 1)) / max(float(weight.sum()), 1e-6)
    blurred = cv2.GaussianBlur(small, (0, 0), sigma_px / factor, borderType=cv2.BORDER_CONSTANT).reshape(small.shape)
    norm = cv2.GaussianBlur(weight, (0, 0), sigma_px / factor, borderType=cv2.BORDER_CONSTANT)[..., None]
    trust = 0.02
    mixed = (blurred + trust * overall) / (norm + trust)
    full = cv2.resize(mixed, (picture.shape[1], picture.shape[0]), interpolation=cv2.INTER_LINEAR)
    return full.reshape(picture.shape)


def relit(
    person: Linear,
    template: Linear,
    *,
    skin: Mask,
    lips: Mask,
    features: Mask,
    face_px: float,
    local: float,
) -> NDArray:
    """The person's face under the template's light.

    `skin` is where both show bare skin; `lips` have a tone of their own; `features` are the eyes and the inside of
    the mouth, which have no skin tone and follow the light's strength only. `local` 0 matches the whole face's
    tone, 1 its shading at every place. Colour is matched over a wider area than brightness, or it would mottle.
    """
    tone = _ratio(person, template, skin, 0.4 * face_px)
    shade = _ratio(_grey(person), _grey(template), skin, 0.16 * face_px)
    whole = _ratio(_grey(person), _grey(template), skin, 0.4 * face_px)
    relief = _grey(person) / np.maximum(_low_pass(_grey(person), skin, 0.16 * face_px), 1e-3)
    strength = np.clip(_grey(tone) * (shade / whole) ** local, 0.2, 5.0)
    # Brows, lashes and nostrils are too dark to have the skin's colour; and eyes and teeth have little of it.
    has_colour = np.clip((relief - 0.1) / 0.2, 0, 1) * (1 - 0.6 * features[..., None])
    colour = (tone / _grey(tone)) ** has_colour
    only_skin = cv2.GaussianBlur(skin, (0, 0), 0.01 * face_px)[..., None]
    colour = colour * _even_colour(person, skin, strength, 0.16 * face_px) ** only_skin
    ratio = strength * colour
    if lips.sum() > 1:
        theirs = _low_pass(template, lips, face_px) / np.maximum(_low_pass(person, lips, face_px), 1e-3)
        wanted = theirs / _grey(theirs) * strength  # the template's lip colour, the skin's brightness
        ratio = ratio + 0.7 * lips[..., None] * (np.clip(wanted, 0.2, 5.0) - ratio)
    ratio = ratio * _tamed(relief, strength)
    # The whites of eyes and teeth are white in any skin: they follow the light, weakened when it brightens.
    weak = np.where(strength > 1, strength**0.35, strength**0.8) * colour
    return person * (ratio + features[..., None] * (weak - ratio))


def _tamed(relief: NDArray, brighter: NDArray) -> NDArray:
    """Factor that keeps a face from looking like metal when its tone is lifted; `relief` is 1 on plain skin.

    A shine lies on top of the skin's own colour, so it must not grow with it; and shadows soften on lighter skin.
    """
    lift = np.maximum(brighter, 1)
    shine = 1 + np.maximum(relief - 1, 0) * lift**-0.6
    shadow = np.minimum(np.maximum(relief, 1e-2), 1) ** (lift**-0.2)
    return np.clip(shine * shadow / np.maximum(relief, 1e-2), 0.2, 3)


def _even_colour(person: Linear, skin: Mask, brighter: NDArray, sigma_px: float) -> NDArray:
    """Factor that draws the colour of each place towards that of the skin around it.

    A camera's colour errors in deep tones would become blotches when lifted to light ones.
    """
    base = np.maximum(_low_pass(person, skin, sigma_px), 1e-3)
    hue = np.maximum(person, 1e-3) / base
    hue = hue / np.maximum(_grey(hue), 1e-3)
    keep = 0.8 * np.maximum(brighter, 1) ** -0.6
    return np.clip(hue ** (keep - 1), 0.5, 2)


def _grey(picture: NDArray) -> NDArray:
    return picture.mean(2, keepdims=True)


def _ratio(person: NDArray, template: NDArray, skin: Mask, sigma_px: float) -> NDArray:
    return _low_pass(template, skin, sigma_px) / np.maximum(_low_pass(person, skin, sigma_px), 1e-3)


def match_grain(person: NDArray, template: NDArray, skin: Mask, seed: int, face_px: float) -> NDArray:
    """Give the face the finest texture of the picture: its grain, and no more sharpness than all around.

    Both are (H, W, 3) sRGB 0…255; the same seed gives the same grain.
    """
    person = person.astype(np.float32)
    sharp, allowed = person, 1.6 * _edges(template, skin)
    for sigma_px in (0.5, 0.7, 1.0, 1.4, 2.0):
        if sigma_px > 0.008 * face_px or _edges(person, skin) <= allowed:
            break
        person = cv2.GaussianBlur(sharp, (0, 0), sigma_px)
    have, want = _grain(person, skin), _grain(template, skin)
    if want > have * 1.05:
        noise = np.random.default_rng(seed).standard_normal(person.shape[:2]).astype(np.float32)
        noise -= cv2.GaussianBlur(noise, (0, 0), 1.0)
        noise *= np.sqrt(want**2 - have**2) / noise.std()
        return person + noise[..., None]
    return person


def _fine_band(picture: NDArray) -> NDArray:
    grey = picture.astype(np.float32).mean(2)
    return np.abs(grey - cv2.GaussianBlur(grey, (0, 0), 1.0))


def _grain(picture: NDArray, skin: Mask) -> float:
    """Robust spread of the finest band over skin, in sRGB levels."""
    values = _fine_band(picture)[skin > 0.9]
    return float(np.median(values) / 0.6745) if len(values) else 0.0


def _edges(picture: NDArray, skin: Mask) -> float:
    """How strong the sharpest edges around the eyes, nose and mouth are, in sRGB levels."""
    ys, xs = np.nonzero(skin > 0.9)
    if not len(ys):
        return 0.0
    return float(np.percentile(_fine_band(picture[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]), 98))
