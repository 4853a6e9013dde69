"""Drawn previews of styles: a backdrop, a light and a figure, different for every look; no picture of anybody."""

from __future__ import annotations

import hashlib

from facechain.types import Style

# group → (backdrop top, backdrop bottom, cloth), as hue, saturation, lightness
_PALETTES = {
    "portrait": ((215, 12, 62), (220, 14, 34), (222, 22, 26)),
    "headshot": ((205, 38, 78), (212, 30, 52), (218, 38, 28)),
    "id photo": ((210, 20, 92), (208, 22, 84), (220, 26, 30)),
    "film": ((32, 48, 42), (222, 44, 16), (20, 34, 22)),
    "art": ((42, 66, 72), (12, 58, 54), (256, 34, 38)),
    "period": ((34, 34, 40), (24, 36, 16), (6, 44, 28)),
    "profession": ((192, 34, 74), (200, 34, 46), (0, 0, 92)),
    "regional dress": ((20, 60, 74), (350, 46, 48), (276, 42, 38)),
    "season": ((46, 76, 78), (150, 34, 50), (24, 48, 44)),
}
_OTHER = ((215, 14, 70), (220, 16, 44), (222, 22, 30))
_SKIN = ("#f1cdb0", "#dca784", "#b97f5b", "#8a5a3c", "#5d3a27")


def draw(style: Style) -> str:
    """An SVG of 320 × 400."""
    seed = hashlib.sha256(style.id.encode()).digest()
    turn = seed[0] % 36 - 18
    top, bottom, cloth = (_colour(part, turn) for part in _PALETTES.get(style.group, _OTHER))
    skin, hair = _SKIN[seed[1] % len(_SKIN)], f"hsl({20 + seed[2] % 20} {30 + seed[3] % 20}% {10 + seed[4] % 30}%)"
    light = 70 + seed[5] % 180
    sepia = "black" in style.id or "noir" in style.id or "charcoal" in style.id
    if sepia:
        top, bottom, cloth, skin, hair = "#c9c9c9", "#2b2b2b", "#1d1d1d", "#d9d9d9", "#171717"
    long_hair = (
        f'<path d="M104 190c-6-92 118-92 112 0 6 50 10 76 16 96H88c6-20 10-46 16-96z" fill="{hair}"/>'
        if seed[6] % 2
        else ""
    )
    short_hair = f'<path d="M108 172c-8-86 112-86 104 0-8-40-28-52-52-52s-44 12-52 52z" fill="{hair}"/>'
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 320 400" preserveAspectRatio="xMidYMid slice">'
        f'<defs><linearGradient id="b" x2="0" y2="1"><stop stop-color="{top}"/><stop offset="1" stop-color="{bottom}"/>'
        f'</linearGradient><radialGradient id="l" cx="{light}" cy="110" r="230" gradientUnits="userSpaceOnUse">'
        '<stop stop-color="#fff" stop-opacity=".5"/><stop offset="1" stop-color="#fff" stop-opacity="0"/>'
        '</radialGradient></defs><rect width="320" height="400" fill="url(#b)"/>'
        f'{_SCENES.get(style.group, _plain)(seed)}<rect width="320" height="400" fill="url(#l)"/>{long_hair}'
        f'<path d="M136 214h48v60h-48z" fill="{skin}"/>'
        '<path d="M136 236c16 14 32 14 48 0v22c-16 10-32 10-48 0z" opacity=".14"/>'
        f'<path d="M30 400c4-84 60-126 106-134 12 14 36 14 48 0 46 8 102 50 106 134z" fill="{cloth}"/>'
        f'<ellipse cx="160" cy="178" rx="47" ry="60" fill="{skin}"/>{short_hair}{_FRONTS.get(style.group, "")}</svg>'
    )


def _colour(part: tuple[int, int, int], turn: int) -> str:
    return f"hsl({(part[0] + turn) % 360} {part[1]}% {part[2]}%)"


def _plain(_: bytes) -> str:
    return ""


def _windows(seed: bytes) -> str:
    panes = (f'<rect x="{20 + 100 * n}" y="20" width="80" height="220" rx="6"/>' for n in range(3))
    return f'<g fill="#fff" opacity=".{16 + seed[7] % 14}">{"".join(panes)}</g>'


def _dots(seed: bytes) -> str:
    spots = (
        f'<circle cx="{seed[n] * 320 // 255}" cy="{seed[n + 1] * 300 // 255}" r="{6 + seed[n + 2] % 20}"/>'
        for n in range(8, 28, 2)
    )
    return f'<g fill="#fff" opacity=".28">{"".join(spots)}</g>'


def _strokes(seed: bytes) -> str:
    lines = (
        f'<path d="M-20 {20 + 44 * n}q{90 + seed[n] % 60} {seed[n + 8] % 60 - 30} 180 0t180 {seed[n + 16] % 40 - 20}" '
        f'stroke="hsl({seed[n + 2] * 360 // 255} 60% 66%)"/>'
        for n in range(8)
    )
    return f'<g fill="none" stroke-width="22" stroke-linecap="round" opacity=".42">{"".join(lines)}</g>'


def _columns(seed: bytes) -> str:
    return (
        f'<path d="M0 0h{70 + seed[8] % 30}c10 120-30 240 6 400H0z" fill="#000" opacity=".3"/>'
        '<rect x="262" width="34" height="400" fill="#fff" opacity=".1"/>'
    )


def _weave(seed: bytes) -> str:
    rows = (
        f'<path d="M-10 {y}l20-16 20 16 20-16 20 16 20-16 20 16 20-16 20 16 20-16 20 16 20-16 20 16 20-16 20'
        ' 16 20-16 20 16 20-16"'
        f' stroke="hsl({(seed[8] + y) % 360} 70% 80%)"/>'
        for y in range(30, 300, 46)
    )
    return f'<g fill="none" stroke-width="5" opacity=".4">{"".join(rows)}</g>'


_SCENES = {
    "headshot": _windows,
    "profession": _windows,
    "season": _dots,
    "film": _dots,
    "art": _strokes,
    "period": _columns,
    "regional dress": _weave,
}
_FRONTS = {
    "film": '<path d="M0 0h320v34H0zM0 366h320v34H0z" fill="#000" opacity=".88"/>',
    "period": '<rect x="9" y="9" width="302" height="382" rx="4" fill="none" stroke="#c9a15a" stroke-width="12"/>',
    "id photo": (
        '<path d="M14 54V14h40M266 14h40v40M306 346v40h-40M54 386H14v-40" fill="none" stroke="#0f766e"'
        ' stroke-width="5"/>'
    ),
    "profession": '<path d="M138 268l22 40 22-40 14 6-24 126h-24l-24-126z" fill="#fff" opacity=".5"/>',
    "headshot": '<path d="M136 266l24 34 24-34 12 5-26 60h-20l-26-60z" fill="#fff" opacity=".9"/>',
}
