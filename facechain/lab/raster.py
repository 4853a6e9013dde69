"""Triangles to samples to light, compiled with numba; every function is plain loops over float32.

Samples lie on a grid finer than the picture. Hair is let through by chance: a strand half as opaque is drawn on half
of the samples, chosen by a hash of their place, so nothing needs sorting and the mean over a pixel is right.
"""

from __future__ import annotations

import numba
import numpy as np

_F = np.float32
SKIN, EYE, HAIR, BROW, LASH, CLOTH, TEETH, TONGUE = range(8)
FAR = 1e9


@numba.njit(cache=True, fastmath=True)
def hashed(x, y, k):
    """0…1 from three whole numbers."""
    h = (
        np.uint32(x) * np.uint32(0x8DA6B343)
        ^ np.uint32(y) * np.uint32(0xD8163841)
        ^ np.uint32(k) * np.uint32(0xCB1AB31F)
    )
    h ^= h >> np.uint32(13)
    h *= np.uint32(0x5BD1E995)
    h ^= h >> np.uint32(15)
    return _F(h & np.uint32(0xFFFF)) / _F(65536.0)


@numba.njit(cache=True, fastmath=True)
def draw(points, triangles, kinds, uv, opacity, over, size, depth, owner, bary):
    """Nearest triangle of each sample.

    points (V, 3): x and y in samples, z the distance (smaller is nearer). opacity (kinds, N, N) uint8 by texture.
    `over` samples lie along a pixel's side; the chances within one pixel are spread evenly.
    Writes depth (size, size), owner (triangle number or -1), bary (size, size, 2).
    """
    n = opacity.shape[1]
    strata = over * over
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay, az = points[a, 0], points[a, 1], points[a, 2]
        bx, by, bz = points[b, 0], points[b, 1], points[b, 2]
        cx, cy, cz = points[c, 0], points[c, 1], points[c, 2]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if abs(area) < 1e-8:
            continue
        kind = kinds[t]
        seen_behind = kind >= HAIR
        if area > 0 and not seen_behind:
            continue
        x0 = max(int(np.ceil(min(ax, min(bx, cx)) - 0.5)), 0)
        x1 = min(int(np.floor(max(ax, max(bx, cx)) - 0.5)), size - 1)
        y0 = max(int(np.ceil(min(ay, min(by, cy)) - 0.5)), 0)
        y1 = min(int(np.floor(max(ay, max(by, cy)) - 0.5)), size - 1)
        inverse = _F(1.0) / area
        clear = HAIR <= kind <= CLOTH
        for y in range(y0, y1 + 1):
            py = _F(y) + _F(0.5)
            for x in range(x0, x1 + 1):
                px = _F(x) + _F(0.5)
                wb = ((px - ax) * (cy - ay) - (py - ay) * (cx - ax)) * inverse
                wc = ((bx - ax) * (py - ay) - (by - ay) * (px - ax)) * inverse
                wa = _F(1.0) - wb - wc
                if wa < 0 or wb < 0 or wc < 0:
                    continue
                z = wa * az + wb * bz + wc * cz
                if z >= depth[y, x]:
                    continue
                if clear:
                    u = wa * uv[t, 0, 0] + wb * uv[t, 1, 0] + wc * uv[t, 2, 0]
                    v = wa * uv[t, 0, 1] + wb * uv[t, 1, 1] + wc * uv[t, 2, 1]
                    iu = min(max(int(u * n), 0), n - 1)
                    iv = min(max(int(v * n), 0), n - 1)
                    alpha = _F(opacity[kind, iv, iu]) * _F(1 / 255.0)
                    if alpha < _F(0.99):
                        px_x, px_y = x // over, y // over
                        place = (y - px_y * over) * over + x - px_x * over
                        turn = int(hashed(px_x, px_y, t) * strata)
                        level = (place * 5 + turn) % strata
                        if alpha * strata <= _F(level) + hashed(px_x, px_y, t + 77):
                            continue
                depth[y, x] = z
                owner[y, x] = t
                bary[y, x, 0] = wb
                bary[y, x, 1] = wc


