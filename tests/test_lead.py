"""A recogniser leads the painting: what it sees in torch, where every sampler's guess is, and that it gets there."""

import inspect

import numpy as np
import pytest

pytest.importorskip("diffusers")

import torch
from PIL import Image
from starter_kit import ROOT, SHIPPED

from facechain.engines.diffusion.lead import FIRST_SIGNAL, Lead, _noise, _noise_after, _spread, lead_to, led
from facechain.engines.diffusion.recogniser import Recogniser, chips
from facechain.engines.diffusion.samplers import SAMPLERS, scheduler
from facechain.errors import EngineError
from facechain.types import Embedding
from facechain.vision.readers import READERS


def opened(models, name):
    return READERS[name](lambda pack, file: models / pack / file)


def photo(models, name="obama", size=(240, 320)):
    return np.array(Image.open(models / "demo-photos" / f"{name}.jpg").convert("RGB").resize(size))


def tensor(pixels):
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1


# ── the recogniser ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["yunet_sface", "w600k_mbf"])
@pytest.mark.parametrize("size", [(240, 320), (320, 240)])
def test_it_sees_in_torch_what_the_reader_sees(models, name, size):
    reader = opened(models, name)
    pixels = photo(models, size=size)
    (face,) = reader.read(pixels)
    points = (torch.from_numpy(face.points_px)[None] + 0.5) / torch.tensor(size)
    shown = tensor(pixels).requires_grad_(True)
    network = Recogniser(reader.network)
    (vector,) = network(shown, points)
    own = torch.from_numpy(face.embedding.vector / np.linalg.norm(face.embedding.vector))
    assert float(vector.detach() @ own) > 0.98, "resampled differently, and otherwise the same"
    (vector @ own).backward()
    assert shown.grad is not None
    assert shown.grad.abs().sum() > 0
    assert chips(shown, points).shape == (1, 3, 112, 112)


def test_what_no_face_network_is_made_of_is_refused(models):
    reader = opened(models, "yunet_sface")
    detector = models / "yunet" / "face_detection_yunet_2023mar.onnx"
    with pytest.raises(EngineError, match=r"2023mar\.onnx has a"):
        Recogniser(type(reader.network)(file=detector))


# ── the scheduler ────────────────────────────────────────────────────────────────────────────────


class Follows(Lead):
    """A lead whose way up is known."""

    def uphill(self, vae, clean):
        self.seen.append(clean)
        return torch.ones_like(clean)


def follows():
    made = Follows(face=np.zeros(1, np.float32), reader=None, network=None)
    object.__setattr__(made, "seen", [])
    return made


def base(prediction):
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=prediction, clip_sample=False
    )


def guesses(made, prediction, lead, picture):
    """Steps through a scheduler whose network knows the picture and the noise; what the lead was shown, by signal."""
    noise = torch.randn(picture.shape, generator=torch.Generator().manual_seed(3))
    made.set_timesteps(10)
    told = []
    for time in made.timesteps:
        ratio, before = _noise(made, time), len(lead.seen)
        signal, share = 1 / np.hypot(1, ratio), ratio / np.hypot(1, ratio)
        mixed = signal * picture + share * noise
        said = noise if prediction == "epsilon" else signal * noise - share * picture
        more = {"generator": torch.Generator().manual_seed(1)} if "generator" in _takes(made) else {}
        made.step(said, time, mixed * np.hypot(1, ratio) if _spread(made) else mixed, **more, return_dict=False)
        told.append((signal, lead.seen[before:]))
    return told


def _takes(made):
    return inspect.signature(made.step).parameters


@pytest.mark.parametrize("name", sorted(SAMPLERS))
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_every_samplers_step_is_led_by_the_picture_behind_the_noise(name, prediction):
    lead, plain = follows(), scheduler(name, base(prediction))
    made = led(plain, None, lead, 0.5)
    assert list(_takes(made)) == list(_takes(plain)), "pipelines read a step's parameters"
    picture = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    told = guesses(made, prediction, lead, picture)
    assert any(seen for _, seen in told)
    for signal, seen in told:
        assert len(seen) == (signal >= FIRST_SIGNAL)
        assert all(torch.allclose(guess, picture, atol=5e-3) for guess in seen)


@pytest.mark.parametrize("name", ["ddim", "euler", "dpmpp_2m"])
def test_the_shift_is_a_share_of_the_noise_left(name):
    ends = []
    for likeness in (0.0, 0.5):
        made = led(scheduler(name, base("epsilon")), None, follows(), likeness)
        made.set_timesteps(10)
        time = made.timesteps[7]
        ratio = _noise(made, time)
        end = made.step(torch.zeros(1, 4, 4, 4), time, torch.zeros(1, 4, 4, 4), return_dict=False)[0]
        ends.append(end)
    after = 1.0 if _spread(made) else 1 / np.hypot(1, _noise_after(made, time))
    assert torch.allclose(ends[1] - ends[0], torch.full((1, 4, 4, 4), 0.5 * ratio * after), rtol=1e-3)


@pytest.mark.parametrize("likeness", [-0.1, 1.5])
def test_a_likeness_beyond_its_range_is_refused(likeness):
    with pytest.raises(EngineError, match="likeness is"):
        led(base("epsilon"), None, follows(), likeness)


# ── whom it leads to ─────────────────────────────────────────────────────────────────────────────


def test_faces_that_cannot_lead_say_so(models):
    reader = opened(models, "yunet_sface")
    face = Embedding(vector=np.ones(128, np.float32), recogniser=reader.recogniser)
    assert np.linalg.norm(lead_to(face, reader).face) == pytest.approx(1)
    for read, by in ((None, reader), (face, None), (face, opened(models, "dlib"))):
        with pytest.raises(EngineError, match="how like"):
            lead_to(read, by)
    with pytest.raises(EngineError, match="was read by"):
        lead_to(Embedding(vector=face.vector, recogniser="glintr100"), reader)


@pytest.mark.skipif(not SHIPPED, reason="the starter's weights are not in")
def test_uphill_shows_the_person_more_and_an_empty_picture_leads_nowhere(models):
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(ROOT / "configs" / "packs" / "starter" / "vae").eval()
    reader = opened(models, "yunet_sface")
    given = reader.read(photo(models))[0].embedding
    lead = lead_to(given, reader)
    with torch.inference_mode():
        shown = tensor(photo(models, "biden", (128, 128)))
        clean = vae.encode(shown).latent_dist.mean * vae.config.scaling_factor
        up = lead.uphill(vae, clean)
        assert float(up.square().mean()) == pytest.approx(1, rel=1e-3)
        nearer = [_likeness(reader, vae, clean + step * up, given) for step in (0.0, 0.15)]
        assert nearer[1] > nearer[0] + 0.02
        assert not lead.uphill(vae, torch.zeros_like(clean)).any()


def _likeness(reader, vae, clean, face):
    seen = vae.decode(clean / vae.config.scaling_factor).sample[0]
    pixels = ((seen.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    found = max(reader.read(np.array(Image.fromarray(pixels).resize((256, 256)))), key=lambda face: face.width_px)
    return float(found.embedding.vector @ face.vector)
