"""Learning: exact resume, whole checkpoints, the loss, and choosing by likeness."""

import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import lora_kit
import numpy as np
import pytest
import tiny
from lora_kit import brightness, job, notes, weights

from facechain.engines.lora import checkpoints
from facechain.engines.lora.likeness import Curve, Point, draw
from facechain.engines.lora.settings import TrainSettings
from facechain.errors import Cancelled, ConfigError, EngineError

torch = pytest.importorskip("torch")

from facechain.engines.lora.train import train  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def sd15(tmp_path_factory):
    return tiny.sd15(tmp_path_factory.mktemp("sd15"))


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory):
    return tiny.sdxl(tmp_path_factory.mktemp("sdxl"))


def stop_at(step):
    def tick(stage, done, total):
        if stage == "learning" and done == step:
            raise Cancelled

    return tick


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def state(folder):
    tensors, moments, told = checkpoints.load(checkpoints.listed(folder / "checkpoints")[-1])
    return tensors, moments["optimizer"]["state"], told["losses"]


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_taken_up_again_is_bit_equal_to_never_stopped(family, request, tmp_path):
    base = request.getfixturevalue(family)
    more = {"train_text": True, "ema_decay": 0.9, "accumulate": 2, "noise_offset": 0.05, "warmup_steps": 1}
    whole = job(tmp_path / "whole", base, **more)
    train(whole, brightness)
    parts = job(tmp_path / "parts", base, **more)
    for step in (1, 3):  # before the first checkpoint, and between two
        with pytest.raises(Cancelled):
            train(parts, brightness, stop_at(step))
        assert not parts.done
        assert not list(parts.folder.rglob("*.part*"))
    train(parts, brightness)
    assert same(weights(whole), weights(parts))
    (a, am, al), (b, bm, bl) = state(whole.folder), state(parts.folder)
    assert same(a, b)
    assert al == bl
    assert all(torch.equal(am[k][n], bm[k][n]) for k in am for n in ("exp_avg", "exp_avg_sq"))
    assert notes(whole)["step"] == notes(parts)["step"]


@pytest.mark.parametrize(
    "more",
    [
        {"dora": True, "targets": "transformer"},
        {"gradient_checkpointing": True, "preserve": 0.5, "prior_pictures": 1, "flip": True, "batch": 2},
    ],
    ids=["dora", "preserve-prior"],
)
def test_switches_learn(sd15, tmp_path, more):
    made = job(tmp_path, sd15, **more)
    train(made)
    assert all(np.isfinite(notes(made)["losses"]))
    assert any(value.abs().max() > 0 for key, value in weights(made).items() if "lora_B" in key)


def test_learning_lowers_the_error(sd15, tmp_path):
    """The same batches again and again, so only learning can lower it."""
    made = job(tmp_path, sd15, count=1, steps=40, accumulate=1, cosine=False, validate_every=0, checkpoint_every=40)
    train(made)
    losses = notes(made)["losses"]
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:10])


def test_gradient_checkpointing_changes_memory_not_numbers(sd15, tmp_path):
    plain, spared = (job(tmp_path / str(on), sd15, gradient_checkpointing=on, validate_every=0) for on in (False, True))
    train(plain)
    train(spared)
    assert notes(plain)["losses"] == pytest.approx(notes(spared)["losses"], abs=1e-6)


def test_what_came_in_16_bit_stays_so_and_learns_the_same_bits(sd15, tmp_path, monkeypatch):
    from diffusers import DiffusionPipeline

    from facechain.engines.lora import parked

    DiffusionPipeline.from_pretrained(sd15).to(torch.float16).save_pretrained(tmp_path / "half")
    shutil.copytree(sd15 / "tokenizer", tmp_path / "half" / "tokenizer", dirs_exist_ok=True)
    made, narrow = {}, parked.narrow
    for name in ("short", "wide"):
        seen = []

        def look(unet, name=name, seen=seen):
            if name == "short":
                narrow(unet)
            seen.append({module.weight.dtype for module in unet.modules() if isinstance(module, torch.nn.Conv2d)})

        monkeypatch.setattr(parked, "narrow", look)
        more = {"targets": "transformer", "gradient_checkpointing": True}
        made[name] = job(tmp_path / name, tmp_path / "half", steps=2, **more)
        train(made[name], brightness)
        assert (torch.float16 in seen[0]) == (name == "short")
    assert notes(made["short"])["losses"] == notes(made["wide"])["losses"]
    assert same(weights(made["short"]), weights(made["wide"]))
    curves = [(made[name].folder / "curve.json").read_text() for name in made]
    assert curves[0] == curves[1]


