"""Low-rank weights of every format against peft's and diffusers' own arithmetic, and out again bit for bit."""

import json
import re

import pytest
import tiny

from facechain.engines.diffusion.loras import LoraRef, change, put_in, read_lora
from facechain.engines.diffusion.names import layers, ldm_path, underscored
from facechain.errors import EngineError

torch = pytest.importorskip("torch")
RANK, ALPHA = 4, 3.0


@pytest.fixture(scope="module", params=["sd15", "sdxl"])
def folder(request):
    torch.set_num_threads(1)
    return request.getfixturevalue(request.param)


@pytest.fixture
def pipe(folder):
    from diffusers import DiffusionPipeline

    return DiffusionPipeline.from_pretrained(folder)


def attention_layers(pipe):
    for part, path, module in layers(pipe):
        if re.search(r"(to_[qkv]|to_out\.0|ff\.net\.2|[qkv]_proj|out_proj|fc1)$", path) and module.weight.dim() == 2:
            yield part, path, module


def random_pairs(pipe, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for part, path, module in attention_layers(pipe):
        out, into = module.weight.shape
        down, up = (torch.randn(size, generator=generator) * 0.3 for size in ((RANK, into), (out, RANK)))
        yield part, path, down, up


def save(tensors, path, **metadata):
    from safetensors.torch import save_file

    save_file({k: v.contiguous() for k, v in tensors.items()}, path, {k: json.dumps(v) for k, v in metadata.items()})
    return path


def kohya(pipe, path):
    tensors = {}
    for part, layer, down, up in random_pairs(pipe):
        name = underscored(pipe, part, layer)[0]
        tensors |= {
            f"{name}.lora_down.weight": down,
            f"{name}.lora_up.weight": up,
            f"{name}.alpha": torch.tensor(ALPHA),
        }
    return save(tensors, path)


def state(pipe):
    parts = [pipe.unet, pipe.text_encoder, *([pipe.text_encoder_2] if hasattr(pipe, "text_encoder_2") else [])]
    return [value.detach().clone() for part in parts for value in part.state_dict().values()]


def outcome(pipe):
    """The UNet's answer to a fixed prompt, so text encoders count too."""
    generator = torch.Generator().manual_seed(1)
    return torch.from_numpy(
        pipe("a red coat", num_inference_steps=2, width=64, height=64, generator=generator, output_type="np").images
    )


def test_kohya_files_do_what_diffusers_does_with_them(pipe, folder, tmp_path):
    from diffusers import DiffusionPipeline

    file = kohya(pipe, tmp_path / "kohya.safetensors")
    other = DiffusionPipeline.from_pretrained(folder)
    other.load_lora_weights(str(tmp_path), weight_name=file.name)
    plain = outcome(pipe)
    with put_in(pipe, [LoraRef(path=file)]):
        ours = outcome(pipe)
    assert (plain - ours).abs().max() > 1e-3
    torch.testing.assert_close(ours, outcome(other), atol=1e-5, rtol=0)


def test_spellings_of_the_same_weights_agree(pipe, tmp_path):
    file = kohya(pipe, tmp_path / "kohya.safetensors")
    expected = read_lora(file, pipe)
    new, old, alphas = {}, {}, {}
    for part, layer, down, up in random_pairs(pipe):
        new |= {f"{part}.{layer}.lora_A.weight": down, f"{part}.{layer}.lora_B.weight": up}
        alphas |= {f"{part}.r": RANK, f"{part}.lora_alpha": ALPHA}
        if part == "unet" and "attn" in layer:
            block, leaf = layer.removesuffix(".0").rsplit(".", 1)
            old |= {f"unet.{block}.processor.{leaf}_lora.{w}.weight": t for w, t in (("down", down), ("up", up))}
    peft = read_lora(save(new, tmp_path / "peft.safetensors", lora_adapter_metadata=alphas), pipe)
    assert peft.keys() == expected.keys()
    for layer, roles in expected.items():
        weight = getattr(pipe, layer[0]).get_submodule(layer[1]).weight
        torch.testing.assert_close(change(peft[layer], weight), change(roles, weight))
    for layer, roles in read_lora(save(old, tmp_path / "old.safetensors"), pipe).items():
        weight = getattr(pipe, layer[0]).get_submodule(layer[1]).weight
        torch.testing.assert_close(change(roles, weight) * ALPHA / RANK, change(expected[layer], weight))


@pytest.mark.parametrize("kind", ["loha", "lokr", "lokr_full", "dora"])
def test_lycoris_and_dora_against_peft(kind):
    from peft import LoHaConfig, LoKrConfig, LoraConfig, inject_adapter_in_model

    torch.manual_seed(2)
    net = torch.nn.Sequential(torch.nn.Linear(24, 36))
    weight = net[0].weight.detach().clone()
    config = {
        "loha": LoHaConfig(r=RANK, alpha=ALPHA, target_modules=["0"], init_weights=False),
        "lokr": LoKrConfig(r=2, alpha=ALPHA, target_modules=["0"], init_weights=False),
        "lokr_full": LoKrConfig(r=2, alpha=2, target_modules=["0"], init_weights=False, decompose_both=True),
        "dora": LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["0"], init_lora_weights=False, use_dora=True),
    }[kind]
    layer = inject_adapter_in_model(config, net)[0]
    own = {k.removesuffix(".default").removesuffix(".default.weight"): v for k, v in layer.state_dict().items()}
    names = {"hada_w1_a": "h1a", "hada_w1_b": "h1b", "hada_w2_a": "h2a", "hada_w2_b": "h2b"}
    names |= {"lokr_w1": "k1", "lokr_w2": "k2", "lokr_w1_a": "k1a", "lokr_w1_b": "k1b"}
    names |= {"lokr_w2_a": "k2a", "lokr_w2_b": "k2b"}
    names |= {"lora_A": "down", "lora_B": "up", "lora_magnitude_vector": "magnitude"}
    roles = {names[k.split(".")[0]]: v for k, v in own.items() if k.split(".")[0] in names}
    if kind == "dora":
        roles["magnitude"] = roles["magnitude"] * 1.3
        layer.lora_magnitude_vector["default"].weight.data.mul_(1.3)
    delta = change({**roles, "alpha": torch.tensor(float(2 if kind == "lokr_full" else ALPHA))}, weight)
    x = torch.randn(5, 24)
    torch.testing.assert_close(net(x), torch.nn.functional.linear(x, weight + delta, layer.bias), atol=2e-5, rtol=1e-5)


