"""The error that is learned from, and the material it is taken over: by hand-worked numbers, not by running it."""

from dataclasses import replace

import lora_kit
import numpy as np
import pytest

from facechain.engines.lora.settings import TrainSettings

torch = pytest.importorskip("torch")

from facechain.engines.lora.examples import Batch, Examples, closer, continued, fitted  # noqa: E402
from facechain.engines.lora.loss import Task, error, level_weights, task  # noqa: E402
from facechain.engines.lora.optimizers import rate  # noqa: E402

PLAIN = TrainSettings(snr_gamma=0.0, face_weight=1.0, background_weight=1.0)


def schedule(**more):
    from diffusers import DDPMScheduler

    return DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", **more)


def batch(weight, prior=(0.0,)) -> Batch:
    """As many pictures as `prior` has numbers, whose head is where `weight` is 1; latents are all zero."""
    count = len(prior)
    return Batch(
        mean=torch.zeros(count, 4, 4, 4),
        std=torch.zeros(count, 4, 4, 4),
        weight=weight.expand(count, 1, 4, 4),
        prior=torch.tensor(prior),
        ids=torch.zeros(count, 1, 77),
        text=None,
        pooled=None,
        size=torch.zeros(count, 6),
    )


@pytest.fixture
def head():
    """The left half is the head."""
    made = torch.zeros(1, 1, 4, 4)
    made[..., :2] = 1
    return made


def asked(count: int, times: int = 500) -> Task:
    zeros = torch.zeros(count, 4, 4, 4)
    return Task(noisy=zeros, times=torch.full((count,), times), target=zeros)


def wrong(count: int, on_head: float, behind: float):
    """An answer that is off by so much on the head and behind it."""
    answer = torch.full((count, 4, 4, 4), behind)
    answer[..., :2] = on_head
    return answer


def test_the_head_counts_more_than_what_is_behind_it(head):
    settings = PLAIN.model_copy(update={"face_weight": 2.0, "background_weight": 0.5})
    found = error(wrong(1, 3.0, 1.0), asked(1), batch(head), schedule(), settings, None)
    assert found.item() == pytest.approx((2.0 * 9 + 0.5 * 1) / (2.0 + 0.5))
    only = PLAIN.model_copy(update={"background_weight": 0.0})
    assert error(wrong(1, 0.0, 9.0), asked(1), batch(head), schedule(), only, None).item() == 0


def test_a_large_head_does_not_make_a_picture_heavier(head):
    settings = PLAIN.model_copy(update={"face_weight": 1.0, "background_weight": 0.1})
    small, large = (
        error(wrong(1, 1.0, 1.0), asked(1), batch(mask), schedule(), settings, None) for mask in (head, head * 0 + 1)
    )
    assert small.item() == pytest.approx(large.item())


def test_pictures_of_anybody_count_everywhere_alike_and_as_much_as_is_said(head):
    settings = PLAIN.model_copy(update={"background_weight": 0.0, "prior_weight": 0.3})
    answer = wrong(2, 0.0, 2.0)  # the head is right, the rest is not
    found = error(answer, asked(2), batch(head, (0.0, 1.0)), schedule(), settings, None)
    assert found.item() == pytest.approx((0.0 + 0.3 * 2.0) / 2)


def test_the_background_is_held_to_what_the_base_paints(head):
    settings = PLAIN.model_copy(update={"background_weight": 0.0, "preserve": 0.5})
    answer, base = wrong(1, 7.0, 1.0), wrong(1, 0.0, 3.0)
    without = error(
        answer, asked(1), batch(head), schedule(), settings.model_copy(update={"preserve": 0.0}), lambda: base
    )
    found = error(answer, asked(1), batch(head), schedule(), settings, lambda: base)
    assert (found - without).item() == pytest.approx(0.5 * 4.0 / 2)  # on half of the picture, and not on the head
    anybody = error(answer, asked(1), batch(head, (1.0,)), schedule(), settings, lambda: base)
    assert anybody.item() == pytest.approx((49 + 1) / 2)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_noise_levels_are_weighed_by_their_capped_ratio_of_signal_to_noise(kind):
    noise = schedule(prediction_type=kind)
    times = torch.tensor([0, 300, 999])
    kept = noise.alphas_cumprod[times]
    ratio = kept / (1 - kept)
    capped = ratio.clamp(max=5.0)
    expected = capped / ratio if kind == "epsilon" else capped / (ratio + 1)
    found = level_weights(times, noise, TrainSettings(snr_gamma=5.0))
    torch.testing.assert_close(found, expected)
    assert found[0] < 0.01
    assert (level_weights(times, noise, TrainSettings(snr_gamma=0.0)) == 1).all()


def test_a_velocity_is_asked_of_bases_that_answer_with_one(head):
    speed, noise = (task(batch(head), 3, schedule(prediction_type=kind), PLAIN) for kind in ("v_prediction", "epsilon"))
    kept = schedule().alphas_cumprod[noise.times].sqrt().reshape(-1, 1, 1, 1)
    torch.testing.assert_close(speed.target, kept * noise.target)  # the latents are zero


def test_noise_offset_shifts_whole_channels(head):
    shifts = []
    for number in range(200):
        pair = [
            task(batch(head), number, schedule(), PLAIN.model_copy(update={"noise_offset": o})).target
            for o in (0.0, 0.5)
        ]
        shift = pair[1] - pair[0]
        assert shift.std(dim=(2, 3)).max() < 1e-6
        shifts.append(shift.mean(dim=(2, 3)))
    assert torch.cat(shifts).std().item() == pytest.approx(0.5, rel=0.1)


