"""Learning: exact resume, whole checkpoints, the loss, and choosing by likeness."""

import json
import multiprocessing
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import lora_kit
import numpy as np
import pytest
from lora_kit import brightness, job, notes, weights

from facechain.engines.lora import checkpoints
from facechain.engines.lora.likeness import Curve, Point, draw
from facechain.engines.lora.optimizers import OPTIMIZERS
from facechain.engines.lora.settings import TrainSettings
from facechain.errors import Cancelled, EngineError

torch = pytest.importorskip("torch")

from accelerate.state import AcceleratorState  # noqa: E402

from facechain.engines.lora.train import train  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch.set_num_threads(1)


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


@pytest.mark.parametrize(
    ("family", "optimizer"), [("sd15", "adamw"), ("sdxl", "prodigy"), ("sd15", "adamw8bit")], ids="-".join
)
def test_taken_up_again_is_bit_equal_to_never_stopped(family, optimizer, request, tmp_path):
    if optimizer == "adamw8bit":
        pytest.importorskip("bitsandbytes")
    base = request.getfixturevalue(family)
    more = {"train_text": True, "ema_decay": 0.9, "accumulate": 2, "noise_offset": 0.05, "warmup_steps": 1}
    whole = job(tmp_path / "whole", base, optimizer=optimizer, **more)
    train(whole, brightness)
    parts = job(tmp_path / "parts", base, optimizer=optimizer, **more)
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
    assert am.keys() == bm.keys()
    assert all(same(tensors(am[k]), tensors(bm[k])) and tensors(am[k]) for k in am)
    assert notes(whole)["step"] == notes(parts)["step"]


def tensors(values, path=""):
    """By path: bitsandbytes nests them."""
    found = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= tensors(value, f"{path}{name}.")
        elif torch.is_tensor(value):
            found[f"{path}{name}"] = value
    return found


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


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_learning_lowers_the_error(sd15, tmp_path, optimizer):
    """The same pictures again and again, so only learning can lower it."""
    if optimizer == "adamw8bit":
        pytest.importorskip("bitsandbytes")
    # Layers below 4096 numbers keep 32 bits.
    wide = {"rank": 128, "alpha": 128.0, "learning_rate": 1e-3} if optimizer == "adamw8bit" else {}
    steps = 40
    more = {"steps": steps, "cosine": False, "validate_every": 0, "checkpoint_every": steps, **wide}
    made = job(tmp_path, sd15, count=1, optimizer=optimizer, **more)
    train(made)
    losses = notes(made)["losses"]
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:10])
    if optimizer == "adamw8bit":
        kept = {value.dtype for moments in state(made.folder)[1].values() for value in tensors(moments).values()}
        assert torch.uint8 in kept


def test_pictures_and_words_are_encoded_once(sd15, tmp_path, monkeypatch):
    """Taken up again, the cache is all that is read; other words make another one."""
    from diffusers import AutoencoderKL

    made = job(tmp_path, sd15, validate_every=0)
    with pytest.raises(Cancelled):
        train(made, tick=stop_at(2))
    monkeypatch.setattr(AutoencoderKL, "encode", lambda *given: 1 / 0)
    with pytest.raises(Cancelled):
        train(made, tick=stop_at(3))
    (made.folder / "examples" / "000.txt").write_text("portrait photo of img person, green hat")
    with pytest.raises(ZeroDivisionError):
        train(made)


def test_the_moving_average_is_what_is_kept(sd15, tmp_path):
    made = job(tmp_path, sd15, ema_decay=0.9, validate_every=0, cosine=False)
    train(made)
    raw, moments, _ = checkpoints.load(checkpoints.listed(made.folder / "checkpoints")[-1])
    layer = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_B.weight"
    assert any(torch.equal(weights(made)[layer], average) for average in moments["ema"]["shadow_params"])
    assert (raw[layer] - weights(made)[layer]).abs().max() > 1e-3


@pytest.fixture
def other_precision():
    """Accelerate keeps to one precision a process, as a training has one of its own."""
    AcceleratorState._reset_state()
    yield AcceleratorState._reset_state
    AcceleratorState._reset_state()


