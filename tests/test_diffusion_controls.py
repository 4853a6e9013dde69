"""Portraits that follow a picture: what is drawn of it, who may follow it, and whose face it never hands on."""

import hashlib

import numpy as np
import pytest
import tiny

from facechain.engines.diffusion.controls import open_net
from facechain.errors import EngineError, PackError, PackMissing, PhotoError, UserError
from facechain.portraits.guide import OPTION, faceless, fitted, guides

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def astronaut(models):
    from facechain.photos.read import read

    return read(models / "astronaut" / "astronaut.png").pixels


@pytest.fixture(scope="module")
def draw(models, tmp_path_factory):
    from facechain import bootstrap

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACECHAIN_MODELS", str(models.absolute()))
        patch.setenv("FACECHAIN_WORKSPACE", str(tmp_path_factory.mktemp("workspace")))
        patch.setenv("FACECHAIN_OFFLINE", "1")
        bootstrap.studio.cache_clear()
        yield bootstrap.studio().tools.draw
    bootstrap.studio.cache_clear()


@pytest.fixture(scope="module")
def face(models, astronaut):
    from facechain.vision import readers

    (found,) = readers.READERS["yunet_sface"](lambda pack, file: models / pack / file).detect(astronaut)
    return found


def inside(picture, face):
    left, top, right, bottom = face.box_px.astype(int)
    return picture[top:bottom, left:right]


# ── what is drawn of a photo ─────────────────────────────────────────────────────────────────────


def test_the_joints_of_somebody_are_where_they_are(models, astronaut, face):
    from facechain.vision import readers

    body = readers.BODIES["blazepose"](lambda pack, file: models / pack / file)
    (points,) = body.joints(astronaut)
    assert points.shape == (18, 3)
    nose, neck, right_shoulder, left_shoulder, right_eye, left_eye = points[[0, 1, 2, 5, 14, 15]]
    tolerance = 0.15 * face.width_px
    for seen, known in ((nose, face.points_px[2]), (right_eye, face.points_px[0]), (left_eye, face.points_px[1])):
        assert np.hypot(*(seen[:2] - known)) < tolerance
    assert right_shoulder[0] < neck[0] < left_shoulder[0], "the person's right is the picture's left"
    assert neck[1] > face.box_px[3]
    assert body.joints(np.full((64, 64, 3), 127, np.uint8)) == ()


def test_joints_turn_with_the_picture(models, astronaut):
    from facechain.vision import readers

    body = readers.BODIES["blazepose"](lambda pack, file: models / pack / file)
    (upright,), (turned,) = body.joints(astronaut), body.joints(np.rot90(astronaut).copy())
    back = np.stack([astronaut.shape[1] - 1 - turned[:, 1], turned[:, 0]], -1)
    sure = (upright[:, 2] > 0.8) & (turned[:, 2] > 0.8)
    assert sure.sum() >= 8
    assert np.median(np.hypot(*(back - upright[:, :2])[sure].T)) < 12


def test_a_skeleton_has_the_colours_pose_networks_know(draw, astronaut):
    drawn = draw("openpose", astronaut)
    assert drawn.shape == astronaut.shape
    assert 0.005 < (drawn.max(2) > 0).mean() < 0.1, "a few lines on black"
    colours = {tuple(colour) for colour in drawn.reshape(-1, 3)}
    assert {(255, 0, 0), (153, 0, 0), (0, 0, 153)} <= colours  # nose; right shoulder; neck to nose
    with pytest.raises(PhotoError, match="Nobody's pose"):
        draw("openpose", np.full((128, 128, 3), 127, np.uint8))


def test_edges_show_the_suit_and_not_the_face(draw, astronaut, face):
    from facechain.engines.diffusion.guides import canny

    assert inside(canny(astronaut), face).mean() > 10, "the face would have been drawn"
    drawn = draw("canny", astronaut)
    assert inside(drawn, face).max() == 0
    assert drawn[300:].mean() > 5
    assert set(np.unique(drawn)) == {0, 255}


def test_depth_never_sees_the_face(draw, monkeypatch, astronaut, face, models):
    from facechain.vision import depth, readers

    class Session:
        """In place of the network: what is bright is near."""

        def get_inputs(self):
            return [type("Input", (), {"name": "pixel_values"})]

        def run(self, _, inputs):
            (blob,) = inputs.values()
            assert blob.shape == (1, 3, 518, 518)
            assert blob.dtype == np.float32
            assert -2.2 < blob.min() < blob.max() < 2.7, "ImageNet's mean and spread"
            self.seen = blob
            return [blob.mean(1)]

    session = Session()
    monkeypatch.setattr(depth, "onnx_session", lambda path: session)
    monkeypatch.setattr(draw.__self__, "_depth", lambda: readers.DEPTHS["depth_anything"](lambda pack, file: models))
    drawn = draw("depth", astronaut)
    assert drawn.shape == astronaut.shape
    assert (drawn.min(), drawn.max()) == (0, 255)
    assert np.all(drawn == drawn[..., :1])
    middle = inside(drawn, face)
    assert middle[20:-20, 20:-20].std() < 2
    assert inside(astronaut, face).std() > 30
    assert drawn.std() > 20


def test_depth_without_its_network_says_how_to_go_on(draw, astronaut, models):
    if (models / "depth" / "model.onnx").exists():
        pytest.skip("it is here")
    with pytest.raises(PackMissing, match="depth") as caught:
        draw("depth", astronaut)
    assert "--pose depth=FILE" in caught.value.next_step


