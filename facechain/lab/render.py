"""A person in a scene as a picture, with everything that is true about it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial import KDTree

from facechain.lab import raster
from facechain.lab.assets import TEXTURE_PX, Assets, Floats, Ints, Proxy
from facechain.lab.people import HAIR_LENGTHS, Someone, dyed, shaped, skin
from facechain.lab.raster import BROW, CLOTH, EYE, HAIR, LASH, SKIN, TEETH, TONGUE
from facechain.lab.scenes import Scene
from facechain.lab.traits import pose_word
from facechain.types import Pixels, Points, Pose

LABELS = ("background", "face skin", "body skin", "lips", "eyes", "brows", "hair", "clothes", "mouth")
DENSE = 478  # as many points as the product's landmarker gives, but not at its places
_KINDS = 8
_HAIR_LIGHT = 1.9  # brings the grey textures of hair up to the colour of a bright strand
_AO_MAP, _SHADOW_MAP = 96, 320


@dataclass(frozen=True, kw_only=True, eq=False)
class Rendering:
    """One picture and its truth; pixels are (S, S, 3) and every other plane (S, S)."""

    pixels: Pixels
    points_px: Points  # (5, 2) in the order of facechain.types.Face
    dense_px: Points  # (478, 2) the same places of every face
    pose: Pose
    labels: NDArray[np.uint8]  # index into LABELS
    depth: Floats  # decimetres from the camera; 0 where nothing is
    traits: Mapping[str, str]
    who: Someone
    scene: Scene


class Model:
    """What is the same for everybody: triangles, where they are painted, marks on the base mesh."""

    def __init__(self, assets: Assets) -> None:
        self.assets = assets
        self._greys: dict[tuple[str, str], NDArray[np.uint8]] = {}
        base = assets.base
        skin_triangles = assets.parts["skin"]
        on_skin = np.unique(skin_triangles)
        self.mouth_left, self.mouth_right = self._mouth_corners()
        # Detectors put the nose tip a little above the foremost point, on the ball of the nose.
        middle = on_skin[(np.abs(base[on_skin, 0]) < 0.02) & (base[on_skin, 1] > 6.97)]
        self.nose_tip = int(middle[np.argmax(base[middle, 2])])
        self.dense = self._spread_over_face(on_skin)
        self.beard = self._beard_places()
        self.is_head = self._is_head()
        self.mirror = KDTree(base).query(base * (-1, 1, 1))[1].astype(np.int32)  # each vertex's place on the other side

    def grey(self, folder: str, name: str) -> NDArray[np.uint8]:
        """(512, 512) brightness of one texture of "hair", "brows" or "clothes"."""
        if (folder, name) not in self._greys:
            texture = getattr(self.assets, folder)[name][1]
            self._greys[folder, name] = _grey(texture, 0.55 if folder == "clothes" else 0.62)
        return self._greys[folder, name]

    def _mouth_corners(self) -> tuple[int, int]:
        """By the smile: the lips' outermost points it moves. The person's left is x > 0, seen on the right."""
        lips, base = self._lip_vertices(), self.assets.base
        return int(lips[np.argmin(base[lips, 0])]), int(lips[np.argmax(base[lips, 0])])

    def _lip_vertices(self) -> Ints:
        uv, triangles = self.assets.part_uv["skin"], self.assets.parts["skin"]
        n = TEXTURE_PX
        texel = np.clip((uv * n).astype(int), 0, n - 1)
        on_lips = self.assets.lips[texel[..., 1], texel[..., 0]] > 128
        found = np.unique(triangles[on_lips])
        base = self.assets.base[found]
        return found[(base[:, 2] > 1.0) & (base[:, 1] > 6.2) & (base[:, 1] < 6.9)]

    def _spread_over_face(self, on_skin: Ints) -> Ints:
        """Farthest-point samples of the face, the same for everybody."""
        base = self.assets.base[on_skin]
        face = on_skin[(base[:, 2] > 0.75) & (base[:, 1] > 6.1) & (base[:, 1] < 8.0)]
        points = self.assets.base[face]
        chosen = [int(np.argmax(points[:, 2]))]
        nearest = np.linalg.norm(points - points[chosen[0]], axis=1)
        while len(chosen) < DENSE:
            chosen.append(int(np.argmax(nearest)))
            nearest = np.minimum(nearest, np.linalg.norm(points - points[chosen[-1]], axis=1))
        return face[chosen]

    def _beard_places(self) -> Floats:
        """(base V,) 0…1: jaw, chin, cheeks and upper lip of the mesh at rest."""
        x, y, z = self.assets.base.T
        jaw = _ramp(6.72, 6.45, y - 0.45 * np.maximum(np.abs(x) - 0.25, 0)) * _ramp(6.0, 6.22, y) * _ramp(0.3, 0.6, z)
        lip = _ramp(0.42, 0.30, np.abs(x)) * _ramp(6.88, 6.82, y) * _ramp(6.62, 6.68, y) * _ramp(1.2, 1.35, z)
        places = np.maximum(jaw, lip).astype(np.float32)
        places[self._lip_vertices()] = 0
        return places

    def _is_head(self) -> NDArray[np.bool_]:
        _, y, z = self.assets.base.T
        return (y + 0.55 * np.maximum(z, 0)) > 6.5

    @cached_property
    def eye_centres(self) -> tuple[Ints, Ints]:
        return self.assets.joints["right eye"], self.assets.joints["left eye"]


def _ramp(low: float, high: float, values: Floats) -> Floats:
    t = np.clip((values - low) / (high - low), 0, 1)
    return (t * t * (3 - 2 * t)).astype(np.float32)


@dataclass(frozen=True, kw_only=True, eq=False)
class Hair:
    points: Floats  # on the head at rest
    triangles: Ints
    uv: Floats
    texture: NDArray[np.uint8]


class Sitter:
    """One person, ready to be rendered many times."""

    def __init__(self, who: Someone, model: Model) -> None:
        self.who, self.model = who, model
        assets = model.assets
        self.rest = shaped(who, assets)
        neck, head = (self.rest[assets.joints[j]].mean(0) for j in ("joint-neck", "joint-head"))
        self.pivot = (0.45 * neck + 0.55 * head).astype(np.float32)
        self.neck_y = float(neck[1])
        self.hair = None if who.hair == "none" else self._cut(*assets.hair[who.hair])
        self.brows, self.lashes = assets.brows[who.brows], assets.lashes[who.lashes]
        self.textures, self.opacity, self.tints = self._paint()
        self.openness = self._openness()

    def dyed(self, seed: int) -> Sitter:
        """The same person with other hair; brows and beard stay as they were painted."""
        other = copy.copy(self)
        other.who, other.tints = dyed(self.who, seed), self.tints.copy()
        other.tints[HAIR] = other.who.hair_rgb * _HAIR_LIGHT
        return other

    def _cut(self, proxy: Proxy, texture: NDArray[np.uint8]) -> Hair:
        """The style as this person wears it: either way round, cut to a length, and clear of the eyes."""
        flip = np.array((-1, 1, 1), np.float32)
        mirrored = self.who.hair_mirrored
        points = proxy.fit(self.rest[self.model.mirror] * flip) * flip if mirrored else proxy.fit(self.rest)
        head = self.rest[self.model.assets.joints["joint-head"]].mean(0)
        points = head + (points - head) * np.float32(1.02)  # clear of the scalp of unusual heads
        middles = points[proxy.triangles].mean(1)
        eyes = self.rest[np.concatenate(self.model.eye_centres)]
        eye_y, eye_z, half = float(eyes[:, 1].mean()), float(eyes[:, 2].mean()), float(np.abs(eyes[:, 0]).max()) + 0.16
        over_face = (
            (np.abs(middles[:, 0]) < half)
            & (middles[:, 2] > eye_z - 0.35)
            & (middles[:, 1] < eye_y + self.who.fringe_y)
        )
        kept = ~over_face & (middles[:, 1] > self.neck_y + self.who.hair_cut_y)
        return Hair(points=points, triangles=proxy.triangles[kept], uv=proxy.uv[kept], texture=texture)

    def _paint(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8], Floats]:
        """Textures, opacities and colours of all but the clothes."""
        who, model = self.who, self.model
        textures = np.full((6, TEXTURE_PX, TEXTURE_PX, 3), 255, np.uint8)
        opacity = np.full((6, TEXTURE_PX, TEXTURE_PX), 255, np.uint8)
        textures[SKIN] = skin(who, model.assets)
        textures[EYE] = model.assets.irises[who.iris][..., :3]
        textures[LASH] = 20
        opacity[LASH] = self.lashes[1][..., 3]
        textures[BROW] = model.grey("brows", who.brows)[..., None]
        opacity[BROW] = (self.brows[1][..., 3] * (0.55 + 0.45 * who.brow_darkness)).astype(np.uint8)
        if self.hair is not None:
            textures[HAIR] = model.grey("hair", who.hair)[..., None]
            opacity[HAIR] = self.hair.texture[..., 3]
        tints = np.ones((_KINDS, 3), np.float32)
        tints[HAIR] = who.hair_rgb * _HAIR_LIGHT
        tints[BROW] = np.minimum(who.hair_rgb, 0.25) * (1.1 - 0.6 * who.brow_darkness)
        tints[EYE] = 0.95
        tints[TEETH] = (0.80, 0.74, 0.62)
        tints[TONGUE] = (0.42, 0.13, 0.12)
        return textures, opacity, tints

    def _openness(self) -> Floats:
        """(base V,) share of the sky each point of the body sees past head and hair, weighted to the front and up."""
        assets = self.model.assets
        pieces = [(self.rest, assets.parts["skin"], assets.part_uv["skin"], SKIN)]
        if self.hair is not None:
            pieces.append((self.hair.points, self.hair.triangles, self.hair.uv, HAIR))
        points, triangles, uv, kinds = _joined(pieces)
        rng = np.random.default_rng(5)
        directions = rng.normal((0, 0.25, 0.7), 1, (18, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        normals = raster.vertex_normals(self.rest, assets.parts["skin"], len(self.rest))
        seen, total = np.zeros(len(self.rest), np.float32), np.full(len(self.rest), 1e-3, np.float32)
        for direction in directions.astype(np.float32):
            mapped = _light_view(points, direction, _AO_MAP)
            depth = np.full((_AO_MAP, _AO_MAP), raster.FAR, np.float32)
            raster.draw_depth(mapped, triangles, kinds, uv, self.opacity, _AO_MAP, depth)
            reach = np.zeros(len(self.rest), np.float32)
            raster.reached(mapped[: len(self.rest)], depth, 1.0, 0.10, reach)
            cosine = np.maximum(normals @ direction, 0)
            seen += reach * cosine
            total += cosine
        return np.clip(seen / total, 0.08, 1).astype(np.float32)


def _light_view(points: Floats, direction: Floats, size: int) -> Floats:
    """Points as seen from far along `direction`: x and y in map samples, z growing away from the light."""
    up = np.array((0, 1, 0), np.float32) if abs(direction[1]) < 0.95 else np.array((1, 0, 0), np.float32)
    right = np.cross(up, direction)
    right /= np.linalg.norm(right)
    above = np.cross(direction, right)
    middle = np.array((0, 6.9, 0.3), np.float32)
    scale = size / 5.2
    local = points - middle
    return np.stack(
        [local @ right * scale + size / 2, size / 2 - local @ above * scale, -(local @ direction)], 1
    ).astype(np.float32)


def _joined(pieces: list[tuple[Floats, Ints, Floats, int]]) -> tuple[Floats, Ints, Floats, Ints]:
    """Meshes as one: points, triangles, uv, kind of each triangle."""
    points, triangles, uvs, kinds, start = [], [], [], [], 0
    for vertices, faces, uv, kind in pieces:
        points.append(vertices)
        triangles.append(faces + start)
        uvs.append(uv)
        kinds.append(np.full(len(faces), kind, np.int32))
        start += len(vertices)
    return (
        np.concatenate(points).astype(np.float32),
        np.concatenate(triangles).astype(np.int32),
        np.ascontiguousarray(np.concatenate(uvs), np.float32),
        np.concatenate(kinds),
    )


def render(sitter: Sitter, scene: Scene, size_px: int = 256, over: int = 2) -> Rendering:
    """Same person, same scene, same pixels. `over` is the number of samples along a pixel's side."""
    who, model = sitter.who, sitter.model
    assets = model.assets
    base = _expressed(sitter.rest, scene, assets)
    cloth = assets.clothes[scene.clothes][0]

    skin_seen = ~cloth.hides[assets.parts["skin"]].any(1)
    pieces = [
        (base, assets.parts["skin"][skin_seen], assets.part_uv["skin"][skin_seen], SKIN),
        (_gazing(assets.eyes.fit(base), assets, base, scene), assets.eyes.triangles, assets.eyes.uv, EYE),
        (sitter.brows[0].fit(base), sitter.brows[0].triangles, sitter.brows[0].uv, BROW),
        (sitter.lashes[0].fit(base), sitter.lashes[0].triangles, sitter.lashes[0].uv, LASH),
        (cloth.fit(base), cloth.triangles, cloth.uv, CLOTH),
        (base, assets.parts["upper teeth"], assets.part_uv["upper teeth"], TEETH),
        (base, assets.parts["lower teeth"], assets.part_uv["lower teeth"], TEETH),
        (base, assets.parts["tongue"], assets.part_uv["tongue"], TONGUE),
    ]
    if sitter.hair is not None:
        # Hair rests on the head without expression, so that a raised brow does not lift it.
        pieces.append((sitter.hair.points, sitter.hair.triangles, sitter.hair.uv, HAIR))
    points, triangles, uv, kinds = _joined(pieces)

    turned, head_turn = _turned(points, sitter, scene)
    eye = np.array((0, 0, scene.distance), np.float32)
    middle, scale = _framing(sitter, scene, turned)
    world = (turned - middle).astype(np.float32)
    samples = size_px * over
    focal = scale * samples * scene.distance
    away = eye[2] - world[:, 2]
    screen = np.empty_like(world)
    screen[:, 0] = samples * (0.5 + scene.shift[0]) + focal * world[:, 0] / away
    screen[:, 1] = samples * (0.5 + scene.shift[1]) - focal * world[:, 1] / away
    screen[:, 2] = away

    textures, opacity, tints = _paints(sitter, scene)
    depth = np.full((samples, samples), raster.FAR, np.float32)
    owner = np.full((samples, samples), -1, np.int32)
    bary = np.zeros((samples, samples, 2), np.float32)
    raster.draw(screen, triangles, kinds, uv, opacity, over, samples, depth, owner, bary)

    shadow_points = _shadow_view(world, scene.lights[0])
    shadow = np.full((_SHADOW_MAP, _SHADOW_MAP), raster.FAR, np.float32)
    raster.draw_depth(shadow_points, triangles, kinds, uv, opacity, _SHADOW_MAP, shadow)

    normals = raster.vertex_normals(world, triangles, len(world))
    _round_eyes(normals, world, len(base), assets)
    strands = raster.strand_directions(world, triangles, uv, len(world))
    openness = np.full(len(world), 0.85, np.float32)
    openness[: len(base)] = sitter.openness
    eyes_at = slice(len(base), len(base) + len(assets.eyes.anchors))
    openness[eyes_at] = 0.7
    openness[kinds_vertices(triangles, kinds, (TEETH, TONGUE), len(world))] = 0.6
    openness[kinds_vertices(triangles, kinds, (HAIR,), len(world))] = 0.7
    beard = np.zeros(len(world), np.float32)
    beard[: len(base)] = model.beard * who.beard

    colour = np.zeros((size_px, size_px, 3), np.float32)
    cover = np.zeros((size_px, size_px), np.float32)
    raster.shade(
        owner, bary, triangles, kinds, uv, world, normals, strands, openness, beard,
        textures, tints, _LINEAR, eye, scene.lights, scene.light_rgb, scene.sky, scene.ground,
        scene.side, scene.side_dir, shadow_points, shadow, np.float32(0.05), np.float32(scene.gloss),
        over, colour, cover,
    )  # fmt: skip
    return Rendering(
        pixels=_developed(colour, cover, scene, size_px),
        points_px=_five(screen, model, base, over),
        dense_px=(screen[model.dense, :2] / over).astype(np.float32),
        pose=_pose_of(head_turn),
        labels=_labels(owner, triangles, kinds, uv, model, over),
        depth=np.where(depth < raster.FAR, depth, 0)[over // 2 :: over, over // 2 :: over].astype(np.float32),
        traits=_traits(who, scene),
        who=who,
        scene=scene,
    )


def _expressed(rest: Floats, scene: Scene, assets: Assets) -> Floats:
    base = rest.copy()
    for name, amount in scene.units.items():
        for unit in (name, f"{name}Left", f"{name}Right"):
            if unit in assets.units and abs(amount) > 0.01:
                target = assets.units[unit]
                base[target.index] += target.vector * np.float32(amount)
    return base


def _gazing(eyes: Floats, assets: Assets, base: Floats, scene: Scene) -> Floats:
    """Each eyeball turned about its own middle."""
    yaw, pitch = np.radians(scene.gaze_deg)
    turn = _rotation(yaw, pitch, 0)
    out = eyes.copy()
    for side in (eyes[:, 0] > 0, eyes[:, 0] <= 0):
        middle = 0.5 * (eyes[side].min(0) + eyes[side].max(0))
        out[side] = (eyes[side] - middle) @ turn.T + middle
    return out


def _round_eyes(normals: Floats, world: Floats, first: int, assets: Assets) -> None:
    """Eyeballs are few triangles; their normals are a ball's."""
    rows = np.arange(first, first + len(assets.eyes.anchors))
    drawn = np.unique(assets.eyes.triangles) + first
    rest_x = assets.eyes.fit(assets.base)[:, 0]
    for side in (rest_x > 0, rest_x <= 0):
        which = np.intersect1d(rows[side], drawn)
        middle = 0.5 * (world[which].min(0) + world[which].max(0))
        out = world[which] - middle
        normals[which] = out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-6)


