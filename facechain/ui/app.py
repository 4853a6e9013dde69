"""The pages, one a language, mounted on a server."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

# Before gradio is imported: it would ask its maker's server for news otherwise.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import gradio as gr
from fastapi import FastAPI, Request
from gradio import themes
from starlette.routing import Mount

from facechain.ui import archives, endpoints, login, pictures
from facechain.ui.desk import OPEN, Desk, Shop
from facechain.ui.gradio_guard import Claims, GuardedBlocks, GuardedMount
from facechain.ui.html import board, esc, go, notice
from facechain.ui.phrases import Words
from facechain.ui.sessions import OWNER, Gate, Mode, Sessions
from facechain.ui.tabs import TABS, models
from facechain.ui.watch import Watch

_HERE = Path(__file__).parent
PATHS = {"zh": "/zh", "en": "/"}  # the longer path first, or "/" would take both


def mount(app: FastAPI, sessions: Sessions) -> FastAPI:
    """Adds the browser app to the server of `facechain.api`."""
    app.include_router(pictures.router)
    app.include_router(archives.router)
    app.include_router(login.router(sessions))
    claims = Claims()
    for language, path in PATHS.items():
        w = Words(language=language)
        gr.mount_gradio_app(
            app,
            page(w, sessions),
            path,
            auth_dependency=_owner,
            css_paths=[_HERE / "app.css"],
            head=f"<script>{(_HERE / 'board.js').read_text('utf-8')}</script><style>{_titles(w)}</style>",
            theme=_theme(),
            footer_links=[],
            run_history=False,
            ssr_mode=False,
            enable_monitoring=False,
            mcp_server=False,
            pwa=False,
            max_file_size=1,  # pictures come in by `pictures`, checked as they arrive
            favicon_path=str(_HERE / "favicon.svg") if path == "/" else None,
        )
        mounted = app.router.routes[-1]
        assert isinstance(mounted, Mount)
        app.router.routes[-1] = GuardedMount(mounted, claims)
    app.add_middleware(Gate, sessions=sessions)
    return app


def page(w: Words, sessions: Sessions) -> gr.Blocks:
    with GuardedBlocks(title="FaceChain", analytics_enabled=False) as blocks:
        safe_only = gr.Checkbox(
            label=w("models.safe"), info=w("models.safe.help"), value=False, render=False, elem_id="models-safe"
        )
        shop = Shop(w=w, watch=Watch(), blocks=blocks, safe_only=safe_only)
        head = board("head")
        shop.watch.add(head, partial(_head, sessions), kinds=("fetch",), sign=Desk.stuck)
        with gr.Tabs(elem_id="tabs"):
            for id, build in TABS.items():
                with gr.Tab(w(f"tab.{id}"), id=id, elem_id=f"tab-{id}"):
                    build(shop)
        shop.watch.wire(shop)
        if w.language == "en":
            endpoints.add(shop)
    return blocks


def _owner(request: Request) -> str | None:
    """As the session gate has found."""
    return request.scope.get(OWNER)


def _head(sessions: Sessions, desk: Desk) -> str:
    w = desk.w
    if sessions.mode is Mode.LOCAL:
        who = esc(w("app.local"))
    elif sessions.mode is Mode.GUESTS:
        who = esc(w("app.guest"))
    else:
        out = f'<a class="btn small quiet" href="/logout">{esc(w("app.log_out"))}</a>'
        who = f"{esc(w('app.user', name=desk.owner))} {out}"
    other, path, name = ("zh", "/zh/", "中文") if w.language == "en" else ("en", "/", "English")
    stuck = notice(w("app.no_worker"), "warn") if desk.stuck() else ""
    fetching = any(job.state in OPEN for job in desk.recent("fetch"))
    if missing := () if fetching else models.needed(desk):
        fetch = go(w("tab.models"), w("app.fetch"))
        stuck += f'<div class="notice warn line">{esc(w("models.core_missing", count=len(missing)))} {fetch}</div>'
    return (
        f'<header class="head"><div><h1>FaceChain</h1><p>{esc(w("app.tagline"))}</p></div>'
        f'<div class="head-side"><span class="muted">{who}</span>'
        f'<a class="btn small quiet" href="{path}" lang="{other}" hreflang="{other}">{name}</a></div></header>{stuck}'
    )


def _titles(w: Words) -> str:
    """Gradio heads what pops up with the English names of its kinds; these rules put our words in their place."""
    said = {"error": w("error.title"), "warning": w("people.refused"), "info": w("app.info")}
    return "".join(f'.toast-title.{kind}::before {{ content: "{text}"; }}' for kind, text in said.items())


def _theme() -> themes.Base:
    """System fonts only: no page of ours asks anybody for one."""
    plain = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "Noto Sans CJK SC", "sans-serif"]
    return themes.Base(
        primary_hue=themes.colors.teal,
        neutral_hue=themes.colors.slate,
        font=plain,
        font_mono=["ui-monospace", "Menlo", "Consolas", "monospace"],
        radius_size=themes.sizes.radius_md,
    ).set(
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_600",
        # The small print of fields, dark enough to be read.
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_400",
        input_placeholder_color="*neutral_600",
        input_placeholder_color_dark="*neutral_300",
    )
