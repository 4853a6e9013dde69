"""The starter family: standard classes, published layouts, a run that can be put down and taken up."""

import copy
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("diffusers")
pytest.importorskip("numba", reason="pip install -r requirements-lab.txt")
pytest.importorskip("onnx", reason="pip install -r requirements-lab.txt")

import torch

from facechain.engines.diffusion.recogniser import Recogniser
from facechain.engines.identity.attention import layout_of
from facechain.engines.identity.checkpoint import open_checkpoint
from facechain.lab import family
from facechain.lab.family import ADAPTER_FILE, PRESETS
from facechain.lab.score import rank
from facechain.lab.shards import Shard, apart
from facechain.lab.train.discriminant import discriminant
from facechain.lab.train.identitynet import predict_led, train_identitynet
from facechain.lab.train.lessons import WHOLE, Lesson, Lessons, thinned, unusual
from facechain.lab.train.loop import Run, Stop, begin, held_out, put_down
from facechain.lab.train.practice import Practice, found_by
from facechain.lab.train.sface import Sface, unlike
from facechain.lab.train.team import Team
from facechain.lab.train.unet import predict, train_unet
from facechain.lab.train.vae import train_vae
from facechain.types import Network

TINY = PRESETS["test"]
WORDS = ["portrait", "photo", "of", "an", "adult", "smiling", "smile", "facing", "the", "camera", ","]


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def shard() -> Shard:
    rng = np.random.default_rng(0)
    people, views = 21, 2
    n = people * views
    vectors = rng.normal(0, 1, (people, 128)).astype(np.float32).repeat(views, 0)
    return Shard(
        pixels=rng.integers(0, 256, (n, 64, 64, 3), np.uint8),
        person=np.arange(people, dtype=np.int32).repeat(views),
        scene=np.arange(n, dtype=np.int32),
        points=np.zeros((n, 5, 2), np.float32),
        pose_deg=np.zeros((n, 3), np.float32),
        labels=np.zeros((n, 64, 64), np.uint8),
        embedding=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
        caption=np.array(["portrait photo of an adult, smiling"] * n),
        traits=np.array(["{}"] * n),
    )


@pytest.fixture(scope="module")
def sface(models: Path) -> Sface:
    return Recogniser(Network(file=models / "sface" / "face_recognition_sface_2021dec.onnx"))


@pytest.fixture
def run(shard: Shard, sface: Sface):
    return lambda folder, steps: _run(folder, shard, sface, steps)


def middle(picture: np.ndarray) -> np.ndarray:
    """Key points of a face that fills the picture."""
    return np.array([[0.35, 0.4], [0.65, 0.4], [0.5, 0.6], [0.4, 0.75], [0.6, 0.75]], np.float32)


def a_run(folder: Path, shard: Shard) -> Run:
    return Run(folder=folder, shard=shard, preset=TINY, seed=0, device="cpu", log=lambda line: None, team=Team())


def _run(folder: Path, shard: Shard, sface: Sface, steps: int):
    folder.mkdir(exist_ok=True)
    family.write_tokenizer(folder / "tokenizer", WORDS)
    stop, run = Stop(steps=steps, minutes=5), a_run(folder, shard)
    vae = train_vae(run, sface, stop)
    return vae, *train_unet(run, vae, stop)


def test_what_sface_sees_differently_can_be_learned_from(sface: Sface) -> None:
    torch.manual_seed(0)
    shown = torch.rand(2, 3, 64, 64, requires_grad=True)
    points = torch.from_numpy(middle(np.empty(0))).repeat(2, 1, 1)
    assert unlike(sface, shown, shown.detach(), points) < 1e-5
    unlike(sface, shown * 0.5, shown.detach(), points).backward()
    assert shown.grad is not None
    assert float(shown.grad.abs().sum()) > 0