def _rotation(yaw: float, pitch: float, roll: float) -> Floats:
    """Camera space, x right, y up, z towards the camera; senses as in facechain.types (radians)."""
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    about_y = np.array(((cy, 0, sy), (0, 1, 0), (-sy, 0, cy)))
    about_x = np.array(((1, 0, 0), (0, cp, sp), (0, -sp, cp)))
    about_z = np.array(((cr, sr, 0), (-sr, cr, 0), (0, 0, 1)))
    return (about_z @ about_y @ about_x).astype(np.float32)


def _turned(points: Floats, sitter: Sitter, scene: Scene) -> tuple[Floats, Floats]:
    """Points with the body turned a part of the way and the head all of it, and the head's rotation."""
    yaw, pitch, roll = np.radians((scene.yaw_deg, scene.pitch_deg, scene.roll_deg))
    body_yaw = yaw * (1 - scene.neck_share)
    _, y, z = points.T
    # A slanted border: the chin belongs to the head although it hangs lower than the nape.
    height = y + 0.55 * np.clip(z - 0.1, -0.4, 1.6)
    share = _ramp(sitter.neck_y - 0.25, sitter.neck_y + 0.75, height)
    steps = 12  # the neck bends in so many rings, each point between two
    turns = np.stack(
        [_rotation(body_yaw + (yaw - body_yaw) * s, pitch * s, roll * s) for s in np.linspace(0, 1, steps + 1)]
    )
    return raster.bent(points, sitter.pivot, share, turns), turns[-1]