@pytest.mark.timeout(900)  # twenty starts; a minute on a quiet machine
def test_killed_at_any_moment_it_can_always_go_on(sd15, tmp_path):
    train(job(tmp_path / "warm", sd15, steps=1, validate_every=0))  # what the forks inherit they need not make
    made = job(tmp_path / "killed", sd15, steps=4000, checkpoint_every=1, validate_every=3, patience=0, count=2)
    chance, context = random.Random(4), multiprocessing.get_context("fork")
    for _ in range(20):
        before = [int(path.name[5:]) for path in checkpoints.listed(made.folder / "checkpoints")]
        reached, enough = context.Event(), max(before, default=0) + chance.randrange(3)

        def tick(stage, done, total, reached=reached, enough=enough):
            if stage == "learning" and done >= enough:
                reached.set()

        child = context.Process(target=train, args=(made, brightness, tick))
        child.start()
        reached.wait(120)
        time.sleep(chance.uniform(0, 0.5))
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        assert not made.done
        for path in checkpoints.listed(made.folder / "checkpoints"):
            tensors, _, told = checkpoints.load(path)
            assert all(torch.isfinite(value).all() for value in tensors.values())
            assert len(told["losses"]) == told["step"] == int(path.name[5:])
        after = [int(path.name[5:]) for path in checkpoints.listed(made.folder / "checkpoints")]
        assert max(after, default=0) >= max(before, default=0)
    last = max(after)
    assert last >= 10
    end = replace(made, settings=replace(made.settings, steps=last + 1))
    train(end, brightness)
    assert end.done
    assert len(notes(end)["losses"]) == last + 1