def test_each_word_is_one_token(tmp_path: Path) -> None:
    family.write_tokenizer(tmp_path, WORDS)
    tokenizer = family.read_tokenizer(tmp_path)
    assert tokenizer.tokenize("portrait photo of an adult, smiling") == [
        f"{word}</w>" for word in ("portrait", "photo", "of", "an", "adult", ",", "smiling")
    ]
    assert len(tokenizer.tokenize("zebra")) > 1
    padded = tokenizer("an adult", padding="max_length").input_ids
    assert len(padded) == 77
    assert padded[0] == tokenizer.bos_token_id


def test_a_family_opens_as_a_published_one_does(tmp_path: Path, run) -> None:
    from diffusers import StableDiffusionPipeline

    vae, unet, text = run(tmp_path, 2)
    family.write_family(tmp_path / "starter", vae, unet, text, tmp_path / "tokenizer")
    pipe = StableDiffusionPipeline.from_pretrained(tmp_path / "starter", dtype=torch.float32)
    picture = pipe("an adult, smiling", num_inference_steps=2, width=64, height=64, output_type="np").images[0]
    assert picture.shape == (64, 64, 3)
    assert pipe.scheduler.config.prediction_type == "v_prediction"
    file = open_checkpoint(tmp_path / "starter" / ADAPTER_FILE, kinds=("faceid",), layout=layout_of(pipe.unet))
    assert file.tensors["image_proj.proj.0.weight"].shape[1] == 128
    assert json.loads((tmp_path / "starter" / "vae" / "config.json").read_text())["scaling_factor"] != 0.18215
    assert (tmp_path / "samples.png").is_file()


@pytest.mark.parametrize("spread", [False, True])
def test_the_adapters_file_paints_as_the_trained_network_does(spread: bool) -> None:
    """What is written is what was trained: the face tokens and their keys and values come out the same."""
    torch.manual_seed(0)
    unet = family.new_unet(TINY)
    again = family.new_unet(TINY)
    again.load_state_dict(unet.state_dict())
    if spread:
        family.spread_faces(unet, torch.randn(128, 128) / 8)
    taken = {key: value.float() for key, value in family.take_adapter(unet).items()}
    nested = {
        part: {
            key.removeprefix(f"{part}."): v for key, v in taken.items() if key.startswith(part) and "lora" not in key
        }
        for part in ("image_proj", "ip_adapter")
    }
    family.put_adapter(again, nested)
    x, t, told = torch.randn(2, 4, 8, 8), torch.tensor([5, 900]), torch.randn(2, 77, TINY.text_width)
    face = {"image_embeds": [torch.randn(2, 1, 128)]}
    with torch.no_grad():
        first = unet(x, t, told, added_cond_kwargs=face).sample
        second = again(x, t, told, added_cond_kwargs=face).sample
        other = again(x, t, told, added_cond_kwargs={"image_embeds": [torch.randn(2, 1, 128)]}).sample
    assert torch.allclose(first, second, atol=2e-3)
    assert not torch.allclose(first, other, atol=2e-3)


def test_practice_goes_on_where_lessons_ended(tmp_path: Path, shard: Shard, sface: Sface, run) -> None:
    vae, before, _ = run(tmp_path, TINY.unet_steps)
    steps, held = TINY.unet_steps + TINY.practice_steps, a_run(tmp_path, shard)
    after, _ = train_unet(held, vae, Stop(steps=steps, minutes=5), Practice(held, vae, sface, middle))
    assert torch.load(tmp_path / "unet.pt", weights_only=True)["step"] == steps
    assert any(not torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True))


def test_faces_are_taken_from_pictures_with_the_persons_own_hair(tmp_path: Path, shard: Shard, run) -> None:
    vae, *_ = run(tmp_path, 1)
    embedding = shard.embedding.copy()
    embedding[1::2] = np.eye(128, dtype=np.float32)[0]
    captions = ["portrait photo of an adult, {} hair".format("red" if row % 2 else "black") for row in range(42)]
    traits = [json.dumps({"hair_colour": "red" if row % 2 else "black"}) for row in range(42)]
    dyed = replace(shard, embedding=embedding, caption=np.array(captions), traits=np.array(traits))
    lessons = Lessons(a_run(tmp_path, dyed), vae, family.read_tokenizer(tmp_path / "tokenizer"))
    faces = torch.cat([lessons.at(step, 8).faces for step in range(6)])
    told = faces[faces.any(1)]
    assert len(told) > 20
    own = torch.from_numpy(shard.embedding[::2])
    assert ((told @ own.T).amax(1) > 0.999).all()