def _framing(sitter: Sitter, scene: Scene, turned: Floats) -> tuple[Floats, float]:
    """The middle of the head (decimetres) and pictures a decimetre."""
    head = turned[: len(sitter.rest)][np.unique(sitter.model.assets.parts["skin"])]
    rest = sitter.rest[np.unique(sitter.model.assets.parts["skin"])]
    chin_up = rest[:, 1] > rest[sitter.model.nose_tip, 1] - 0.95
    top, bottom = float(head[chin_up, 1].max()), float(np.percentile(head[chin_up, 1], 2))
    height = max(float(rest[chin_up, 1].max() - rest[chin_up, 1].min()), 1.0)
    middle = np.array(
        (float(head[chin_up, 0].mean()), 0.5 * (top + bottom), float(head[chin_up, 2].mean())), np.float32
    )
    return middle, scene.face_share / height


def _shadow_view(world: Floats, light: Floats) -> Floats:
    """As `_light_view`, of points already about the head's middle."""
    return _light_view(world + np.array((0, 6.6, 0.3), np.float32), light, _SHADOW_MAP)


def kinds_vertices(triangles: Ints, kinds: Ints, which: tuple[int, ...], count: int) -> NDArray[np.bool_]:
    found = np.zeros(count, np.bool_)
    found[triangles[np.isin(kinds, which)]] = True
    return found


