"""What was learned, in other programs' files: the same weights, every key read, nothing left over."""

import json

import pytest
from lora_kit import job, notes

from facechain.engines.diffusion.loras import LoraRef, change, put_in, read_lora

torch = pytest.importorskip("torch")

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


@pytest.mark.parametrize("file", ["lora.safetensors", "lora_kohya.safetensors"])
def test_diffusers_paints_with_it_what_we_paint(learned, file):
    base, made = learned
    pipe, other = open_base(base), open_base(base)
    plain = outcome(pipe)
    with put_in(pipe, [LoraRef(path=made.result / file)]):
        ours = outcome(pipe)
    assert (ours - plain).abs().max() > 1e-3
    # diffusers leaves DoRA's magnitudes out of kohya's files, and says so: there PEFT's file is the measure of both.
    other.load_lora_weights(
        str(made.result), weight_name="lora.safetensors" if "dora" in made.folder.parts[-2] else file
    )
    torch.testing.assert_close(ours, outcome(other), atol=1e-5, rtol=0)


def test_dora_scales_have_an_axis_for_each_of_the_weights(learned):
    """Others divide `dora_scale` by norms that keep the weight's axes; one axis fewer and a convolution goes wrong."""
    base, made = learned
    if not made.settings.dora:
        pytest.skip("no magnitudes")
    pipe = open_base(base)
    for (part, path), roles in read_lora(made.result / "lora_kohya.safetensors", pipe).items():
        weight = getattr(pipe, part).get_submodule(path).weight.detach()
        low = (roles["up"].flatten(1) @ roles["down"].flatten(1)).reshape(weight.shape) * (3.0 / 4)
        norms = (weight + low).flatten(1).norm(dim=1).reshape(-1, *[1] * (weight.dim() - 1))
        expected = (weight + low) * (roles["magnitude"] / norms)
        assert expected.shape == weight.shape
        torch.testing.assert_close(weight + change(roles, weight), expected, atol=1e-6, rtol=1e-5)


def test_both_files_are_the_same_change(learned):
    base, made = learned
    pipe = open_base(base)
    peft, kohya = (read_lora(made.result / f"lora{kind}.safetensors", pipe) for kind in ("", "_kohya"))
    assert peft.keys() == kohya.keys()
    parts = {part for part, _ in peft}
    assert parts == {"unet", "text_encoder", *(["text_encoder_2"] if hasattr(pipe, "text_encoder_2") else [])}
    for (part, path), roles in peft.items():
        weight = getattr(pipe, part).get_submodule(path).weight
        one, other = change(roles, weight), change(kohya[part, path], weight)
        # Queries and keys of a single place have nothing to learn; nor has a last text layer SDXL does not listen to.
        assert one.abs().max() > 0 or "mid_block" in path or ("text_encoder_2" in parts and "layers.2" in path)
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_names_alphas_and_headers_are_those_others_expect(learned):
    from safetensors import safe_open

    base, made = learned
    xl = hasattr(open_base(base), "text_encoder_2")
    with safe_open(made.result / "lora_kohya.safetensors", framework="pt") as file:
        keys, metadata = list(file.keys()), file.metadata()
        alphas = {file.get_tensor(key).item() for key in keys if key.endswith(".alpha")}
    assert alphas == {3.0}
    assert {key.split(".")[0].split("_")[1] for key in keys} == ({"unet", "te1", "te2"} if xl else {"unet", "te"})
    assert any("input_blocks_4_1_transformer_blocks_0_attn1_to_q" in k for k in keys) == xl
    assert any("te1_text_model_encoder" in k or "te_text_model_encoder" in k for k in keys)
    assert metadata["ss_network_dim"] == "4"
    assert metadata["ss_network_alpha"] == "3.0"
    assert metadata["modelspec.trigger_phrase"] == "img person"
    assert len(metadata["sshs_model_hash"]) == 64
    with safe_open(made.result / "lora.safetensors", framework="pt") as file:
        config = json.loads(file.metadata()["lora_adapter_metadata"])
        assert any(key.startswith("text_encoder.text_model.encoder") for key in file.keys())  # noqa: SIM118
    assert config["unet.lora_alpha"] == 3.0
    assert config["unet.r"] == 4
    assert notes(made)["photos"] == 3
