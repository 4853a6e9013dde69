"""The loader names every kind of identity checkpoint, and refuses what does not fit with a reason."""

import pickle
import re

import numpy as np
import pytest
import tiny_identity as tiny
import torch

from facechain.engines.identity.checkpoint import open_checkpoint
from facechain.engines.identity.layout import Layout
from facechain.engines.identity.methods import METHODS, check_embedding
from facechain.errors import EngineError, PackError, PackMissing
from facechain.types import Embedding

ALL = tuple(METHODS)
SMALL = Layout(
    family="tiny", context=64, blocks=(("down_blocks.0.attentions.0.transformer_blocks.0", 32), ("mid_block.a.t.0", 64))
)
WIDE = Layout(family="sdxl", context=96, blocks=SMALL.blocks)
FILES = {
    "faceid": "ip-adapter-faceid_sd15.bin",
    "faceid-plus": "ip-adapter-faceid-plus_sd15.bin",
    "faceid-plusv2": "ip-adapter-faceid-plusv2_sd15.bin",
    "portrait": "ip-adapter-faceid-portrait-v11_sd15.bin",
    "portrait-unnorm": "ip-adapter-faceid-portrait_sdxl_unnorm.bin",
    "instantid": "ip-adapter.bin",
    "photomaker-v1": "photomaker-v1.bin",
    "photomaker-v2": "photomaker-v2.bin",
    "pulid-v1": "pulid_v1.pt",
    "pulid-v1.1": "pulid_v1.1.safetensors",
    "arc2face": "pytorch_model.pt",
    "fact": "adapter_film.ckpt",
    "transface": "ms1mv2_model_TransFace_S.pt",
    "eva02-clip": "EVA02_CLIP_L_336_psz14_s6B.pt",
}


def small(kind, layout=SMALL):
    structure = METHODS[kind].structure
    if structure == "arc2face_text":
        return tiny.filled(tiny.formats.arc2face_text(layout, layers=1, mlp=64, vocabulary=20, positions=7))
    return tiny.weights(structure, layout)


@pytest.fixture
def at(tmp_path):
    return lambda name, flat: tiny.save(tmp_path / name, flat)


@pytest.mark.parametrize("kind", FILES)
def test_every_kind_is_named_from_its_keys_and_file_name(kind, at):
    file = open_checkpoint(at(FILES[kind], small(kind)), kinds=ALL, layout=SMALL)
    assert file.kind == kind
    assert set(file.tensors) == set(small(kind))


@pytest.mark.parametrize("kind", FILES)
def test_safetensors_hold_the_same(kind, at):
    file = open_checkpoint(at(FILES[kind].rsplit(".", 1)[0] + ".safetensors", small(kind)), kinds=(kind,), layout=SMALL)
    assert file.kind == kind