def test_a_run_put_down_ends_where_an_unbroken_one_does(tmp_path: Path, shard: Shard, sface: Sface, run) -> None:
    _, whole, _ = run(tmp_path / "whole", 4)
    folder = tmp_path / "broken"
    folder.mkdir()
    family.write_tokenizer(folder / "tokenizer", WORDS)
    train_vae(a_run(folder, shard), sface, Stop(steps=4, minutes=0))
    assert torch.load(folder / "vae.pt", weights_only=True)["step"] == 0
    _, resumed, _ = run(folder, 4)
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_run_taken_up_keeps_its_own_axes(tmp_path: Path) -> None:
    """With other shards the discriminant is another, and what was learned on the old one would mean nothing."""
    torch.manual_seed(0)
    file, old, new = tmp_path / "unet.pt", torch.randn(128, 128), torch.randn(128, 128)

    def begun(matrix: torch.Tensor):
        model = family.new_unet(TINY)
        family.spread_faces(model, matrix)
        smooth = copy.deepcopy(model)
        return model, smooth, *begin(model, smooth, file, 1e-3, Team())

    model, smooth, _, adam, _ = begun(old)
    put_down(file, model, adam, 7, smooth)
    model, smooth, worker, _, step = begun(new)
    assert step == 7
    for each in (model, smooth, worker.copy):
        matrix = each.encoder_hid_proj.image_projection_layers[0].ff.net[0].proj.matrix
        assert torch.equal(matrix.float(), old.to(matrix.dtype).float())


def test_identitynet_begins_by_adding_nothing_and_learns_with_all_else_held(
    tmp_path: Path, shard: Shard, sface: Sface, run
) -> None:
    vae, unet, text = run(tmp_path, 1)
    before = {k: v.clone() for k, v in unet.state_dict().items()}
    torch.manual_seed(0)
    x, t, told = torch.randn(2, 4, 8, 8), torch.tensor([5, 900]), torch.randn(2, 77, TINY.text_width)
    faces, shown = torch.randn(2, 128), torch.rand(2, 3, 64, 64)
    family.set_face_scale(unet, 1.0)
    with torch.no_grad():
        alone = predict(unet, x, t, told, faces)
        led = predict_led(family.new_identitynet(unet), unet, x, t, told, faces, shown)
    assert torch.allclose(alone, led, atol=1e-6)
    draw = lambda points, width, height: np.full((height, width, 3), 200, np.uint8)  # noqa: E731
    stop = Stop(steps=4, minutes=5)
    held = a_run(tmp_path, shard)
    net = train_identitynet(held, vae, unet, text, Practice(held, vae, sface, middle), draw, stop)
    with torch.no_grad():
        assert not torch.allclose(alone, predict_led(net, unet, x, t, told, faces, shown), atol=1e-6)
    assert all(torch.equal(before[key], value) for key, value in unet.state_dict().items())
    family.write_family(tmp_path / "starter", vae, unet, text, tmp_path / "tokenizer", net)
    from diffusers import ControlNetModel

    opened = ControlNetModel.from_pretrained(tmp_path / "starter" / family.NET_FOLDER)
    assert opened.config["cross_attention_dim"] == TINY.text_width


