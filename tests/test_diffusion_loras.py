"""Low-rank weights of every format against peft's and diffusers' own arithmetic, and out again bit for bit."""

import json
import re

import pytest
import tiny

from facechain.engines.diffusion.lora_files import read_lora
from facechain.engines.diffusion.lora_maths import change
from facechain.engines.diffusion.loras import LoraRef, named_loras, put_in
from facechain.engines.diffusion.names import clip_path, layers, ldm_path, underscored
from facechain.errors import EngineError, PackError

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


@pytest.fixture(scope="module")
def unchanged(folder):
    """A pipeline for tests that leave it as it is, which each of them would show."""
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


OTHER_NAMES = {
    "comfyui": lambda pipe, part, path: {
        "unet": f"diffusion_model.{ldm_path(path, pipe.unet.config)}",
        "text_encoder": f"text_encoders.clip_l.transformer.{clip_path(path)}",
        "text_encoder_2": f"text_encoders.clip_g.transformer.{clip_path(path)}",
    }[part],
    "simpletuner": lambda pipe, part, path: "lycoris_" + path.replace(".", "_") if part == "unet" else None,
}


@pytest.mark.parametrize("program", OTHER_NAMES)
def test_names_of_other_programs(unchanged, tmp_path, program):
    expected, other = read_lora(kohya(unchanged, tmp_path / "kohya.safetensors"), unchanged), {}
    for part, path, down, up in random_pairs(unchanged):
        if name := OTHER_NAMES[program](unchanged, part, path):
            other |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
    read = read_lora(save(other, tmp_path / "other.safetensors"), unchanged)
    assert read.keys() == {layer for layer in expected if program == "comfyui" or layer[0] == "unet"}
    assert all(torch.equal(roles["down"], expected[layer]["down"]) for layer, roles in read.items())


@pytest.mark.parametrize("adapter", ["default", "ada"])
def test_names_with_the_adapter_in_them(unchanged, tmp_path, adapter):
    """As peft's own models have them before it writes a file."""
    named = {
        f"base_model.model.{part}.{path}.lora_{which}.{adapter}.weight": tensor
        for part, path, down, up in random_pairs(unchanged)
        for which, tensor in (("A", down), ("B", up))
    }
    read = read_lora(save(named, tmp_path / "raw.safetensors"), unchanged)
    assert len(read) == len(named) // 2


def test_norms_and_lone_biases(unchanged, tmp_path):
    """LyCORIS writes what it adds to a norm's weight and bias; ComfyUI's files may change a bias alone."""
    xl = hasattr(unchanged, "text_encoder_2")
    norm = "lora_unet_" + ("middle_block_0_in_layers_0" if xl else "mid_block_resnets_0_norm1")
    width = len(unchanged.unet.mid_block.resnets[0].norm1.weight)
    tensors = {f"{norm}.w_norm": torch.full((width,), 2.0), f"{norm}.b_norm": torch.full((width,), 3.0)}
    tensors["diffusion_model.out.0.diff_b"] = torch.ones_like(unchanged.unet.conv_norm_out.bias)
    layer = unchanged.unet.mid_block.attentions[0].proj_in
    tensors["diffusion_model.middle_block.1.proj_in.diff_b"] = torch.ones_like(layer.bias)
    before = state(unchanged)
    own = [t.clone() for t in (unchanged.unet.mid_block.resnets[0].norm1.weight, layer.bias, layer.weight)]
    with put_in(unchanged, [LoraRef(path=save(tensors, tmp_path / "norms.safetensors"), scale=0.5)]), torch.no_grad():
        changed = (unchanged.unet.mid_block.resnets[0].norm1.weight, layer.bias, layer.weight)
        for now, then, added in zip(changed, own, (1.0, 0.5, 0.0), strict=True):
            torch.testing.assert_close(now - then, torch.full_like(then, added))
    assert all(torch.equal(a, b) for a, b in zip(before, state(unchanged), strict=True))


LAYER = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k"


def pair(out, into, name=LAYER):
    return {f"{name}.lora_B.weight": torch.ones(out, 2), f"{name}.lora_A.weight": torch.ones(2, into)}