def test_convolutions_and_full_differences():
    torch.manual_seed(3)
    weight = torch.randn(6, 4, 3, 3)
    down, up = torch.randn(2, 4, 3, 3), torch.randn(6, 2, 1, 1)
    x = torch.randn(1, 4, 7, 7)
    conv = torch.nn.functional.conv2d
    expected = conv(conv(x, down, padding=1), up)
    torch.testing.assert_close(
        conv(x, change({"down": down, "up": up}, weight), padding=1), expected, atol=1e-4, rtol=0
    )
    down1, mid = torch.randn(2, 4, 1, 1), torch.randn(2, 2, 3, 3)
    expected = conv(conv(conv(x, down1), mid, padding=1), up)
    made = change({"down": down1, "mid": mid, "up": up}, weight)
    torch.testing.assert_close(conv(x, made, padding=1), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(change({"diff": weight}, weight), weight)


def test_out_again_bit_for_bit_also_after_an_exception(pipe, tmp_path):
    file = kohya(pipe, tmp_path / "kohya.safetensors")
    before = state(pipe)

    def interrupted():
        with put_in(pipe, [LoraRef(path=file, scale=0.7)]):
            assert not all(torch.equal(a, b) for a, b in zip(before, state(pipe), strict=True))
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        interrupted()
    assert all(torch.equal(a, b) for a, b in zip(before, state(pipe), strict=True))


def test_two_at_once_add_up_and_scale_zero_is_nothing(pipe, tmp_path):
    file = kohya(pipe, tmp_path / "kohya.safetensors")
    path = next(p for part, p, _ in attention_layers(pipe) if part == "unet")
    weight = pipe.unet.get_submodule(path).weight
    before = weight.detach().clone()
    with put_in(pipe, [LoraRef(path=file, scale=0.25), LoraRef(path=file, scale=0.5)]):
        both = weight.detach() - before
    with put_in(pipe, [LoraRef(path=file, scale=0.75)]):
        torch.testing.assert_close(weight.detach() - before, both)
    with put_in(pipe, [LoraRef(path=file, scale=0.0)]):
        assert torch.equal(weight.detach(), before)


def test_weights_for_another_base_are_refused(pipe, tmp_path):
    other = save(
        {"lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": torch.zeros(2, 2)}, tmp_path / "flux.safetensors"
    )
    with pytest.raises(EngineError, match="does not fit this base"), put_in(pipe, [LoraRef(path=other)]):
        pass
    half = {k: v for k, v in _tensors(kohya(pipe, tmp_path / "k.safetensors")).items() if "lora_up" not in k}
    with pytest.raises(EngineError, match="incomplete"):
        read_lora(save(half, tmp_path / "half.safetensors"), pipe)


def _tensors(path):
    from safetensors.torch import load_file

    return load_file(path)


def test_every_layer_of_the_unet_has_its_published_name(pipe):
    """The names are those of the single file, written independently in the tests' own converter."""
    ups = pipe.unet.config.up_block_types
    for part, path, _ in layers(pipe):
        if part == "unet":
            expected = tiny._unet_name(f"{path}.weight", lambda block: "Attn" in ups[block]).removesuffix(".weight")
            assert ldm_path(path, pipe.unet.config) == expected