def test_the_discriminant_keeps_what_tells_people_apart_and_drops_what_pictures_change() -> None:
    rng = np.random.default_rng(0)
    people = rng.normal(0, 1, (200, 1, 8)) * [0.2, 0.2, 0.2, 0, 0, 0, 0, 0] + [0, 0, 0, 0, 0, 0, 0, 3]
    pictures = people + rng.normal(0, 1, (200, 6, 8)) * [0.02, 0.02, 0.02, 0.5, 0.5, 0.01, 0.01, 0.01]
    vectors = (pictures / np.linalg.norm(pictures, axis=2, keepdims=True)).reshape(-1, 8).astype(np.float32)
    who = np.repeat(np.arange(200), 6)
    told = (torch.from_numpy(vectors) @ discriminant(vectors, who)).numpy()
    assert np.abs(told.mean(0)).max() < 1e-3, "the mean face is as no face at all"
    spread = told.std(0)
    assert (spread > 0.8).sum() == 3, "each direction of identity counts alike"

    def found(places: np.ndarray) -> float:
        """Share of 40 people whose second picture is nearest to their first."""
        seen = places.reshape(200, 6, 8)[:40]
        seen = seen / np.linalg.norm(seen, axis=2, keepdims=True)
        return float(np.mean(np.argmax(seen[:, 0] @ seen[:, 1].T, 1) == np.arange(40)))

    assert found(told) > 0.6 > 3 * found(vectors)


def _lesson(n: int) -> Lesson:
    own = torch.nn.functional.normalize(torch.randn(n, 128), dim=1)
    own[2] = 0  # the face was left out
    return Lesson(
        rows=np.arange(n),
        noisy=torch.randn(n, 4, 8, 8),
        wanted=torch.zeros(n, 4, 8, 8),
        weight=torch.ones(n, 1, 8, 8),
        times=torch.zeros(n),
        words=torch.full((n, 77), 3),
        faces=own,
        own=own,
        points=torch.from_numpy(middle(np.empty(0))).repeat(n, 1, 1),
        signal=torch.ones(n, 1, 1, 1),
        noise=torch.zeros(n, 1, 1, 1),
        chance=0.5,
    )