_LINEAR = ((np.arange(256) / 255) ** 2.2).astype(np.float32)


def _paints(sitter: Sitter, scene: Scene) -> tuple[NDArray[np.uint8], NDArray[np.uint8], Floats]:
    """Textures (6, N, N, 3) sRGB, opacities (6, N, N), and a colour for each kind."""
    textures, opacity, tints = sitter.textures.copy(), sitter.opacity.copy(), sitter.tints.copy()
    textures[CLOTH] = sitter.model.grey("clothes", scene.clothes)[..., None]
    opacity[CLOTH] = sitter.model.assets.clothes[scene.clothes][1][..., 3]
    tints[CLOTH] = scene.clothes_rgb * 1.6
    return textures, opacity, tints


def _grey(texture: NDArray[np.uint8], mean: float) -> NDArray[np.uint8]:
    """Brightness alone, with a common mean where the texture is opaque, so that colour comes from the tint."""
    value = texture[..., :3].astype(np.float32).max(2) / 255
    seen = texture[..., 3] > 128
    spread = value / max(float(value[seen].mean()) if seen.any() else 1.0, 0.02)
    return (np.clip(mean * np.clip(spread, 0.25, 1.6) ** 0.8, 0, 1) * 255).astype(np.uint8)


def _developed(colour: Floats, cover: Floats, scene: Scene, size_px: int) -> Pixels:
    """Linear light to an sRGB photograph: background, a shoulder for the highlights, sensor noise."""
    planes = [
        np.asarray(Image.fromarray(scene.backdrop[..., k]).resize((size_px, size_px), Image.Resampling.BICUBIC))
        for k in range(3)
    ]
    light = colour + np.maximum(np.stack(planes, 2), 0) * (1 - cover)[..., None]
    light = light * (1 + 0.12 * light) / (1 + 0.28 * light)
    value = np.where(light < 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 1e-6) ** (1 / 2.4) - 0.055)
    rng = np.random.default_rng([scene.seed, 0x4015E])
    value = value * 255 + rng.normal(0, scene.noise, value.shape).astype(np.float32)
    return np.clip(value + 0.5, 0, 255).astype(np.uint8)