@numba.njit(cache=True, fastmath=True)
def draw_depth(points, triangles, kinds, uv, opacity, size, depth):
    """As `draw`, both sides, keeping only the distance; for shadows."""
    n = opacity.shape[1]
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay = points[a, 0], points[a, 1]
        bx, by = points[b, 0], points[b, 1]
        cx, cy = points[c, 0], points[c, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        kind = kinds[t]
        if abs(area) < 1e-8 or BROW <= kind <= LASH:
            continue
        x0 = max(int(np.ceil(min(ax, min(bx, cx)) - 0.5)), 0)
        x1 = min(int(np.floor(max(ax, max(bx, cx)) - 0.5)), size - 1)
        y0 = max(int(np.ceil(min(ay, min(by, cy)) - 0.5)), 0)
        y1 = min(int(np.floor(max(ay, max(by, cy)) - 0.5)), size - 1)
        inverse = _F(1.0) / area
        for y in range(y0, y1 + 1):
            py = _F(y) + _F(0.5)
            for x in range(x0, x1 + 1):
                px = _F(x) + _F(0.5)
                wb = ((px - ax) * (cy - ay) - (py - ay) * (cx - ax)) * inverse
                wc = ((bx - ax) * (py - ay) - (by - ay) * (px - ax)) * inverse
                wa = _F(1.0) - wb - wc
                if wa < 0 or wb < 0 or wc < 0:
                    continue
                z = wa * points[a, 2] + wb * points[b, 2] + wc * points[c, 2]
                if z >= depth[y, x]:
                    continue
                if kind == HAIR:
                    u = wa * uv[t, 0, 0] + wb * uv[t, 1, 0] + wc * uv[t, 2, 0]
                    v = wa * uv[t, 0, 1] + wb * uv[t, 1, 1] + wc * uv[t, 2, 1]
                    iu = min(max(int(u * n), 0), n - 1)
                    iv = min(max(int(v * n), 0), n - 1)
                    if _F(opacity[kind, iv, iu]) * _F(1 / 255.0) <= hashed(x, y, t):
                        continue
                depth[y, x] = z


@numba.njit(cache=True, fastmath=True)
def bent(points, pivot, share, turns):
    """(V, 3) each point turned about the pivot by the rotation `share` (0…1) of the way along `turns`."""
    out = np.empty_like(points)
    steps = turns.shape[0] - 1
    for i in range(points.shape[0]):
        place = share[i] * steps
        ring = min(int(place), steps - 1)
        f = _F(place - ring)
        for k in range(3):
            total = pivot[k]
            for j in range(3):
                turn = turns[ring, k, j] * (_F(1) - f) + turns[ring + 1, k, j] * f
                total += turn * (points[i, j] - pivot[j])
            out[i, k] = total
    return out


@numba.njit(cache=True, fastmath=True)
def vertex_normals(points, triangles, count):
    """(count, 3), area-weighted, unit length."""
    out = np.zeros((count, 3), np.float32)
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ux, uy, uz = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1], points[b, 2] - points[a, 2]
        vx, vy, vz = points[c, 0] - points[a, 0], points[c, 1] - points[a, 1], points[c, 2] - points[a, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for k in (a, b, c):
            out[k, 0] += nx
            out[k, 1] += ny
            out[k, 2] += nz
    for i in range(count):
        length = np.sqrt(out[i, 0] ** 2 + out[i, 1] ** 2 + out[i, 2] ** 2) + _F(1e-12)
        for k in range(3):
            out[i, k] /= length
    return out


@numba.njit(cache=True, fastmath=True)
def strand_directions(points, triangles, uv, count):
    """(count, 3) unit vectors along falling v, which is how hair textures run."""
    out = np.zeros((count, 3), np.float32)
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        u1, v1 = uv[t, 1, 0] - uv[t, 0, 0], uv[t, 1, 1] - uv[t, 0, 1]
        u2, v2 = uv[t, 2, 0] - uv[t, 0, 0], uv[t, 2, 1] - uv[t, 0, 1]
        det = u1 * v2 - u2 * v1
        if abs(det) < 1e-9:
            continue
        for k in range(3):
            e1 = points[b, k] - points[a, k]
            e2 = points[c, k] - points[a, k]
            d = (u1 * e2 - u2 * e1) / det
            out[a, k] += d
            out[b, k] += d
            out[c, k] += d
    for i in range(count):
        length = np.sqrt(out[i, 0] ** 2 + out[i, 1] ** 2 + out[i, 2] ** 2) + _F(1e-12)
        for k in range(3):
            out[i, k] /= length
    return out


@numba.njit(cache=True, fastmath=True)
def reached(points, depth, scale, bias, out):
    """Adds to out (V,) how far each point (x, y in map samples, z distance) is seen from a depth map."""
    size = depth.shape[0]
    for i in range(points.shape[0]):
        x, y = int(points[i, 0]), int(points[i, 1])
        if x < 1 or y < 1 or x >= size - 1 or y >= size - 1:
            out[i] += scale
            continue
        free = 0
        for dy in range(-1, 2):
            for dx in range(-1, 2):
                if points[i, 2] <= depth[y + dy, x + dx] + bias:
                    free += 1
        out[i] += scale * _F(free) / _F(9.0)


@numba.njit(cache=True, fastmath=True)
def _texel(textures, layer, u, v, linear, out):
    """Bilinear, in linear light."""
    n = textures.shape[1]
    fx = min(max(u * n - _F(0.5), _F(0.0)), _F(n - 1.001))
    fy = min(max(v * n - _F(0.5), _F(0.0)), _F(n - 1.001))
    x, y = int(fx), int(fy)
    dx, dy = fx - _F(x), fy - _F(y)
    for k in range(3):
        top = linear[textures[layer, y, x, k]] * (_F(1) - dx) + linear[textures[layer, y, x + 1, k]] * dx
        low = linear[textures[layer, y + 1, x, k]] * (_F(1) - dx) + linear[textures[layer, y + 1, x + 1, k]] * dx
        out[k] = top * (_F(1) - dy) + low * dy


@numba.njit(cache=True, fastmath=True)
def shade(
    owner, bary, triangles, kinds, uv, world, normals, strands, openness, beard,
    textures, tints, linear, eye, lights, light_rgb, sky, ground, side, side_dir,
    shadow_points, shadow, bias, gloss, over, colour, cover,
):  # fmt: skip
    """Adds each sample's light to its pixel: colour (H, W, 3) linear, cover (H, W).

    lights (L, 3) towards each light, the first with a shadow map; openness (V,) is how much sky a vertex sees.
    """
    size = owner.shape[0]
    share = _F(1.0) / _F(over * over)
    map_size = shadow.shape[0]
    albedo = np.zeros(3, np.float32)
    for y in range(size):
        for x in range(size):
            t = owner[y, x]
            if t < 0:
                continue
            wb, wc = bary[y, x, 0], bary[y, x, 1]
            wa = _F(1.0) - wb - wc
            a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            kind = kinds[t]
            nx = wa * normals[a, 0] + wb * normals[b, 0] + wc * normals[c, 0]
            ny = wa * normals[a, 1] + wb * normals[b, 1] + wc * normals[c, 1]
            nz = wa * normals[a, 2] + wb * normals[b, 2] + wc * normals[c, 2]
            length = np.sqrt(nx * nx + ny * ny + nz * nz) + _F(1e-9)
            nx, ny, nz = nx / length, ny / length, nz / length
            px = wa * world[a, 0] + wb * world[b, 0] + wc * world[c, 0]
            py = wa * world[a, 1] + wb * world[b, 1] + wc * world[c, 1]
            pz = wa * world[a, 2] + wb * world[b, 2] + wc * world[c, 2]
            ex, ey, ez = eye[0] - px, eye[1] - py, eye[2] - pz
            length = np.sqrt(ex * ex + ey * ey + ez * ez)
            ex, ey, ez = ex / length, ey / length, ez / length
            facing = nx * ex + ny * ey + nz * ez
            if facing < 0 and kind in (HAIR, CLOTH):
                nx, ny, nz, facing = -nx, -ny, -nz, -facing
            facing = max(facing, _F(0.0))
            u = wa * uv[t, 0, 0] + wb * uv[t, 1, 0] + wc * uv[t, 2, 0]
            v = wa * uv[t, 0, 1] + wb * uv[t, 1, 1] + wc * uv[t, 2, 1]
            if kind < TEETH:
                _texel(textures, kind, u, v, linear, albedo)
            else:
                albedo[0], albedo[1], albedo[2] = _F(1), _F(1), _F(1)
            for k in range(3):
                albedo[k] *= tints[kind, k]
            open_ = wa * openness[a] + wb * openness[b] + wc * openness[c]
            stubble = wa * beard[a] + wb * beard[b] + wc * beard[c]
            if kind == SKIN and stubble > 0:
                grain = hashed(int(u * 1400), int(v * 1400), 3)
                dark = min(stubble * (_F(0.35) + _F(0.8) * grain), _F(0.85))
                for k in range(3):
                    albedo[k] = albedo[k] * (_F(1) - dark) + tints[HAIR, k] * _F(0.28) * dark

            # shadow of the first light, softened over its neighbourhood
            sx = wa * shadow_points[a, 0] + wb * shadow_points[b, 0] + wc * shadow_points[c, 0]
            sy = wa * shadow_points[a, 1] + wb * shadow_points[b, 1] + wc * shadow_points[c, 1]
            sz = wa * shadow_points[a, 2] + wb * shadow_points[b, 2] + wc * shadow_points[c, 2]
            lit, taps = _F(0.0), _F(0.0)
            jx, jy = hashed(x, y, 11) * 2 - 1, hashed(x, y, 12) * 2 - 1
            for dy in range(-1, 2):
                for dx in range(-1, 2):
                    mx, my = int(sx + (_F(dx) * 1.6 + jx)), int(sy + (_F(dy) * 1.6 + jy))
                    taps += _F(1.0)
                    if mx < 0 or my < 0 or mx >= map_size or my >= map_size or sz <= shadow[my, mx] + bias:
                        lit += _F(1.0)
            lit /= taps

            # light from everywhere
            up = _F(0.5) + _F(0.5) * ny
            sideways = max(_F(0.0), _F(0.5) + _F(0.5) * (nx * side_dir[0] + ny * side_dir[1] + nz * side_dir[2]))
            pixel_y, pixel_x = y // over, x // over
            # strand direction for hair
            tx = wa * strands[a, 0] + wb * strands[b, 0] + wc * strands[c, 0]
            ty = wa * strands[a, 1] + wb * strands[b, 1] + wc * strands[c, 1]
            tz = wa * strands[a, 2] + wb * strands[b, 2] + wc * strands[c, 2]
            length = np.sqrt(tx * tx + ty * ty + tz * tz) + _F(1e-9)
            tx, ty, tz = tx / length, ty / length, tz / length
            for k in range(3):
                around = ground[k] + (sky[k] - ground[k]) * up + side[k] * sideways
                # bounced light inside a fold takes the surface's colour
                total = albedo[k] * around * open_ * (_F(1) + (_F(1) - open_) * albedo[k])
                for i in range(lights.shape[0]):
                    reach = lit if i == 0 else open_
                    lx, ly, lz = lights[i, 0], lights[i, 1], lights[i, 2]
                    hx, hy, hz = lx + ex, ly + ey, lz + ez
                    length = np.sqrt(hx * hx + hy * hy + hz * hz) + _F(1e-9)
                    hx, hy, hz = hx / length, hy / length, hz / length
                    cosine = nx * lx + ny * ly + nz * lz
                    nh = max(nx * hx + ny * hy + nz * hz, _F(0.0))
                    eh = max(ex * hx + ey * hy + ez * hz, _F(0.0))
                    fresnel = (_F(1) - eh) ** 5
                    strength = light_rgb[i, k]
                    if kind == HAIR:
                        along = tx * lx + ty * ly + tz * lz
                        sine = np.sqrt(max(_F(1) - along * along, _F(0)))
                        th = tx * hx + ty * hy + tz * hz
                        shine = np.sqrt(max(_F(1) - (th + _F(0.08)) ** 2, _F(0))) ** 60
                        glow = np.sqrt(max(_F(1) - (th - _F(0.12)) ** 2, _F(0))) ** 14
                        wrapped = max(cosine * _F(0.7) + _F(0.3), _F(0))
                        body = albedo[k] * sine * wrapped * _F(0.9)
                        total += strength * reach * (body + wrapped * (shine * _F(0.022) + glow * albedo[k] * _F(0.6)))
                    elif kind == SKIN:
                        wrap = _F(0.24) if k == 0 else (_F(0.14) if k == 1 else _F(0.11))
                        soft = reach ** (_F(0.7) if k == 0 else _F(1.0))
                        diffuse = max((cosine + wrap) / (_F(1) + wrap), _F(0))
                        diffuse = diffuse * (_F(0.55) + _F(0.45) * diffuse)
                        shine = nh**18 * _F(0.045) + nh**70 * _F(0.05)
                        shine *= gloss * (_F(0.4) + _F(5) * fresnel) * (_F(1) - min(stubble, _F(0.8)))
                        total += strength * (albedo[k] * diffuse * soft + max(cosine, _F(0)) * reach * shine)
                    elif kind == EYE or kind >= TEETH:
                        diffuse = max((cosine + _F(0.2)) / _F(1.2), _F(0))
                        shine = (nh**220 * _F(6.0) if kind == EYE else nh**40 * _F(0.25)) * min(open_ * 2, _F(1))
                        total += strength * reach * (albedo[k] * diffuse + shine)
                    else:
                        total += strength * reach * albedo[k] * max(cosine, _F(0))
                if kind == SKIN:
                    rim = (_F(1) - facing) ** 4
                    total += rim * around * open_ * _F(0.12)
                colour[pixel_y, pixel_x, k] += total * share
            cover[pixel_y, pixel_x] += share