def test_chance_is_the_batchs_number_and_nothing_else(head):
    one, again, other = (task(batch(head), number, schedule(), PLAIN) for number in (5, 5, 6))
    assert torch.equal(one.noisy, again.noisy)
    assert torch.equal(one.times, again.times)
    assert not torch.equal(one.noisy, other.noisy)


def test_a_closer_cut_shows_the_head_as_large_as_asked_and_goes_on_past_the_edge():
    pixels, head = np.zeros((100, 100, 3), np.uint8), np.zeros((100, 100), np.float32)
    pixels[:, :, 0] = np.arange(100)
    head[10:50, 0:30] = 1
    made, mask = closer(pixels, head, 0.5)
    assert made.shape == (80, 80, 3)
    rows, columns = np.flatnonzero(mask[:, 40] > 0.5), made[40, :, 0]
    assert (rows[0], rows[-1]) == (20, 59), "in the middle, half as high as the picture"
    assert columns[25] == 0, "the photo's edge goes on"
    assert columns[-1] == 54
    assert closer(pixels, np.zeros_like(head), 0.5)[0] is pixels


def test_past_the_photos_edge_the_photo_goes_on():
    """A crop turned in its photo, with the corner of the photo inside it."""
    pixels = np.full((60, 60, 3), 255, np.uint8)
    yy, xx = np.mgrid[:60, :60]
    photo_px = np.array([(20, 10), (90, 30), (70, 100), (0, 80)], np.float32)
    down = xx * 20 - yy * 70 <= 20 * 20 - 10 * 70
    shown = down & (xx * 70 + yy * 20 >= 20 * 70 + 10 * 20)
    pixels[shown] = (200, 30, 30)
    made = continued(pixels, photo_px)
    assert (made == (200, 30, 30)).all(), "no white, nor the mixed pixels along the edge"
    whole = np.array([(-5, -5), (70, -5), (70, 70), (-5, 70)], np.float32)
    assert continued(pixels, whole) is pixels
    assert continued(pixels, whole + 500) is pixels, "a photo that is not in the crop at all gives nothing to go on"


@pytest.mark.parametrize("shape", [(600, 400), (400, 600), (500, 500), (640, 512)])
def test_pictures_of_any_shape_keep_it(shape):
    """The bucket is as large as a square of the resolution; picture and mask are cut alike, and nothing is squeezed."""
    yy, xx = np.mgrid[: shape[0], : shape[1]]
    middle, radius = (shape[0] / 2, shape[1] / 2), min(shape) / 4
    disc = (np.hypot(yy - middle[0], xx - middle[1]) < radius).astype(np.float32)
    pixels = np.repeat((disc * 255).astype(np.uint8)[:, :, None], 3, axis=2)
    made, mask, (top, left) = fitted(pixels, disc, 512)
    height, width = made.shape[:2]
    assert height % 64 == width % 64 == 0
    assert 0.7 < height * width / 512**2 < 1.1
    assert abs(np.log((height / width) / (shape[0] / shape[1]))) < 0.2
    inside = np.argwhere(mask > 0.5)
    across = np.ptp(inside, axis=0)
    assert abs(across[0] - across[1]) <= 2, "the disc is still round"
    assert np.abs(made[..., 0] / 255.0 - mask).mean() < 0.01
    assert min(top, left) == 0


def rows(count: int, shape=(4, 8, 8)):
    names = {"mean": torch.zeros(shape), "std": torch.zeros(shape), "weight": torch.zeros(1, *shape[1:])}
    more = {"prior": torch.tensor(0.0), "ids": torch.zeros(1, 77)}
    return [{**names, **more, "size": torch.full((6,), float(number))} for number in range(count)]


def test_every_picture_is_seen_once_an_epoch_in_an_order_of_its_own():
    examples = Examples(rows(7), TrainSettings())
    epochs = [[int(examples.batch(7 * epoch + at).size[0, 0]) for at in range(7)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_a_batch_holds_one_shape_and_is_always_full():
    tall = [{**row, "size": row["size"] + 100} for row in rows(3, (4, 16, 8))]
    examples = Examples([*rows(4), *tall], TrainSettings(batch=3))
    seen = [examples.batch(number) for number in range(3)]
    assert {len(one.mean) for one in seen} == {3}
    places = {int(number) for one in seen for number in one.size[:, 0]}
    assert places == {0, 1, 2, 3, 100, 101, 102}


def test_the_rate_rises_then_falls_along_a_cosine():
    settings = TrainSettings(steps=110, warmup_steps=10)
    assert [rate(step, settings) for step in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert [rate(step, settings) for step in (10, 60, 109)] == pytest.approx([1.0, 0.5, 0.0], abs=1e-3)
    assert rate(109, settings.model_copy(update={"cosine": False})) == 1.0


def test_heads_weigh_where_they_are_and_mirrored_with_their_picture(sd15):
    """Latents and masks of a prepared picture, plain and mirrored."""
    from diffusers import DiffusionPipeline

    from facechain.engines.lora.examples import _latents

    pipe = DiffusionPipeline.from_pretrained(sd15)
    (example, *_) = lora_kit.examples()
    left = replace(example, head=np.pad(np.ones((80, 40), np.float32), ((0, 0), (0, 40))))
    settings = TrainSettings(resolution_px=64)
    plain, mirrored = (_latents(pipe, left, False, flipped, settings) for flipped in (False, True))
    assert plain["weight"].shape == (1, 8, 8)
    assert plain["weight"][0, :, :3].min() == 1
    assert plain["weight"][0, :, 5:].max() == 0
    torch.testing.assert_close(mirrored["weight"], plain["weight"].flip(-1))
    assert not torch.equal(mirrored["mean"], plain["mean"])
    assert plain["size"].tolist() == [80, 80, 0, 0, 64, 64]