@pytest.mark.parametrize("kind", FILES)
def test_a_missing_an_extra_and_a_misshapen_tensor_are_named(kind, at):
    flat = small(kind)
    key = sorted(flat)[len(flat) // 2]
    lost = {k: v for k, v in flat.items() if k != key}
    less = at("a-" + FILES[kind], lost)
    with pytest.raises(PackError, match=rf"lacks tensors: {re.escape(key)}"):
        open_checkpoint(less, kinds=ALL, layout=SMALL, kind=kind)
    top = key.split(".")[0]
    more = at("b-" + FILES[kind], {**flat, f"{top}.surprise": torch.ones(1)})
    with pytest.raises(PackError, match=r"has unknown tensors: .*surprise"):
        open_checkpoint(more, kinds=ALL, layout=SMALL, kind=kind)
    grown = at("c-" + FILES[kind], {**flat, key: torch.zeros(*flat[key].shape, 2)})
    with pytest.raises(PackError, match=r"has wrongly shaped tensors"):
        open_checkpoint(grown, kinds=ALL, layout=SMALL, kind=kind)


@pytest.mark.parametrize("kind", [kind for kind in FILES if kind not in ("transface", "eva02-clip")])
def test_the_wrong_base_family_is_refused_by_name(kind, at):
    with pytest.raises(EngineError, match=r"the base is sdxl \(96 wide\)"):
        open_checkpoint(at(FILES[kind], small(kind)), kinds=ALL, layout=WIDE, kind=kind)


def test_an_sdxl_file_on_sd15_says_which_is_which(at):
    xl = Layout(family="sdxl", context=2048, blocks=SMALL.blocks)
    sd = Layout(family="sd15", context=768, blocks=SMALL.blocks)
    flat = tiny.filled(tiny.formats.portrait(xl, tokens=1))
    with pytest.raises(EngineError, match=r"is for sdxl bases \(tokens 2048 wide\), but the base is sd15 \(768 wide\)"):
        open_checkpoint(at("portrait.bin", flat), kinds=ALL, layout=sd)


def test_a_base_with_other_layers_is_refused(at):
    more = Layout(family="tiny", context=64, blocks=(*SMALL.blocks, ("up_blocks.0.a.t.0", 32)))
    with pytest.raises(PackError, match=r"lacks tensors: ip_adapter\.5\.to_k_ip"):
        open_checkpoint(at("portrait.bin", small("portrait")), kinds=ALL, layout=more)


@pytest.mark.parametrize("kind", FILES)
def test_truncated_files_are_refused(kind, at):
    path = at(FILES[kind], small(kind))
    whole = path.read_bytes()
    for keep in (0, 3, 100, len(whole) // 2, len(whole) - len(whole) // 1000 - 1):
        path.write_bytes(whole[:keep])
        with pytest.raises(PackError, match=r"is cut short( or not a weight file|: [\d,]+ of [\d,]+ bytes)"):
            open_checkpoint(path, kinds=ALL, layout=SMALL)


def test_truncated_legacy_pickles_are_refused(tmp_path):
    path = tmp_path / "portrait.bin"
    torch.save(tiny.nested(small("portrait")), path, _use_new_zipfile_serialization=False)
    assert open_checkpoint(path, kinds=ALL, layout=SMALL).kind == "portrait"
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(PackError, match="cut short"):
        open_checkpoint(path, kinds=ALL, layout=SMALL)


class Evil:
    def __reduce__(self):
        return (open, ("/tmp/never-written-by-facechain", "w"))


@pytest.mark.parametrize("kind", [kind for kind, name in FILES.items() if not name.endswith("safetensors")])
@pytest.mark.parametrize("zipped", [True, False])
def test_pickles_that_could_run_code_are_refused_and_not_run(kind, tmp_path, zipped):
    path = tmp_path / FILES[kind]
    torch.save({**small(kind), "surprise": Evil()}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(PackError, match="could run code"):
        open_checkpoint(path, kinds=ALL, layout=SMALL)
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(PackError):
        open_checkpoint(path, kinds=ALL, layout=SMALL)
    assert not (tmp_path.parent / "/tmp/never-written-by-facechain").exists()


def test_mixed_precisions_and_legacy_containers_load(tmp_path):
    flat = {k: v.to(torch.bfloat16) if "lora" in k else v for k, v in small("photomaker-v1").items()}
    for zipped in (True, False):
        path = tmp_path / f"photomaker-v1-{zipped}.bin"
        torch.save(tiny.nested(flat), path, _use_new_zipfile_serialization=zipped)
        file = open_checkpoint(path, kinds=ALL, layout=SMALL)
        assert {t.dtype for t in file.tensors.values()} == {torch.float32, torch.bfloat16}


def test_other_names_of_the_parts_are_accepted(tmp_path):
    tree = tiny.nested(small("faceid"))
    torch.save({"image_proj_model": tree["image_proj"], "adapter_modules": tree["ip_adapter"]}, tmp_path / "x.bin")
    assert open_checkpoint(tmp_path / "x.bin", kinds=ALL, layout=SMALL).kind == "faceid"


def test_arc2face_loads_with_and_without_the_prefix(at):
    flat = small("arc2face")
    bare = {key.removeprefix("text_model."): value for key, value in flat.items()}
    file = open_checkpoint(at("model.safetensors", bare), kinds=ALL, layout=SMALL)
    assert set(file.tensors) == set(flat)


def test_what_keys_cannot_tell_is_asked(at):
    with pytest.raises(EngineError, match="may be IP-Adapter FaceID Plus or IP-Adapter FaceID PlusV2"):
        open_checkpoint(at("mine.bin", small("faceid-plus")), kinds=ALL, layout=SMALL)
    chosen = open_checkpoint(at("mine.bin", small("faceid-plus")), kinds=ALL, layout=SMALL, kind="faceid-plusv2")
    assert chosen.kind == "faceid-plusv2"
    with pytest.raises(EngineError, match="is IP-Adapter FaceID PlusV2, not IP-Adapter FaceID Plus"):
        open_checkpoint(at(FILES["faceid-plusv2"], small("faceid-plus")), kinds=ALL, layout=SMALL, kind="faceid-plus")
    with pytest.raises(EngineError, match="may be"):
        open_checkpoint(at("mine2.bin", small("instantid")), kinds=ALL, layout=SMALL)


def test_instantid_is_known_by_the_identitynet_beside_it(at, tmp_path):
    (tmp_path / "ControlNetModel").mkdir()
    assert open_checkpoint(at("mine.bin", small("instantid")), kinds=ALL, layout=SMALL).kind == "instantid"


def test_the_wrong_kind_of_file_is_named(at):
    with pytest.raises(EngineError, match=r"is PuLID v1\. Expected InstantID"):
        open_checkpoint(at("x.pt", small("pulid-v1")), kinds=("instantid",), layout=SMALL)


@pytest.mark.parametrize(
    ("key", "title"),
    [
        ("image_proj.proj.weight", "plain IP-Adapter"),
        ("image_proj.proj.3.weight", "Full Face"),
        ("pulid_ca.0.to_q.weight", "PuLID for FLUX"),
        ("image_proj.latents", "InfiniteYou"),
        ("w_proj.proj_0.weight", "w-plus-adapter"),
        ("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.lora_down.weight", "is a LoRA alone"),
    ],
)
def test_known_files_we_do_not_paint_with_are_named(key, title, at):
    with pytest.raises(EngineError, match=title):
        open_checkpoint(at("x.safetensors", {key: torch.ones(2, 2)}), kinds=ALL, layout=SMALL)


def test_anything_else_is_refused(at, tmp_path):
    with pytest.raises(PackError, match="no identity checkpoint we know"):
        open_checkpoint(at("x.safetensors", {"weight": torch.ones(2)}), kinds=ALL, layout=SMALL)
    torch.save({"image_proj": 3}, tmp_path / "y.bin")
    with pytest.raises(PackError, match="holds a int at 'image_proj'"):
        open_checkpoint(tmp_path / "y.bin", kinds=ALL, layout=SMALL)
    with pytest.raises(PackMissing):
        open_checkpoint(tmp_path / "none.bin", kinds=ALL, layout=SMALL)


# ── face vectors ─────────────────────────────────────────────────────────────────────────────────────────────────────


def vector(recogniser, unit_norm, length, width=512):
    values = np.zeros(width, np.float32)
    values[0] = length
    return Embedding(vector=values, recogniser=recogniser, unit_norm=unit_norm)


WITH_FACES = [kind for kind, method in METHODS.items() if method.recogniser]


@pytest.mark.parametrize("kind", WITH_FACES)
def test_only_the_vectors_a_method_was_trained_on_pass(kind):
    method = METHODS[kind]
    right, wrong = (1.0, 22.0) if method.unit_norm else (22.0, 1.0)
    check_embedding(kind, vector(method.recogniser, method.unit_norm, right))
    for bad in (
        vector(method.recogniser, not method.unit_norm, wrong),  # honest, but the other kind
        vector(method.recogniser, method.unit_norm, wrong),  # mislabelled
        vector(method.recogniser, not method.unit_norm, right),
    ):
        with pytest.raises(EngineError, match=r"needs (raw|unit-length) face vectors"):
            check_embedding(kind, bad)
    with pytest.raises(EngineError, match=f"trained on faces read by {method.recogniser} .*read by sface"):
        check_embedding(kind, vector("sface", method.unit_norm, right))
    with pytest.raises(EngineError, match="512 numbers"):
        check_embedding(kind, vector(method.recogniser, method.unit_norm, right, width=128))
    with pytest.raises(EngineError, match="empty"):
        check_embedding(kind, vector(method.recogniser, method.unit_norm, 0.0))


def test_weights_trained_on_another_recogniser_say_so():
    check_embedding("faceid", vector("w600k_mbf", True, 1.0), recogniser="w600k_mbf")
    with pytest.raises(EngineError):
        check_embedding("faceid", vector("w600k_r50", True, 1.0), recogniser="w600k_mbf")
