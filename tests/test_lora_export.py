"""What was learned, in other programs' files: the same weights, every key read, nothing left over."""

import json

import pytest
from lora_kit import job, notes

from facechain.engines.diffusion.lora_files import read_lora
from facechain.engines.diffusion.lora_maths import change
from facechain.engines.diffusion.loras import LoraRef, put_in
from facechain.engines.diffusion.names import underscored

torch = pytest.importorskip("torch")

from facechain.engines.lora.export import DIFFUSERS, WEBUI, weights_in  # noqa: E402
from facechain.engines.lora.train import train  # noqa: E402


@pytest.fixture(scope="module", params=["sd15", "sdxl", "sd15-dora"])
def learned(request, tmp_path_factory):
    """Rank 4, alpha 3, text encoders too."""
    torch.set_num_threads(1)
    family, _, dora = request.param.partition("-")
    folder = tmp_path_factory.mktemp(request.param)
    base = request.getfixturevalue(family)
    made = job(folder / "job", base, train_text=True, validate_every=0, targets="all", dora=bool(dora))
    train(made)
    return base, made


def open_base(base):
    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained(base)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def outcome(pipe):
    seed = torch.Generator().manual_seed(1)
    made = pipe("img person", num_inference_steps=2, width=64, height=64, generator=seed, output_type="np")
    return torch.from_numpy(made.images)


@pytest.mark.parametrize("file", [DIFFUSERS, WEBUI])
def test_diffusers_paints_with_it_what_we_paint(learned, file):
    base, made = learned
    pipe, other = open_base(base), open_base(base)
    plain = outcome(pipe)
    with put_in(pipe, [LoraRef(path=made.result / file)]):
        ours = outcome(pipe)
    assert (ours - plain).abs().max() > 1e-3
    other.load_lora_weights(str(made.result), weight_name=file)
    torch.testing.assert_close(ours, outcome(other), atol=1e-5, rtol=0)


def _by_input(x):
    """Norms of a weight's inputs, an axis for each of the weight's."""
    return x.transpose(0, 1).flatten(1).norm(dim=1).reshape(1, -1, *[1] * (x.dim() - 2))


def _product(file, name, weight):
    """up · down · alpha / rank, as A1111, ComfyUI and kohya's scripts read a LoRA; without an alpha it is the rank."""
    up, down = (file[f"{name}.lora_{which}.weight"].float() for which in ("up", "down"))
    alpha = file.get(f"{name}.alpha", torch.tensor(down.shape[0])).item()
    return (up.flatten(1) @ down.flatten(1)).reshape(weight.shape) * (alpha / down.shape[0])


def _a1111(file, name, weight):
    """A1111 1.10: a dora_scale is divided by the norms of the changed weight's inputs."""
    changed = weight + _product(file, name, weight)
    scale = file.get(f"{name}.dora_scale")
    return (changed if scale is None else changed * (scale / _by_input(changed))) - weight


def _comfyui(file, name, weight):
    """ComfyUI 0.3.77: one as long as the outputs is divided by the norms of the unchanged weight's."""
    changed = weight + _product(file, name, weight)
    if (scale := file.get(f"{name}.dora_scale")) is not None:
        own = weight.flatten(1).norm(dim=1).reshape(-1, *[1] * (weight.dim() - 1))
        changed = changed * (scale / (own if scale.shape[0] == len(weight) else _by_input(changed)))
    return changed - weight


@pytest.mark.parametrize("program", [_a1111, _comfyui, _product], ids=["a1111", "comfyui", "sd-scripts"])
def test_other_programs_change_each_layer_as_we_do(learned, program):
    """kohya's scripts take nothing but the product, whatever stands beside it."""
    from safetensors.torch import load_file

    base, made = learned
    pipe, file = open_base(base), load_file(made.result / WEBUI)
    for (part, path), roles in read_lora(made.result / DIFFUSERS, pipe).items():
        weight = getattr(pipe, part).get_submodule(path).weight.detach()
        ours, theirs = change(roles, weight), program(file, underscored(pipe, part, path)[0], weight)
        assert (theirs - ours).norm() <= 5e-4 * ours.norm() + 1e-7, path


def test_no_program_is_given_what_it_would_not_read(learned):
    from safetensors import safe_open

    _, made = learned
    with safe_open(made.result / WEBUI, framework="pt") as file:
        endings = {key.split(".", 1)[1] for key in file.keys()}  # noqa: SIM118
    assert endings == {"lora_up.weight", "lora_down.weight"} | (set() if made.settings.dora else {"alpha"})
    assert {path.name for path in made.result.glob("*.safetensors")} == {DIFFUSERS, WEBUI}


def test_trainings_of_earlier_versions_are_painted_with(tmp_path):
    assert weights_in(tmp_path).name == DIFFUSERS
    (tmp_path / "lora.safetensors").touch()
    assert weights_in(tmp_path) == tmp_path / "lora.safetensors"


def test_both_files_are_the_same_change(learned):
    base, made = learned
    pipe = open_base(base)
    peft, kohya = (read_lora(made.result / name, pipe) for name in (DIFFUSERS, WEBUI))
    assert peft.keys() == kohya.keys()
    parts = {part for part, _ in peft}
    assert parts == {"unet", "text_encoder", *(["text_encoder_2"] if hasattr(pipe, "text_encoder_2") else [])}
    for (part, path), roles in peft.items():
        weight = getattr(pipe, part).get_submodule(path).weight
        one, other = change(roles, weight), change(kohya[part, path], weight)
        # Queries and keys of a single place have nothing to learn; nor has a last text layer SDXL does not listen to.
        assert one.abs().max() > 0 or "mid_block" in path or ("text_encoder_2" in parts and "layers.2" in path)
        torch.testing.assert_close(one, other, atol=1e-6 + 5e-4 * one.abs().max().item(), rtol=0)


def test_names_alphas_and_headers_are_those_others_expect(learned):
    from safetensors import safe_open

    base, made = learned
    xl = hasattr(open_base(base), "text_encoder_2")
    with safe_open(made.result / WEBUI, framework="pt") as file:
        keys, metadata = list(file.keys()), file.metadata()
        alphas = {file.get_tensor(key).item() for key in keys if key.endswith(".alpha")}
    assert alphas == (set() if made.settings.dora else {3.0})
    assert {key.split(".")[0].split("_")[1] for key in keys} == ({"unet", "te1", "te2"} if xl else {"unet", "te"})
    assert any("input_blocks_4_1_transformer_blocks_0_attn1_to_q" in k for k in keys) == xl
    assert any("te1_text_model_encoder" in k or "te_text_model_encoder" in k for k in keys)
    assert metadata["ss_network_dim"] == "4"
    assert metadata["ss_network_alpha"] == "3.0"
    assert metadata["modelspec.trigger_phrase"] == "img person"
    assert len(metadata["sshs_model_hash"]) == 64
    with safe_open(made.result / DIFFUSERS, framework="pt") as file:
        config = json.loads(file.metadata()["lora_adapter_metadata"])
        assert any(key.startswith("text_encoder.text_model.encoder") for key in file.keys())  # noqa: SIM118
    assert config["unet.lora_alpha"] == 3.0
    assert config["unet.r"] == 4
    assert notes(made)["photos"] == 3