def test_heads_are_covered_even_when_no_hair_or_skin_was_seen(astronaut, face):
    nothing = np.zeros(astronaut.shape[:2], np.float32)
    covered = faceless(astronaut, [(face, nothing)])
    assert inside(covered, face)[20:-20, 20:-20].std() < 40 < inside(astronaut, face)[20:-20, 20:-20].std()
    far = np.s_[350:, :]
    np.testing.assert_array_equal(covered[far], astronaut[far])
    np.testing.assert_array_equal(faceless(astronaut, []), astronaut)


def test_pictures_to_follow_are_as_large_as_portraits():
    large = np.zeros((2000, 1000, 3), np.uint8)
    assert fitted(large, 512, 640).shape == (1024, 512, 3)
    small = np.zeros((100, 100, 3), np.uint8)
    assert fitted(small, 512, 640) is small


# ── what is asked for ────────────────────────────────────────────────────────────────────────────


def test_what_is_asked_for_becomes_the_engines_options():
    photo, drawn = np.full((8, 8, 3), 1, np.uint8), np.full((8, 8, 3), 2, np.uint8)

    def draw(kind, pixels):
        assert kind == "openpose"
        return pixels + 10

    made = guides("openpose, depth:0.4", {"": photo, "depth": drawn}, draw)
    assert made["control_scales"] == {"openpose": 1.0, "depth": 0.4}
    assert (made["controls"]["openpose"].pixels == 11).all()
    np.testing.assert_array_equal(made["controls"]["depth"].pixels, drawn)
    expected = hashlib.sha256(repr(drawn.shape).encode() + drawn.tobytes()).hexdigest()
    assert made["controls"]["depth"].id == expected
    assert list(guides("", {"": photo}, draw)["controls"]) == ["openpose"], "a picture alone gives its pose"
    assert list(guides("", {"depth": drawn}, draw)["controls"]) == ["depth"]
    assert guides("", {}, draw) == {}


@pytest.mark.parametrize(
    ("asked", "kinds", "message"),
    [
        ("canny", [], "no picture for canny"),
        ("canny", ["depth"], "not followed"),
        ("canny,depth", ["depth"], "no picture for canny"),
        ("scribble", [""], "cannot follow 'scribble'"),
        ("", ["scribble"], "cannot follow 'scribble'"),
        ("canny:strong", [""], "no way to follow"),
        ("canny:3", [""], "strength from 0 to 2"),
    ],
)
def test_what_makes_no_sense_is_said(asked, kinds, message):
    pictures = {kind: np.zeros((8, 8, 3), np.uint8) for kind in kinds}
    with pytest.raises(UserError) as caught:
        guides(asked, pictures, lambda kind, pixels: pixels)
    assert message in str(caught.value) + caught.value.next_step
    assert OPTION == "control"


def test_the_middle_of_a_guide_is_followed_undistorted():
    from facechain.engines.diffusion.canvas import fitted as filling
    from facechain.types import Photo, Shot

    picture = np.zeros((100, 300, 3), np.uint8)
    picture[:, 100:200] = 255  # a square in the middle
    shot = Shot(index=0, seed=0, prompt="", negative="", width_px=64, height_px=64, options={})
    given = filling(Photo(id="", name="", pixels=picture), shot)
    assert given.shape == (64, 64, 3)
    assert given[:, 1:-1].min() == 255, "stretched, its sides would show"


# ── the networks ─────────────────────────────────────────────────────────────────────────────────


def unet(base):
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel.from_pretrained(base, subfolder="unet")


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_a_network_in_one_file_is_the_one_of_its_folder(request, family, tmp_path):
    base = request.getfixturevalue(family)
    folder = tiny.controlnet(tmp_path / "net", base, embedding=(16, 32, 96, 256))
    one, other = (open_net(path, unet(base)) for path in (folder, *folder.glob("*.safetensors")))
    ours, theirs = one.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_network_for_another_family_is_refused(sd15, sdxl, tmp_path):
    folder = tiny.controlnet(tmp_path / "net", sdxl, embedding=(16, 32, 96, 256))
    with pytest.raises(EngineError, match="another family of bases"):
        open_net(folder, unet(sd15))
    with pytest.raises(PackError, match=r"(lacks|wrongly shaped) tensors"):
        open_net(next(folder.glob("*.safetensors")), unet(sd15))


def test_what_is_no_network_is_refused(sd15, tmp_path):
    from safetensors.torch import save_file

    of = unet(sd15)
    (tmp_path / "net.pth").write_bytes(b"x")
    with pytest.raises(PackError, match=r"net\.pth is cut short or not a weight file"):
        open_net(tmp_path / "net.pth", of)
    save_file({"conv_in.weight": torch.zeros(16, 4, 3, 3)}, tmp_path / "part.safetensors")
    with pytest.raises(PackError, match=r"The ControlNet part\.safetensors lacks tensors"):
        open_net(tmp_path / "part.safetensors", of)
    save_file({"other": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(EngineError, match=r"other\.safetensors is no ControlNet"):
        open_net(tmp_path / "other.safetensors", of)
    with pytest.raises(EngineError, match="is no ControlNet but a UNet2DConditionModel"):
        open_net(sd15 / "unet", of)
    with pytest.raises(PackMissing, match=r"lacks config\.json"):
        open_net(sd15, of)