def test_what_the_network_paints_by_itself_becomes_more_like_the_person(
    tmp_path: Path, shard: Shard, sface: Sface
) -> None:
    torch.manual_seed(0)
    family.write_tokenizer(tmp_path / "tokenizer", WORDS)
    text = family.new_text(TINY, family.read_tokenizer(tmp_path / "tokenizer"))
    unet, vae, lesson = family.new_unet(TINY), family.new_vae(TINY), _lesson(8).faced(4)
    assert lesson.rows.tolist() == [0, 1, 3, 4]
    looked: list[int] = []

    def find(picture: np.ndarray) -> np.ndarray | None:
        looked.append(len(looked))
        return None if len(looked) % 4 == 2 else middle(picture)

    run = a_run(tmp_path, shard)
    practice = Practice(run, vae, sface, find)
    visited: list[int] = []

    def paint(noisy: torch.Tensor, times: torch.Tensor, told: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
        visited.append(int(times))
        return predict(unet, noisy, times, told, faces)

    first = practice.unlike(text, paint, lesson, 5)
    assert visited[0] == 999, "it begins from noise alone"
    assert visited == sorted(visited, reverse=True)
    assert len(looked) == 4
    first.backward()
    weights = [*unet.parameters(), *text.parameters()]
    assert any(p.grad is not None and p.grad.any() for p in text.parameters())
    with torch.no_grad():
        length = sum(float(p.grad.square().sum()) for p in weights if p.grad is not None) ** 0.5
        for p in weights:
            if p.grad is not None:
                p -= 0.02 * p.grad / length
        assert practice.unlike(text, paint, lesson, 5) < first
    nobody = Practice(run, vae, sface, lambda picture: None)
    assert float(nobody.unlike(text, paint, lesson, 5)) == 0
    assert float(nobody.unlike(text, paint, lesson, 5, lesson.points).detach()) > 0, "points are given instead"


def test_faces_are_found_in_small_pictures(models: Path) -> None:
    from facechain.vision.readers import READERS

    find = found_by(READERS["yunet_sface"](lambda pack, file: models / pack / file))
    photo = Image.open(sorted((models / "demo-photos").glob("*.jpg"))[0]).convert("RGB").resize((128, 160))
    points = find(np.array(photo)[:128])
    assert points is not None
    left, right, nose = points[:3]
    assert left[0] < nose[0] < right[0]
    assert nose[1] > left[1]
    assert find(np.zeros((128, 128, 3), np.uint8)) is None


def test_captions_are_thinned_but_keep_who_it_is() -> None:
    rng, whole = np.random.default_rng(0), "portrait photo of an adult, smiling, short hair, red clothes"
    made = [thinned(whole, rng) for _ in range(400)]
    assert all(caption.startswith("portrait photo of an adult") for caption in made)
    assert all(set(caption.split(", ")) <= set(whole.split(", ")) for caption in made)
    assert WHOLE < made.count(whole) / 400 < WHOLE + 0.35
    assert "portrait photo of an adult" in made
    assert all("short hair" in thinned(whole, rng, "short hair") for _ in range(50))


def test_dyed_hair_is_always_told(shard: Shard) -> None:
    colours = ["red" if row == 3 else "black" for row in range(len(shard.traits))]
    captions = np.array([f"portrait photo of an adult, short hair, {colour} hair, red clothes" for colour in colours])
    traits = np.array([json.dumps({"hair_colour": colour}) for colour in colours])
    told = unusual(replace(shard, traits=traits, caption=captions))
    assert [row for row, phrase in enumerate(told) if phrase] == [3]
    assert told[3] == "red hair"


def _found_gradients(rank: int, folder: str) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29611"}
    team, layer = Team(), torch.nn.Conv2d(2, 1, 2).to(memory_format=torch.channels_last)
    layer.weight.grad = torch.zeros_like(layer.weight) + torch.arange(8.0).view(1, 2, 2, 2) * (rank + 1)
    if rank == 0:
        layer.bias.grad = torch.ones(1)  # the other has none: the face was left out
    team.mean_gradients(layer)
    team.first_alone(lambda: Path(folder, "first").touch())
    weights = layer.weight.grad
    seen = [weights.flatten().tolist(), weights.stride() == layer.weight.stride(), layer.bias.grad.tolist()]
    told = [*seen, team.any(rank == 1), team.any(False), team.lesson(5), Path(folder, "first").is_file()]
    Path(folder, f"{rank}.json").write_text(json.dumps(told))
    team.close()


def test_a_team_learns_from_the_mean_of_different_lessons(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_found_gradients, (str(tmp_path),), nprocs=2)
    told = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert told == [[[1.5 * k for k in range(8)], True, [0.5], True, False, 10 + rank, True] for rank in (0, 1)]


def test_at_scale_0_the_face_changes_nothing() -> None:
    torch.manual_seed(0)
    unet = family.new_unet(TINY)
    x, t, told = torch.randn(1, 4, 8, 8), torch.tensor([500]), torch.randn(1, 77, TINY.text_width)

    def seen(scale: float) -> torch.Tensor:
        family.set_face_scale(unet, scale)
        with torch.no_grad():
            return unet(x, t, told, added_cond_kwargs={"image_embeds": [torch.randn(1, 1, 128)]}).sample

    assert torch.equal(seen(0.0), seen(0.0))
    assert not torch.equal(seen(1.0), seen(1.0))


def test_held_out_people_and_lookalikes_stay_away(shard: Shard) -> None:
    assert set(np.unique(shard.person[held_out(shard.person)])) == {0, 20}
    assert len(apart(shard, 0.99)) == 21
    assert len(apart(shard, -1.0)) == 1


def test_ranking_counts_misses_and_chance() -> None:
    gallery = [np.eye(4, dtype=np.float32)[i] for i in range(3)] + [None]
    pixels = [np.full((2, 2, 3), i, np.uint8) for i in range(4)]
    seen = {0: gallery[0], 1: gallery[0], 2: gallery[2], 3: None}
    ranking = rank(list(enumerate(pixels)), gallery, lambda p: seen[int(p[0, 0, 0])])
    assert (ranking.pictures, ranking.faces, ranking.first) == (4, 3, 2)
    assert ranking.rate == 0.5