def test_in_16_bit_the_base_works_and_what_is_learned_stays_in_32(sdxl, tmp_path, monkeypatch, other_precision):
    from diffusers import AutoencoderKL

    encode, seen = AutoencoderKL.encode, []

    def watched(self, pixels, *given, **more):
        seen.append((pixels.dtype, self.dtype))
        return encode(self, pixels, *given, **more)

    monkeypatch.setattr(AutoencoderKL, "encode", watched)
    full, half = (job(tmp_path / name, sdxl, precision=name) for name in ("fp32", "bf16"))
    train(full, brightness)
    other_precision()
    train(half, brightness)
    assert set(seen) == {(torch.float32, torch.float32)}, "SDXL's autoencoder overflows in fp16"
    assert notes(half)["losses"] == pytest.approx(notes(full)["losses"], rel=0.05)
    assert notes(half)["losses"] != notes(full)["losses"]
    assert {value.dtype for value in weights(half).values()} == {torch.float32}


def test_fp16_is_not_for_a_cpu(sd15, tmp_path, caplog):
    from facechain.engines.diffusion.setup import Setup

    made = job(tmp_path, sd15, precision="fp16", steps=1, validate_every=0)
    train(replace(made, base=replace(made.base, setup=Setup(device="cpu"))))
    assert "learning in fp32" in caplog.text


def test_all_that_is_not_trained_is_parked_the_safety_checker_too(tmp_path):
    """What paints must lie on one device: a part left behind would only be missed on a GPU."""
    import tiny
    from diffusers import DiffusionPipeline

    from facechain.engines.lora import parked

    pipe = DiffusionPipeline.from_pretrained(tiny.sd15(tmp_path / "safe", safety=True))
    models = {name: model for name, model in pipe.components.items() if isinstance(model, torch.nn.Module)}
    assert "safety_checker" in models
    for train_text in (False, True):
        kept = {"unet", "text_encoder"} if train_text else {"unet"}
        idle = parked._idle(pipe, TrainSettings(train_text=train_text))
        assert {id(model) for model in idle} == {id(model) for name, model in models.items() if name not in kept}
    made = job(tmp_path / "job", tmp_path / "safe", steps=1, prior_pictures=1)
    train(made, brightness)
    assert made.done


def test_gradient_checkpointing_changes_memory_not_numbers(sd15, tmp_path):
    plain, spared = (job(tmp_path / str(on), sd15, gradient_checkpointing=on, validate_every=0) for on in (False, True))
    train(plain)
    train(spared)
    assert notes(plain)["losses"] == pytest.approx(notes(spared)["losses"], abs=1e-6)


def test_frozen_convolutions_keep_nothing_of_what_went_in_and_learn_the_same_bits(sd15):
    from types import SimpleNamespace

    from diffusers import UNet2DConditionModel

    from facechain.engines.lora import parked
    from facechain.engines.lora.adapters import Adapters

    def learn(forgetful):
        unet = UNet2DConditionModel.from_pretrained(sd15, subfolder="unet")
        adapters, kept = Adapters(SimpleNamespace(unet=unet), TrainSettings()), {}
        if forgetful:
            parked.forget_inputs(unet)
        given = torch.Generator().manual_seed(1)
        noisy, text = torch.randn(2, 4, 16, 16, generator=given), torch.randn(2, 77, 32, generator=given)
        weights = {value.untyped_storage().data_ptr() for value in unet.parameters()}

        def keep(tensor):
            if (storage := tensor.untyped_storage()).data_ptr() not in weights:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            answer = unet(noisy, torch.tensor([5, 500]), text).sample
        answer.square().mean().backward()
        return sum(kept.values()), {name: value.grad for name, value in adapters.named().items()}

    (before, expected), (after, found) = learn(False), learn(True)
    assert after < 0.95 * before
    assert same(expected, found)


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