REFUSED = {
    "another family": (lambda *_: pair(2, 2, "lora_unet_double_blocks_0_img_attn_qkv"), "does not fit this base"),
    "one factor": (lambda out, into: dict([*pair(out, into).items()][:1]), "incomplete"),
    "alpha alone": (lambda *_: {f"{LAYER}.alpha": torch.ones(())}, "incomplete"),
    "another width": (lambda out, into: pair(out, into + 16), f"{LAYER} is .* another shape"),
    "as many numbers": (lambda out, into: {f"{LAYER}.diff": torch.ones(2 * out, into // 2)}, "another shape"),
    "another rank": (lambda out, into: pair(out, into) | {f"{LAYER}.lora_A.weight": torch.ones(3, into)}, "another"),
    "one magnitude": (lambda out, into: pair(out, into) | {f"{LAYER}.dora_scale": torch.ones(1)}, "another shape"),
    "a bias of none": (lambda out, _: {f"{LAYER}.diff_b": torch.ones(out)}, "another shape"),
    "not a number": (lambda out, into: pair(out, into) | {f"{LAYER}.alpha": torch.tensor(float("nan"))}, "not finite"),
    "infinite": (lambda out, into: {f"{LAYER}.diff": torch.full((out, into), float("inf"))}, "not finite"),
    "two adapters": (
        lambda out, into: pair(out, into) | {f"{LAYER}.lora_A.second.weight": torch.ones(2, into)},
        "twice",
    ),
    "nothing": (lambda *_: {}, "only a header"),
    "oft": (lambda *_: {f"{LAYER}.oft_blocks": torch.ones(4, 4, 4)}, "an OFT or BOFT"),
    "diag-oft": (lambda *_: {f"{LAYER}.oft_diag": torch.ones(4, 4, 4)}, "an OFT or BOFT"),
    "glora": (lambda *_: {f"{LAYER}.{n}.weight": torch.ones(4, 4) for n in ("a1", "a2", "b1", "b2")}, "a GLoRA"),
    "ia3": (lambda *_: {f"{LAYER}.weight": torch.ones(4), f"{LAYER}.on_input": torch.ones(())}, "an IA3"),
    "vera": (lambda *_: {f"{LAYER}.vera_lambda_b": torch.ones(4)}, "a VeRA"),
    "embedding": (lambda *_: {"emb_params": torch.ones(2, 32)}, "a textual inversion embedding"),
    "base": (lambda *_: {"model.diffusion_model.out.2.bias": torch.ones(4)}, "a whole base model"),
}


@pytest.mark.parametrize("which", REFUSED)
def test_what_does_not_fit_is_refused_by_what_it_is(unchanged, tmp_path, which):
    make, says = REFUSED[which]
    weight = unchanged.unet.get_submodule(LAYER.removeprefix("unet.")).weight
    file, before = save(make(*weight.shape), tmp_path / "some.safetensors", made="by a test"), state(unchanged)
    with pytest.raises(EngineError, match=f"some.safetensors .*{says}"), put_in(unchanged, [LoraRef(path=file)]):
        pass
    assert all(torch.equal(a, b) for a, b in zip(before, state(unchanged), strict=True))


def test_a_file_that_was_cut_is_refused(unchanged, tmp_path):
    file = kohya(unchanged, tmp_path / "cut.safetensors")
    for length in (len(file.read_bytes()) - 1, 2000, 4, 0):
        file.write_bytes(file.read_bytes()[:length])
        with pytest.raises(PackError, match=r"cut\.safetensors .*Download"):
            read_lora(file, unchanged)


def test_what_overflows_half_precision_is_refused_and_leaves_no_trace(pipe, tmp_path):
    file = kohya(pipe, tmp_path / "kohya.safetensors")
    pipe.unet.half()
    before = state(pipe)
    with (
        pytest.raises(EngineError, match="too large"),
        put_in(pipe, [LoraRef(path=file, scale=1e6)]),
    ):
        pass
    assert all(torch.equal(a, b) for a, b in zip(before, state(pipe), strict=True))


def test_bundled_embeddings_are_told_and_the_rest_is_used(unchanged, tmp_path, caplog):
    tensors = _tensors(kohya(unchanged, tmp_path / "kohya.safetensors"))
    file = save(tensors | {"bundle_emb.zorg.string_to_param.*": torch.ones(2, 32)}, tmp_path / "bundle.safetensors")
    assert len(read_lora(file, unchanged)) == len(tensors) // 3
    assert "zorg" in caplog.text
    assert "bundle.safetensors" in caplog.text


@pytest.mark.parametrize(
    ("text", "file", "scale"),
    [
        ("ada.safetensors", "ada.safetensors", 1),
        ("ada.safetensors:0.5", "ada.safetensors", 0.5),
        ("style:v2.safetensors", "style:v2.safetensors", 1),
        ("style:v2.safetensors:-0.5", "style:v2.safetensors", -0.5),
        ("C:\\loras\\ada.safetensors:1e-1", "C:\\loras\\ada.safetensors", 0.1),
        ("ada:2", "ada:2", 1),
    ],
)
def test_a_path_may_hold_colons(text, file, scale, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / file).touch()
    (found,) = named_loras(text)
    assert (str(found.path), found.scale) == (file, scale)


@pytest.mark.parametrize("text", ["gone.safetensors", "C:\\gone.safetensors", "gone.safetensors:0.5", ".", ":", "1"])
def test_a_file_that_is_not_there_is_named_whole(text):
    with pytest.raises(EngineError, match="There is no file") as said:
        named_loras(text)
    assert text in str(said.value)


@pytest.mark.parametrize("scale", ["nan", "inf", "-inf", "1,5", "much", ""])
def test_a_strength_is_a_finite_number(scale, tmp_path):
    (tmp_path / "a.safetensors").touch()
    with pytest.raises(EngineError, match=r"strength of a\.safetensors"):
        named_loras([f"{tmp_path}/a.safetensors:{scale}"])


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
