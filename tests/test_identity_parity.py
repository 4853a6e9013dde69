"""Our maths against independent ones: diffusers' own where it has them, plain formulas where it has not."""

import math
import re

import pytest
import tiny_identity as tiny
import torch
from torch.nn import functional

from facechain.engines.faceid import KINDS
from facechain.engines.identity.attention import Dial, FaceAttention, face_in
from facechain.engines.identity.checkpoint import open_checkpoint
from facechain.engines.identity.evidence import learn_faces
from facechain.engines.identity.perceiver import Perceiver
from facechain.engines.identity.project import Projector

CLOSE = 1e-5
BASES = {"sd15": tiny.sd15, "sdxl": tiny.sdxl}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


# ── plain formulas, written from the description of the methods ──────────────────────────────────────────────────────


def linear(w, key, x):
    return x @ w[f"{key}.weight"].T + w.get(f"{key}.bias", 0)


def norm(w, key, x):
    mean, var = x.mean(-1, keepdim=True), x.var(-1, unbiased=False, keepdim=True)
    return (x - mean) / (var + 1e-5).sqrt() * w[f"{key}.weight"] + w[f"{key}.bias"]


def gelu(x):
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def attend(q, k, v, count):
    """Head by head, softmax written out."""
    out = []
    for h in range(count):
        part = slice(h * q.shape[-1] // count, (h + 1) * q.shape[-1] // count)
        logits = q[..., part] @ k[..., part].transpose(1, 2) / math.sqrt(q.shape[-1] // count)
        weight = torch.exp(logits - logits.amax(-1, keepdim=True))
        out.append(weight / weight.sum(-1, keepdim=True) @ v[..., part])
    return torch.cat(out, -1)


def perceiver_layers(w, x, latents, layers, count):
    for n in layers:
        a, f = f"layers.{n}.0", f"layers.{n}.1"
        features, own = norm(w, f"{a}.norm1", x), norm(w, f"{a}.norm2", latents)
        kv = linear(w, f"{a}.to_kv", torch.cat([features, own], 1))
        k, v = kv[..., : kv.shape[-1] // 2], kv[..., kv.shape[-1] // 2 :]
        latents = latents + linear(w, f"{a}.to_out", attend(linear(w, f"{a}.to_q", own), k, v, count))
        latents = latents + linear(w, f"{f}.3", gelu(linear(w, f"{f}.1", norm(w, f"{f}.0", latents))))
    return latents


def resample(w, x, latents=None, count=1):
    latents = w["latents"].expand(len(x), -1, -1) if latents is None else latents
    depth = len({key.split(".")[1] for key in w if key.startswith("layers")})
    latents = perceiver_layers(w, linear(w, "proj_in", x), latents, range(depth), count)
    return norm(w, "norm_out", linear(w, "proj_out", latents))


def part(w, prefix):
    return {key[len(prefix) :]: value for key, value in w.items() if key.startswith(prefix)}


# ── perceiver ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_published_deterministic_numbers():
    shapes = tiny.formats.resampler(dim=64, depth=2, inner=64, emb=8, out=10, queries=3)
    weights = {}
    for t, (key, shape) in enumerate(shapes.items()):
        values = 0.05 * torch.sin(0.37 * torch.arange(math.prod(shape), dtype=torch.float64) + t)
        weights[key] = values.float().reshape(shape)
        if key.endswith("weight") and re.search(r"norm|^layers\.\d+\.1\.0\.", key):
            weights[key] += 1
    x = torch.cos(torch.arange(8.0)).reshape(1, 1, 8)
    wanted = [-1.46629, -0.20192, 0.91295, -0.16865, -1.46509, -0.36950, 1.64701, 1.48905, -0.09282, 0.13500]
    ours = Perceiver.of(weights, head_width=16)(x)
    assert (ours[0, 0] - torch.tensor(wanted)).abs().max() < CLOSE
    assert (ours - resample(weights, x, count=4)).abs().max() < CLOSE


# ── FaceID and InstantID against diffusers ───────────────────────────────────────────────────────────────────────────


CASES = {
    "faceid": ("sd15", "faceid", "ip-adapter-faceid_sd15.bin"),
    "faceid-xl": ("sdxl", "faceid", "ip-adapter-faceid_sdxl.bin"),
    "plus": ("sd15", "faceid_plus", "ip-adapter-faceid-plus_sd15.bin"),
    "plusv2": ("sdxl", "faceid_plus", "ip-adapter-faceid-plusv2_sdxl.bin"),
    "portrait": ("sd15", "portrait", "ip-adapter-faceid-portrait_sd15.bin"),
    "unnorm": ("sdxl", "instantid", "ip-adapter-faceid-portrait_sdxl_unnorm.bin"),
}


def step(pipe, family, more=None):
    """One guided call of the UNet: negative and prompted rows."""
    random = torch.Generator().manual_seed(5)
    unet = pipe.unet
    sample = torch.randn(1, 4, 8, 8, generator=random).repeat(2, 1, 1, 1)
    text = torch.randn(2, 7, unet.config.cross_attention_dim, generator=random)
    added = dict(more or {})
    if family == "sdxl":
        added |= {"text_embeds": torch.randn(2, 64, generator=random), "time_ids": torch.ones(2, 6) * 64}
    with torch.no_grad():
        return unet(sample, 300, text, added_cond_kwargs=added or None).sample


@pytest.mark.parametrize("name", CASES)
def test_face_tokens_and_loras_equal_diffusers_own(name, tmp_path, monkeypatch):
    from facechain.engines.identity import project
    from facechain.engines.identity.lora import merged, numbered_pairs

    family, structure, file_name = CASES[name]
    ours, theirs = BASES[family](tmp_path), BASES[family](tmp_path)
    flat = tiny.weights(structure, tiny.layout(ours))
    file = open_checkpoint(tiny.save(tmp_path / file_name, flat), kinds=KINDS, layout=tiny.layout(ours))
    reader = tiny.FakeReader("w600k_r50", unit_norm=name != "unnorm")
    evidence = learn_faces(tiny.person(), "faceid", file.kind, reader, lambda *_: None).data
    seen = torch.randn(2, 17, 64, generator=torch.Generator().manual_seed(9))
    monkeypatch.setattr(project, "look", lambda *_: seen)
    tokens = Projector(file, evidence).tokens(0.7, average=name != "portrait")

    theirs.load_ip_adapter(
        tiny.nested(flat), subfolder="", weight_name="", image_encoder_folder=None, low_cpu_mem_usage=False
    )
    vectors = evidence.vectors if name == "portrait" else [evidence.fused]
    faces = torch.stack([torch.from_numpy(v.vector) for v in vectors])[None]
    embeds = torch.cat([torch.zeros_like(faces), faces])
    if name == "unnorm":
        embeds = embeds[:, :, None]
    (layer,) = theirs.unet.encoder_hid_proj.image_projection_layers
    if "plus" in name:
        layer.clip_embeds, layer.shortcut, layer.shortcut_scale = seen[:, None], name == "plusv2", 0.7
    with torch.no_grad():
        own = theirs.unet.encoder_hid_proj([embeds])[0].flatten(1, 2)
    assert (own - tokens).abs().max() < CLOSE

    weights = file.under("ip_adapter.")
    pairs = {} if name in ("portrait", "unnorm") else numbered_pairs(ours.unet, weights)
    with face_in(ours.unet, weights, ("to_k_ip", "to_v_ip"), tokens) as face, merged(ours.unet, pairs) as lora:
        for scale in (0.0, 0.5, 1.0):
            theirs.set_ip_adapter_scale(scale)
            if pairs:
                theirs.set_adapters(["faceid_0"], [scale])
            face.dial.scale = scale
            lora.set(scale)
            a, b = step(ours, family), step(theirs, family, {"image_embeds": [embeds]})
            assert (a - b).abs().max() < CLOSE  # rows: unconditional, conditional
            assert scale == 0 or (a[0] - a[1]).abs().max() > 0


def test_plain_formulas_of_the_projectors(tmp_path):
    """The same tokens once more, without any library's modules."""
    base = tiny.sd15(tmp_path)
    for structure, name in (("portrait", "portrait.bin"), ("instantid", "unnorm.bin")):
        flat = tiny.weights(structure, tiny.layout(base))
        file = open_checkpoint(tiny.save(tmp_path / name, flat), kinds=KINDS, layout=tiny.layout(base))
        reader = tiny.FakeReader("w600k_r50", unit_norm=structure == "portrait")
        evidence = learn_faces(tiny.person(), "faceid", file.kind, reader, lambda *_: None).data
        w = part(flat, "image_proj.")
        if structure == "portrait":
            faces = torch.stack([torch.from_numpy(v.vector) for v in evidence.vectors])
            rows = [
                norm(w, "norm", linear(w, "proj.2", gelu(linear(w, "proj.0", x))).reshape(-1, 64))
                for x in (torch.zeros_like(faces), faces)
            ]
            wanted = torch.stack(rows)
        else:
            face = torch.from_numpy(evidence.fused.vector)[None, None]
            wanted = resample(w, torch.cat([torch.zeros_like(face), face]))
        assert (Projector(file, evidence).tokens(average=structure != "portrait") - wanted).abs().max() < CLOSE


@pytest.mark.parametrize("kind", ["faceid-plus", "faceid-plusv2"])
@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0])
def test_plain_formulas_of_plus(kind, scale, tmp_path, monkeypatch):
    """The vector's four tokens are the perceiver's latents; v2 adds what it saw to them, as much as is asked."""
    from facechain.engines.identity import project

    base = tiny.sd15(tmp_path)
    flat = tiny.weights("faceid_plus", tiny.layout(base))
    file = open_checkpoint(tiny.save(tmp_path / "x.bin", flat), kinds=KINDS, layout=tiny.layout(base), kind=kind)
    evidence = learn_faces(tiny.person(), "faceid", kind, tiny.FakeReader("w600k_r50", True), lambda *_: None).data
    seen = torch.randn(2, 17, 64, generator=torch.Generator().manual_seed(9))
    monkeypatch.setattr(project, "look", lambda *_: seen)
    w = part(flat, "image_proj.")
    face = torch.from_numpy(evidence.fused.vector)[None]
    faces = torch.cat([torch.zeros_like(face), face])
    tokens = norm(w, "norm", linear(w, "proj.2", gelu(linear(w, "proj.0", faces))).reshape(2, -1, 64))
    looked = resample(part(w, "perceiver_resampler."), seen, tokens)
    wanted = looked if kind == "faceid-plus" else tokens + scale * looked
    assert (Projector(file, evidence).tokens(scale) - wanted).abs().max() < CLOSE


def test_plus_looks_at_the_best_aligned_face_and_at_nothing(tmp_path):
    """Last but one hidden states of CLIP: of a tensor of zeros, and of the best photo's chip."""
    import identity_kit as kit
    import numpy as np
    from transformers import CLIPVisionModelWithProjection

    from facechain.engines.identity.align import chip
    from facechain.engines.identity.evidence import Evidence
    from facechain.engines.identity.project import look

    folder = kit.clip_folder(tmp_path / "clip")
    crop = tiny.crop(3)
    face = chip(crop.pixels, crop.face.points_px, 56).astype(np.float32) / 255
    face = (face - [0.48145466, 0.4578275, 0.40821073]) / [0.26862954, 0.26130258, 0.27577711]
    pictures = torch.stack([torch.zeros(3, 56, 56), torch.from_numpy(face.transpose(2, 0, 1)).float()])
    with torch.no_grad():
        tower = CLIPVisionModelWithProjection.from_pretrained(folder).eval()
        wanted = tower(pictures, output_hidden_states=True).hidden_states[-2]
    ours = look(folder, Evidence(crops=(crop, tiny.crop(4)), vectors=(), fused=None), 64)
    assert ours.shape == (2, 17, 64)
    assert (ours - wanted).abs().max() < CLOSE


# ── attention ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("mode", ["add", "orthogonal", "orthogonal_v2"])
@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("rows", [1, 2, 4])
def test_face_attention_follows_its_formula(mode, scale, rows):
    from diffusers.models.attention_processor import Attention

    torch.manual_seed(0)
    attn = Attention(query_dim=32, cross_attention_dim=24, heads=2, dim_head=16)
    picture, text = torch.randn(rows, 9, 32), torch.randn(rows, 7, 24)
    key, value = torch.randn(2, 8, 32), torch.randn(2, 8, 32)
    mask = torch.zeros(1, 6, 6)
    mask[:, :, :2] = 1
    dial = Dial(scale=scale, mode=mode, mask=mask)
    with torch.no_grad():
        ours = FaceAttention(attn.processor, key, value, dial)(attn, picture, text)
        q = attn.to_q(picture)
        h = attend(q, attn.to_k(text), attn.to_v(text), 2)
        which = [1] if rows == 1 else [0] * (rows // 2) + [1] * (rows // 2)
        k, v = key[which], value[which]
        f = attend(q, k, v, 2)
        if mode != "add":
            along = (h * f).sum(1, keepdim=True) / (h * h).sum(1, keepdim=True) * h
            if mode == "orthogonal":
                f = f - along
            else:
                heads = [(q[..., s] @ k[..., s].transpose(1, 2)).softmax(-1) for s in (slice(16), slice(16, 32))]
                heed = sum(heads) / 2
                f = f + (heed[:, :, :5].sum(-1, keepdim=True) - 1) * along
        inside = torch.tensor([1.0, 0, 0] * 3)[None, :, None]
        wanted = attn.to_out[0](h + scale * inside * f)
    assert (ours - wanted).abs().max() < CLOSE


@pytest.mark.parametrize("mode", ["orthogonal", "orthogonal_v2"])
def test_an_empty_prompt_of_zeros_takes_nothing_off_the_face(mode):
    """SDXL's empty negative prompt is all zeros, which has no direction to be orthogonal to."""
    from diffusers.models.attention_processor import Attention

    torch.manual_seed(0)
    attn = Attention(query_dim=32, cross_attention_dim=24, heads=2, dim_head=16)
    picture, key, value = torch.randn(2, 9, 32), torch.randn(2, 8, 32), torch.randn(2, 8, 32)
    with torch.no_grad():
        ours, added = (
            FaceAttention(attn.processor, key, value, Dial(mode=m))(attn, picture, torch.zeros(2, 7, 24))
            for m in (mode, "add")
        )
    assert torch.equal(ours, added)


def test_the_same_face_once_more_is_not_computed_again(tmp_path):
    base, tokens = tiny.sd15(tmp_path), torch.randn(2, 3, 64)
    weights = part(tiny.weights("portrait", tiny.layout(base)), "ip_adapter.")
    with face_in(base.unet, weights, ("to_k_ip", "to_v_ip"), tokens) as face:
        first = [layer.key for layer in face.layers.values()]
        face.give(tokens)
        assert all(a is layer.key for a, layer in zip(first, face.layers.values(), strict=True))
        face.give(-tokens)
        assert all(torch.equal(-a, layer.key) for a, layer in zip(first, face.layers.values(), strict=True))


def test_identitynet_is_a_controlnet_fed_with_face_tokens(tmp_path):
    from diffusers import ControlNetModel

    from facechain.engines.identity.identitynet import open_identitynet

    folder = tiny.identitynet(tmp_path)
    face, text = torch.randn(2, 4, 96), torch.randn(2, 7, 96)
    sample, picture = torch.randn(2, 4, 8, 8), torch.rand(2, 3, 64, 64)
    added = {"text_embeds": torch.randn(2, 64), "time_ids": torch.ones(2, 6)}
    net, plain = open_identitynet(folder, 96, "cpu", torch.float32), ControlNetModel.from_pretrained(folder)
    view = net.view()
    view.face = face
    assert net.face is None, "the shared weights know nobody"
    for scale in (0.0, 0.5, 1.0):
        with torch.no_grad():
            ours = view(sample, 10, text, picture, scale, added_cond_kwargs=added, return_dict=False)
            theirs = plain(sample, 10, face, picture, scale, added_cond_kwargs=added, return_dict=False)
        for a, b in zip([*ours[0], ours[1]], [*theirs[0], theirs[1]], strict=True):
            assert (a - b).abs().max() < CLOSE
    with torch.no_grad():
        alone = view(sample[:1], 10, text[:1], picture[:1], added_cond_kwargs={k: v[:1] for k, v in added.items()})
        one = plain(sample[:1], 10, face[1:], picture[:1], added_cond_kwargs={k: v[:1] for k, v in added.items()})
    assert (alone.mid_block_res_sample - one.mid_block_res_sample).abs().max() < CLOSE
    view.mask = torch.zeros(1, 64, 64)
    view.mask[:, :32] = 1
    with torch.no_grad():
        masked = view(sample, 10, text, picture, added_cond_kwargs=added, return_dict=False)
    assert (masked[0][0][:, :, :4] - theirs[0][0][:, :, :4]).abs().max() < CLOSE
    assert masked[0][0][:, :, 4:].abs().max() == 0


# ── PhotoMaker ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_photomaker_tokens_and_fusion(tmp_path):
    from facechain.engines.identity.photomaker_net import PhotoEncoder

    base = tiny.sdxl(tmp_path)
    pixels, vectors = torch.randn(3, 3, 28, 28), torch.randn(3, 512) * 22
    words = torch.randn(6, 96)
    for version in ("v1", "v2"):
        w = part(tiny.weights(f"photomaker_{version}", tiny.layout(base)), "id_encoder.")
        encoder = PhotoEncoder(w)
        assert encoder.tokens_per_photo == int(version[1])
        patches = vision(part(w, "vision_model."), pixels)
        if version == "v1":
            pooled = norm(part(w, "vision_model."), "post_layernorm", patches[:, 0])
            both = (pooled @ w[f"visual_projection{n}.weight"].T for n in ("", "_2"))
            wanted = torch.cat(list(both), -1)
        else:
            q = part(w, "qformer_perceiver.")
            made = linear(q, "token_proj.2", gelu(linear(q, "token_proj.0", vectors))).reshape(3, 2, 96)
            made = norm(q, "token_norm", made)
            wanted = (made + resample(part(q, "perceiver_resampler."), patches, made)).reshape(6, 96)
        tokens = encoder.tokens(pixels, vectors)
        assert (tokens - wanted).abs().max() < CLOSE
        f = part(w, "fuse_module.")
        text = words[: len(tokens)]
        x = torch.cat([text, wanted], -1)
        x = linear(f, "mlp1.fc2", gelu(linear(f, "mlp1.fc1", norm(f, "mlp1.layernorm", x)))) + text
        x = linear(f, "mlp2.fc2", gelu(linear(f, "mlp2.fc1", norm(f, "mlp2.layernorm", x)))) + x
        assert (encoder.fusion(text, tokens) - norm(f, "layer_norm", x)).abs().max() < CLOSE


def vision(w, pixels):
    """CLIP's image tower, one head, quick GELU."""
    x = functional.conv2d(pixels, w["embeddings.patch_embedding.weight"], stride=14).flatten(2).transpose(1, 2)
    x = torch.cat([w["embeddings.class_embedding"].expand(len(x), 1, -1), x], 1)
    x = norm(w, "pre_layrnorm", x + w["embeddings.position_embedding.weight"])
    for n in range(2):
        at = f"encoder.layers.{n}"
        h = norm(w, f"{at}.layer_norm1", x)
        q, k, v = (linear(w, f"{at}.self_attn.{p}_proj", h) for p in "qkv")
        x = x + linear(w, f"{at}.self_attn.out_proj", attend(q, k, v, 1))
        h = linear(w, f"{at}.mlp.fc1", norm(w, f"{at}.layer_norm2", x))
        x = x + linear(w, f"{at}.mlp.fc2", h * torch.sigmoid(1.702 * h))
    return x


def test_photomaker_stacks_tokens_into_the_class_word(tmp_path):
    """The class word is repeated, the trigger is gone, and only those places differ from plain text."""
    from facechain.engines.identity.photomaker_prompt import Stacked

    base = tiny.sdxl(tmp_path)
    tokens, seen = torch.randn(3, 96), []

    def fusion(words, photos):
        seen.append((words.clone(), photos))
        return photos * 2

    stacked = Stacked(base, tiny.shot(prompt="photo of a man img in the rain"), "img", tokens, fusion)
    plain = base.encode_prompt("photo of a man man man in the rain")[0]
    words, photos = seen[0]
    assert torch.equal(photos, tokens)
    assert torch.allclose(words, plain[0, 4:7], atol=1e-6)
    assert torch.equal(stacked.merged[0, 4:7], tokens * 2)
    assert torch.allclose(stacked.merged[0, 7:], plain[0, 7:], atol=1e-6)
    assert torch.allclose(stacked.words, base.encode_prompt("photo of a man in the rain")[0], atol=1e-6)


def test_photomaker_finds_the_class_word_beyond_the_first_window(tmp_path):
    from facechain.engines.identity.photomaker_prompt import Stacked

    base = tiny.sdxl(tmp_path)
    tokens = torch.randn(3, 96)
    prompt = "rain " * 80 + "man img red"
    stacked = Stacked(base, tiny.shot(prompt=prompt), "img", tokens, lambda words, photos: photos * 2)
    plain = base.encode_prompt("rain " * 5 + "man man man red")[0]
    at = 77 + 1 + 5  # five words of rain did not fit into the first window
    assert stacked.merged.shape == stacked.words.shape == stacked.negative.shape == (1, 154, 96)
    assert torch.equal(stacked.merged[0, at : at + 3], tokens * 2)
    assert torch.allclose(stacked.merged[0, at + 3 :], plain[0, 1 + 5 + 3 :], atol=1e-6)


def test_loras_with_old_names_equal_diffusers_loading(tmp_path):
    from facechain.engines.identity.lora import merged, named_pairs

    ours, theirs = tiny.sdxl(tmp_path), tiny.sdxl(tmp_path)
    flat = part(tiny.weights("photomaker_v1", tiny.layout(ours)), "lora_weights.")
    theirs.load_lora_weights(flat, adapter_name="photomaker")
    with merged(ours.unet, named_pairs(flat)) as lora:
        for scale in (0.0, 0.5, 1.0):
            theirs.set_adapters(["photomaker"], [scale])
            lora.set(scale)
            assert (step(ours, "sdxl") - step(theirs, "sdxl")).abs().max() < CLOSE


# ── PuLID ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def mapping(w, key, x):
    for n in (0, 3):
        x = norm(w, f"{key}.{n + 1}", linear(w, f"{key}.{n}", x))
        x = torch.where(x > 0, x, 0.01 * x)
    return linear(w, f"{key}.6", x)


def test_pulid_encoders(tmp_path):
    from facechain.engines.identity.pulid_net import IdFormer, MlpEncoder

    base = tiny.sdxl(tmp_path)
    vectors, levels = torch.randn(1, 2, 528), [torch.randn(1, 2, 6, 64) for _ in range(5)]
    w = part(tiny.weights("pulid_v1", tiny.layout(base)), "id_adapter.")
    one = []
    for p in range(2):
        made = [mapping(w, "body", vectors[:, p]).reshape(1, 5, 96)]
        for n, level in enumerate(levels):
            rest = mapping(w, f"mapping_patch_{n}", level[:, p, 1:]).mean(1, keepdim=True)
            made.append(mapping(w, f"mapping_{n}", level[:, p, :1]) + rest)
        one.append(torch.cat(made, 1))
    encoder = MlpEncoder.of(w)
    assert (encoder(vectors, levels) - torch.cat([one[0], one[1][:, :5]], 1)).abs().max() < CLOSE
    assert (encoder(vectors, levels, mix=True) - torch.cat(one, 1)).abs().max() < CLOSE

    w = part(tiny.weights("pulid_v11", tiny.layout(base)), "id_adapter.")
    faces = mapping(w, "id_embedding_mapping", vectors).reshape(1, 10, 64)
    latents = torch.cat([w["latents"], faces], 1)
    for n, level in enumerate(levels):
        x = torch.cat([faces, mapping(w, f"mapping_{n}", level.reshape(1, 12, 64))], 1)
        latents = perceiver_layers(w, x, latents, [n], 1)
    assert (IdFormer.of(w)(vectors, levels) - latents[:, :4] @ w["proj_out"]).abs().max() < CLOSE


@pytest.mark.parametrize("mix", [False, True])
@pytest.mark.parametrize("photos", [1, 2, 3, 4])
def test_pulid_v1_negative_face_has_the_tokens_of_as_many_photos(photos, mix, tmp_path):
    """The original joins both rows photo by photo: ten tokens, then of each further photo its first five, or all."""
    from facechain.engines.identity.pulid_net import MlpEncoder
    from facechain.engines.identity.pulid_tokens import PulidTokens

    made = object.__new__(PulidTokens)
    made.encoder = MlpEncoder.of(part(tiny.weights("pulid_v1", tiny.layout(tiny.sdxl(tmp_path))), "id_adapter."))
    made.vectors, made.levels = torch.randn(1, photos, 528), torch.randn(5, 1, photos, 6, 64)
    with torch.no_grad():
        negative, person = made.tokens(most=4, mix=mix, empty=2)
        nobody = made.encoder(torch.zeros(1, 1, 528), [torch.zeros(1, 1, 6, 64)] * 5)[0]
    further = [nobody if mix else nobody[:5]] * (photos - 1)
    torch.testing.assert_close(negative, torch.cat([nobody, *further, torch.zeros(2, 96)]))
    assert len(person) == len(negative)


def test_eva_tower_without_library_modules():
    """Turned pairs by complex numbers, attention head by head."""
    from facechain.engines.identity.eva_net import LEVELS, EvaTower

    w = part(tiny.filled(tiny.formats.eva_clip(width=128, layers=21, mlp=48, positions=10, out=16)), "visual.")
    pictures = torch.randn(2, 3, 42, 42)

    def norm6(key, x):
        mean, var = x.mean(-1, keepdim=True), x.var(-1, unbiased=False, keepdim=True)
        return (x - mean) / (var + 1e-6).sqrt() * w[f"{key}.weight"] + w[f"{key}.bias"]

    def turn(x):
        made = x.clone()
        for place in range(9):
            for pair in range(64):
                at = pair % 32
                where = (place // 3 if at < 16 else place % 3) * 16 / 3
                angle = where / 10000 ** ((at % 16) / 16)
                value = torch.complex(x[:, 1 + place, 2 * pair], x[:, 1 + place, 2 * pair + 1])
                value = value * complex(math.cos(angle), math.sin(angle))
                made[:, 1 + place, 2 * pair], made[:, 1 + place, 2 * pair + 1] = value.real, value.imag
        return made

    x = functional.conv2d(pictures, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], stride=14)
    x = torch.cat([w["cls_token"].expand(2, -1, -1), x.flatten(2).transpose(1, 2)], 1) + w["pos_embed"]
    levels = []
    for n in range(21):
        at = f"blocks.{n}"
        if n in (4, 8, 12, 16, 20):
            levels.append(x)
        h = norm6(f"{at}.norm1", x)
        q, k, v = (linear(w, f"{at}.attn.{p}_proj", h) + w.get(f"{at}.attn.{p}_bias", 0) for p in "qkv")
        x = x + linear(w, f"{at}.attn.proj", norm6(f"{at}.attn.inner_attn_ln", attend(turn(q), turn(k), v, 2)))
        h = norm6(f"{at}.norm2", x)
        gate = linear(w, f"{at}.mlp.w1", h)
        h = gate * torch.sigmoid(gate) * linear(w, f"{at}.mlp.w2", h)
        x = x + linear(w, f"{at}.mlp.w3", norm6(f"{at}.mlp.ffn_ln", h))
    classes, seen = EvaTower.of(w)(pictures)
    assert len(LEVELS) == len(seen) == 5
    assert (classes - linear(w, "head", norm6("norm", x)[:, 0])).abs().max() < CLOSE
    assert (seen - torch.stack(levels)).abs().max() < CLOSE


# ── FACT ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("rows", [1, 2, 4])
@pytest.mark.parametrize(("scale", "own_norms"), [(0.0, True), (0.5, False), (0.5, True), (1.0, False)])
def test_fact_gates_follow_their_formula(scale, own_norms, rows, tmp_path):
    """Face tokens go through the gate with the picture's here, while ours are remembered from before the first step."""
    from facechain.engines.identity.fact_net import gates_in

    base = tiny.sd15(tmp_path)
    where = tiny.layout(base)
    flat, face = tiny.weights("fact", where), torch.randn(2, 4, 64)
    path, width = where.blocks[0]
    if own_norms:  # a checkpoint may bring the layer norms it was trained with
        flat |= {f"{at}.attn2.processor.ln.{k}": torch.randn(n) for at, n in where.blocks for k in ("weight", "bias")}
    w = part(flat, f"{path}.attn2.processor.")
    block = base.unet.get_submodule(path)
    picture, text = torch.randn(rows, 9, width), torch.randn(rows, 7, 64)
    own = {k: v.detach() for k, v in block.state_dict().items()}
    with torch.no_grad(), gates_in(base.unet, flat) as gates:
        gates.give(torch.randn(2, 8, 64))
        gates.give(face)  # the last face counts, with as many tokens as it has
        gates.dial.scale = scale
        ours = block(picture, encoder_hidden_states=text)
    with torch.no_grad():
        h = picture + block.attn1(norm(own, "norm1", picture))
        which = [1] if rows == 1 else [0] * (rows // 2) + [1] * (rows // 2)
        both = norm(w, "norm1", torch.cat([h, linear(w, "linear", face[which])], 1))
        q, k, v = (linear(w, f"attn.to_{p}", both) for p in "qkv")
        joint = linear(w, "attn.to_out.0", attend(q, k, v, 2))[:, :9]
        h = h + scale * torch.tanh(w["alpha_attn"]) * joint
        x, gate = linear(w, "ff.net.0.proj", norm(w, "norm2", h)).chunk(2, -1)
        h = h + scale * torch.tanh(w["alpha_dense"]) * linear(w, "ff.net.2", x * gelu(gate))
        normed = norm(w, "ln", h) if own_norms and scale else norm(own, "norm2", h)
        h = h + block.attn2(normed, encoder_hidden_states=text)
        wanted = h + block.ff(norm(own, "norm3", h))
    assert (ours - wanted).abs().max() < CLOSE


def test_transface_patch_tokens():
    from facechain.engines.identity.transface import TransFace

    w = tiny.filled(tiny.formats.transface(width=64, layers=2, patch=16, patches=49, mlp=96))
    faces = torch.randn(2, 3, 112, 112)
    x = functional.conv2d(faces, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], stride=16)
    x = x.flatten(2).transpose(1, 2) + w["pos_embed"]
    for n in range(2):
        at = f"blocks.{n}"
        q, k, v = linear(w, f"{at}.attn.qkv", norm(w, f"{at}.norm1", x)).chunk(3, -1)
        x = x + linear(w, f"{at}.attn.proj", attend(q, k, v, 8))
        h = linear(w, f"{at}.mlp.fc1", norm(w, f"{at}.norm2", x)).clamp(0, 6)
        x = x + linear(w, f"{at}.mlp.fc2", h)
    assert (TransFace.of(w)(faces) - norm(w, "norm", x)).abs().max() < CLOSE


# ── Arc2Face ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_arc2face_prompt_is_the_sentence_with_the_face_for_its_word(tmp_path):
    import numpy as np

    from facechain.engines.identity.arc2face_net import SENTENCE, face_prompt

    base = tiny.sd15(tmp_path, context=576)
    encoder, words = base.text_encoder, base.tokenizer
    vector = np.random.default_rng(0).normal(size=512).astype(np.float32)
    vector /= np.linalg.norm(vector)
    ids = words(SENTENCE, padding="max_length", max_length=77, return_tensors="pt").input_ids
    assert words.convert_ids_to_tokens(ids[0][:6].tolist())[1:] == [
        "photo</w>",
        "of</w>",
        "a</w>",
        "id</w>",
        "person</w>",
    ]
    table = encoder.get_input_embeddings()
    kept = table.weight.data.clone()
    for scale in (0.0, 0.5, 1.0):
        with torch.no_grad():
            face = torch.cat([torch.from_numpy(vector), torch.zeros(64)])
            table.weight.data = kept.clone()
            table.weight.data[ids[0, 4]] = (1 - scale) * kept[ids[0, 4]] + scale * face
            wanted = encoder(ids)[0]
            table.weight.data = kept
        assert (face_prompt(words, encoder, vector, scale) - wanted).abs().max() < CLOSE
    assert not table._forward_hooks


def test_arc2face_weights_fit_text_models_of_both_namings(tmp_path):
    from facechain.engines.identity.arc2face_net import with_weights

    base = tiny.sdxl(tmp_path)
    for encoder in (base.text_encoder, base.text_encoder_2):  # transformers 5 names these two differently
        bare = {k.removeprefix("text_model."): v for k, v in encoder.state_dict().items()}
        changed = {k: v + 1 for k, v in bare.items() if k != "text_projection.weight"}
        if any(k.startswith("text_projection") for k in bare):
            continue
        made = with_weights(encoder, {**changed, "embeddings.position_ids": torch.arange(77)})
        for key, value in made.state_dict().items():
            assert torch.equal(value, changed[key.removeprefix("text_model.")])