@pytest.mark.timeout(900)  # as many starts; a minute for twenty on a quiet machine
@pytest.mark.parametrize("moments", [6, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_any_moment_it_can_always_go_on(sd15, tmp_path, moments):
    train(job(tmp_path / "warm", sd15, steps=1, validate_every=0))  # what the forks inherit they need not make
    made = job(tmp_path / "killed", sd15, steps=4000, checkpoint_every=1, validate_every=3, patience=0, count=2)
    chance, context = random.Random(4), multiprocessing.get_context("fork")
    for _ in range(moments):
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
    assert last >= moments // 2
    end = replace(made, settings=made.settings.model_copy(update={"steps": last + 1}))
    train(end, brightness)
    assert end.done
    assert len(notes(end)["losses"]) == last + 1


@pytest.mark.parametrize("start", ["fork", pytest.param("torchrun", marks=pytest.mark.slow)])
def test_two_processes_learn_as_one(sd15, tmp_path, start):
    """They share the batches of a step; one process takes them one after the other."""
    # At the usual rate: AdamW turns rounding into whole steps where a gradient is all but zero.
    rates = {"learning_rate": 1e-4, "text_learning_rate": 5e-5}
    more = {"accumulate": 4, "steps": 3, "validate_every": 0, "train_text": True, **rates}
    one = job(tmp_path / "one", sd15, **more)
    two = job(tmp_path / "two", sd15, **more)
    train(one)
    forked(two) if start == "fork" else torchrun(two)
    np.testing.assert_allclose(notes(one)["losses"], notes(two)["losses"], rtol=1e-5)
    ours, theirs = weights(one), weights(two)
    for part in ("unet", "text_encoder"):
        # Attention over a single place has no gradient but rounding's.
        learned = [key for key in ours if key.startswith(part) and "lora_B" in key and "mid_block" not in key]
        apart = sum((ours[key] - theirs[key]).square().sum() for key in learned)
        assert apart < 1e-3 * sum(ours[key].square().sum() for key in learned), part


def forked(made):
    """What torchrun tells its processes, told to two forks of this one: they need not load the libraries again."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    context = multiprocessing.get_context("fork")

    def member(rank):
        os.environ.update(address, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2")
        torch.set_num_threads(1)
        AcceleratorState._reset_state(reset_partial_state=True)
        train(made)

    members = [context.Process(target=member, args=(rank,)) for rank in range(2)]
    for process in members:
        process.start()
    for process in members:
        process.join(200)
    assert [process.exitcode for process in members] == [0, 0]


def torchrun(made):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    subprocess.run(
        [sys.executable, *launcher, "-m", "facechain.engines.lora.child", str(made.folder)],
        check=True,
        capture_output=True,
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


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


def test_stopped_after_a_validation_no_checkpoint_knows_it_can_still_choose_what_one_knows(sd15, tmp_path):
    """Where bits are not repeated, as on GPUs, the second time may find nothing better."""
    made = job(tmp_path, sd15, steps=4, checkpoint_every=2, validate_every=1, patience=0)
    answers = iter([0.2, 0.5, 0.6])
    with pytest.raises(Cancelled):
        train(made, lambda pictures: [next(answers)] * len(pictures), stop_at(3))
    train(made, lambda pictures: [0.1] * len(pictures))
    assert notes(made)["step"] == 2
    assert notes(made)["likeness"] == pytest.approx(0.5)


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


@pytest.mark.parametrize(("family", "goal_gib"), [("sd15", 8), ("sdxl", 16)])
def test_plans_of_full_bases_stay_within_the_goals(family, goal_gib):
    """Of the published shapes, without their weights: a plan, as the tests have no GPU to measure on."""
    from types import SimpleNamespace

    from diffusers import UNet2DConditionModel

    from facechain.engines.diffusion.layouts import LAYOUTS
    from facechain.engines.lora import memory
    from facechain.engines.lora.adapters import Adapters
    from facechain.engines.lora.engine import RESOLUTION_PX

    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(LAYOUTS[family]["unet/config.json"], torch_dtype=torch.bfloat16)
        pipe = SimpleNamespace(unet=unet.to(torch.bfloat16))
        settings = TrainSettings(resolution_px=RESOLUTION_PX[family])
        adapters = Adapters(pipe, settings)
    side = RESOLUTION_PX[family] // 8
    planned = memory.plan(pipe, adapters, settings, (side, side), half=True)
    assert planned.base > {"sd15": 1.5, "sdxl": 4.5}[family] * 2**30, "all weights are counted"
    assert planned.activations > planned.trained
    assert planned.total < (goal_gib - 1) * 2**30, "a GiB for what libraries keep on a GPU"


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


def test_a_child_that_dies_is_never_a_success_and_learned_the_same_until_then(sd15, tmp_path):
    from facechain.engines.lora.child import train_in_child

    here, there = job(tmp_path / "here", sd15, steps=6), job(tmp_path / "there", sd15, steps=6)
    seen, asked = [], []

    def kill(stage, done, total):
        seen.append(stage)
        if asked and stage == "learning" and done >= 3:
            name = str(there.folder).encode()
            for entry in Path("/proc").glob("[0-9]*"):
                with_name = (entry / "cmdline").read_bytes() if (entry / "cmdline").exists() else b""
                if name in with_name:
                    os.kill(int(entry.name), signal.SIGKILL)

    def score(pictures):
        asked.append(len(pictures))
        return brightness(pictures)

    with pytest.raises(EngineError, match=r"after learning \d of 6: .*SIGKILL"):
        train_in_child(there, score, kill)
    assert not there.done
    assert asked
    assert {"preparing", "learning"} <= set(seen)
    assert checkpoints.listed(there.folder / "checkpoints")
    train(there, brightness)
    train(here, brightness)
    assert same(weights(here), weights(there))
    assert notes(here)["losses"] == notes(there)["losses"]


def test_a_child_that_dies_while_its_pictures_are_looked_at_says_so(sd15, tmp_path):
    from facechain.engines.lora.child import train_in_child

    made = job(tmp_path, sd15)

    def score(pictures):
        (child,) = [
            int(entry.name)
            for entry in Path("/proc").glob("[0-9]*")
            if (entry / "cmdline").exists() and str(made.folder).encode() in (entry / "cmdline").read_bytes()
        ]
        os.kill(child, signal.SIGKILL)
        while (Path("/proc") / str(child) / "cmdline").read_bytes():  # until it is gone and its pipes with it
            time.sleep(0.01)
        return brightness(pictures)

    with pytest.raises(EngineError, match=r"after learning \d of 4: .*SIGKILL"):
        train_in_child(made, score)
    assert not made.done


TORCHRUN = """
[rank0]: Traceback (most recent call last):
[rank0]:   File "train.py", line 46, in train
[rank0]: {said}
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
  exitcode  : 1 (pid: 10879)
  traceback : {traceback}
============================================================
"""


@pytest.mark.parametrize(
    ("code", "log", "reason", "advice"),
    [
        (-9, "", "ended by SIGKILL, perhaps for lack of memory", "it goes on"),
        (-15, "ImportError: only a warning\n", "ended by SIGTERM", "it goes on"),
        (1, "Traceback\nValueError: no such number\nsome farewell\n", "ValueError: no such number", "report it"),
        (1, "torch.OutOfMemoryError: CUDA out of memory. Tried\n", "CUDA out of memory. Tried", "less memory"),
        (1, TORCHRUN.format(said="facechain.errors.EngineError: Two. Or one.", traceback="see"), "Two. Or", "report"),
        (1, TORCHRUN.format(said="", traceback="Signal 9 (SIGKILL) received by PID 7"), "by SIGKILL", "it goes on"),
        (3, "", "exit code 3", "report it"),
    ],
)
def test_what_a_child_died_of_is_found_among_what_it_printed(tmp_path, code, log, reason, advice):
    """Only what was ended from outside goes on when it is run again."""
    from facechain.engines.lora.child import _next_step, _reason

    (tmp_path / "child.log").write_text(log)
    found = _reason(code, tmp_path / "child.log")
    assert reason in found
    assert advice in _next_step(found, tmp_path / "child.log")


@pytest.mark.slow
def test_children_that_cannot_share_a_step_say_what_to_set(sd15, tmp_path):
    from facechain.engines.lora.child import train_in_child

    with pytest.raises(EngineError, match="Set accumulate to a multiple of the processes"):
        train_in_child(job(tmp_path, sd15, accumulate=3), processes=2)


def test_captions_may_be_edited_before_training(sd15, tmp_path):
    plain, edited = job(tmp_path / "a", sd15, validate_every=0), job(tmp_path / "b", sd15, validate_every=0)
    (edited.folder / "examples" / "000.txt").write_text("portrait photo of img person, green hat")
    train(plain)
    train(edited)
    assert not same(weights(plain), weights(edited))


def test_settings_say_what_is_wrong():
    with pytest.raises(EngineError, match="rank is 0"):
        TrainSettings.parse({"rank": 0}, "A training")
    with pytest.raises(EngineError, match="'adamw', 'adamw8bit' or 'prodigy'"):
        TrainSettings.parse({"optimizer": "sgd"}, "A training")


@pytest.mark.parametrize(("name", "package"), [("adamw8bit", "bitsandbytes"), ("prodigy", "prodigyopt")])
def test_optional_optimisers_say_what_to_install(monkeypatch, name, package):
    for module in (package, f"{package}.optim"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(EngineError, match=f"pip install {package}"):
        OPTIMIZERS[name]([], TrainSettings(optimizer=name))


def test_json_of_a_job_is_the_job(sd15, tmp_path):
    from facechain.engines.lora.job import read_job

    made = job(tmp_path, sd15)
    assert read_job(tmp_path) == made
    assert json.loads((tmp_path / "job.json").read_text())["settings"]["rank"] == 4
    assert len(lora_kit.examples()) == 3