def _five(screen: Floats, model: Model, base: Floats, over: int) -> Points:
    marks = [screen[rows, :2].mean(0) for rows in model.eye_centres]
    marks += [screen[i, :2] for i in (model.nose_tip, model.mouth_left, model.mouth_right)]
    return (np.array(marks) / over).astype(np.float32)


def _pose_of(turn: Floats) -> Pose:
    """Inverse of `_rotation`."""
    roll = np.arctan2(-turn[1, 0], turn[0, 0])
    nose = _rotation(0, 0, -roll) @ turn[:, 2]
    yaw, pitch = np.arctan2(nose[0], nose[2]), np.arcsin(np.clip(nose[1], -1, 1))
    return Pose(yaw_deg=float(np.degrees(yaw)), pitch_deg=float(np.degrees(pitch)), roll_deg=float(np.degrees(roll)))


def _labels(owner: Ints, triangles: Ints, kinds: Ints, uv: Floats, model: Model, over: int) -> NDArray[np.uint8]:
    """Of each pixel's middle sample."""
    seen = owner[over // 2 :: over, over // 2 :: over]
    of_kind = np.array([1, 4, 6, 5, 4, 7, 8, 8], np.uint8)
    labels = np.where(seen >= 0, of_kind[kinds[seen]], 0).astype(np.uint8)
    on_skin = labels == 1
    which = seen[on_skin]
    middle = np.clip((uv[which].mean(1) * TEXTURE_PX).astype(int), 0, TEXTURE_PX - 1)
    lips = model.assets.lips[middle[:, 1], middle[:, 0]] > 128
    head = model.is_head[triangles[which, 0]]
    labels[on_skin] = np.where(lips, 3, np.where(head, 1, 2))
    return labels


def _traits(who: Someone, scene: Scene) -> dict[str, str]:
    known = {
        "age": who.age,
        "expression": scene.expression,
        "pose": pose_word(scene.yaw_deg, scene.pitch_deg),
        "background": scene.background,
        "clothes": scene.clothes_colour,
    }
    if who.hair != "none":
        length = HAIR_LENGTHS[who.hair]
        cut_short = length == "long" and who.hair_cut_y > 0.05  # above this, nothing hangs below the chin
        known |= {"hair_length": "medium" if cut_short else length, "hair_colour": who.hair_colour}
    if who.beard > 0.4:
        known["beard"] = "yes"
    return known