def test_two_processes_learn_as_one(sd15, tmp_path):
    """torchrun shares the batches of a step; one process takes them one after the other."""
    # At the usual rate: AdamW turns rounding into whole steps where a gradient is all but zero.
    rates = {"learning_rate": 1e-4, "text_learning_rate": 5e-5}
    more = {"accumulate": 4, "steps": 3, "validate_every": 0, "train_text": True, **rates}
    one = job(tmp_path / "one", sd15, **more)
    two = job(tmp_path / "two", sd15, **more)
    train(one)
    command = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=2",
        "-m",
        "facechain.engines.lora.child",
    ]
    subprocess.run(
        [sys.executable, *command, str(two.folder)],
        check=True,
        capture_output=True,
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    np.testing.assert_allclose(notes(one)["losses"], notes(two)["losses"], rtol=1e-5)
    ours, theirs = weights(one), weights(two)
    # Attention over a single place has no gradient but rounding's.
    learned = [key for key in ours if "lora_B" in key and "mid_block" not in key]
    apart = sum((ours[key] - theirs[key]).square().sum() for key in learned)
    assert apart < 0.05 * sum(ours[key].square().sum() for key in learned)


def test_batches_that_cannot_be_shared_are_refused(sd15, tmp_path, monkeypatch):
    import accelerate

    monkeypatch.setattr(accelerate.Accelerator, "num_processes", property(lambda self: 2))
    with pytest.raises(EngineError, match="multiple of the processes"):
        train(job(tmp_path, sd15, accumulate=3))


def test_the_most_alike_checkpoint_is_kept(sd15, tmp_path):
    made = job(tmp_path, sd15, steps=8, validate_every=2, patience=0)
    answers = iter([0.2, 0.6, 0.5, None])
    train(made, lambda pictures: [next(answers)] * len(pictures))
    assert notes(made)["step"] == 4
    assert notes(made)["likeness"] == pytest.approx(0.6)
    curve = Curve.from_json((made.folder / "curve.json").read_text())
    assert [point.likeness for point in curve.points] == pytest.approx([0.2, 0.6, 0.5, 0.0])
    assert (made.folder / "curve.png").stat().st_size > 1000
    kept = sorted(path.parent.name for path in made.folder.glob("validation/*/adapters.safetensors"))
    assert kept == ["step-000004"]


def test_it_stops_when_likeness_no_longer_rises(sd15, tmp_path):
    made = job(tmp_path, sd15, steps=20, validate_every=1, patience=2)
    answers, said = iter([0.5, 0.4, 0.3]), []
    train(made, lambda pictures: [next(answers)] * len(pictures), say=said.append)
    assert len(notes(made)["losses"]) == 3
    assert any("no longer rises" in line for line in said)
    assert notes(made)["step"] == 1


def test_the_best_few_become_one_only_if_that_is_no_worse(sd15, tmp_path):
    for name, last, averaged in (("better", 0.9, [2, 4]), ("worse", 0.1, [])):
        made = job(tmp_path / name, sd15, steps=4, validate_every=2, average_best=2, patience=0)
        answers = iter([0.6, 0.5, last])
        train(made, lambda pictures: [next(answers)] * len(pictures))  # noqa: B023
        assert notes(made)["steps_averaged"] == averaged


def test_curve_is_drawn():
    curve = Curve(points=tuple(Point(step=s, each=(v, v + 0.1, None)) for s, v in ((100, 0.1), (200, 0.5))))
    assert np.asarray(draw(curve, 200)).std() > 5
    assert Curve.from_json(curve.to_json()) == curve


def test_memory_is_planned_and_measured(sd15, tmp_path):
    said = []
    made = job(tmp_path, sd15, validate_every=0)
    train(made, say=said.append)
    assert any(line.startswith("in all") for line in said)
    assert said[-1].startswith("Memory: planned")
    memory = json.loads((made.folder / "memory.json").read_text())
    assert {name: memory[name] for name in ("planned_bytes", "peak_bytes")} == notes(made)["memory"]
    assert 0.5 < memory["planned_bytes"] / memory["peak_bytes"] < 2


def test_activations_are_those_torch_keeps(sd15):
    """Against the tensors autograd really saves; layers that keep none or two are why this is a plan, not a count."""
    from diffusers import UNet2DConditionModel

    from facechain.engines.lora.memory import activations

    unet = UNet2DConditionModel.from_pretrained(sd15, subfolder="unet")
    parameters = {value.data_ptr() for value in unet.parameters()}
    saved: dict[int, int] = {}

    def keep(tensor):
        if tensor.untyped_storage().data_ptr() not in parameters:
            saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        answer = unet(torch.randn(2, 4, 16, 16), torch.tensor([5, 5]), torch.randn(2, 77, 32)).sample
    planned = 4 * activations(unet, 2, (16, 16), checkpointing=False)
    assert answer.requires_grad
    assert 0.5 < planned / sum(saved.values()) < 2
    assert activations(unet, 2, (16, 16), checkpointing=True) * 4 < planned / 2


def test_a_child_process_learns_the_same_and_asks_for_scores(sd15, tmp_path):
    from facechain.engines.lora.child import train_in_child

    here, there = job(tmp_path / "here", sd15), job(tmp_path / "there", sd15)
    seen = []
    train(here, brightness)
    train_in_child(there, brightness, lambda *event: seen.append(event))
    assert same(weights(here), weights(there))
    assert ("learning", 4, 4) in seen


def test_a_child_that_dies_is_never_a_success(sd15, tmp_path):
    from facechain.engines.lora.child import train_in_child

    made = job(tmp_path, sd15, steps=10_000, validate_every=0)

    def kill(stage, done, total):
        if stage == "learning" and done == 3:
            name = str(made.folder).encode()
            for entry in Path("/proc").glob("[0-9]*"):
                with_name = (entry / "cmdline").read_bytes() if (entry / "cmdline").exists() else b""
                if name in with_name:
                    os.kill(int(entry.name), signal.SIGKILL)

    with pytest.raises(EngineError, match=r"after learning \d+ of 10000: .*SIGKILL"):
        train_in_child(made, None, kill)
    assert not made.done
    assert checkpoints.listed(made.folder / "checkpoints")


def test_captions_may_be_edited_before_training(sd15, tmp_path):
    plain, edited = job(tmp_path / "a", sd15, validate_every=0), job(tmp_path / "b", sd15, validate_every=0)
    (edited.folder / "examples" / "000.txt").write_text("portrait photo of img person, green hat")
    train(plain)
    train(edited)
    assert not same(weights(plain), weights(edited))


def test_settings_say_what_is_wrong():
    with pytest.raises(ConfigError, match="rank is 0"):
        TrainSettings(rank=0)
    with pytest.raises(ConfigError, match="one of adamw"):
        TrainSettings(optimizer="sgd")


@pytest.mark.parametrize(("name", "package"), [("adamw8bit", "bitsandbytes"), ("prodigy", "prodigyopt")])
def test_optional_optimisers_say_what_to_install(name, package):
    import importlib.util

    from facechain.engines.lora.optimizers import OPTIMIZERS

    if importlib.util.find_spec(package):
        pytest.skip(f"{package} is installed")
    with pytest.raises(EngineError, match=f"pip install {package}"):
        OPTIMIZERS[name]([], TrainSettings(optimizer=name))


def test_json_of_a_job_is_the_job(sd15, tmp_path):
    from facechain.engines.lora.job import read_job

    made = job(tmp_path, sd15)
    assert read_job(tmp_path) == made
    assert json.loads((tmp_path / "job.json").read_text())["settings"]["rank"] == 4
    assert len(lora_kit.examples()) == 3
