"""Signing in with a token, and out again."""

from __future__ import annotations

from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from facechain.ui.html import esc
from facechain.ui.phrases import Words
from facechain.ui.sessions import COOKIE, Sessions

_LONGEST = 4096  # bytes of the form

_STYLE = (
    "body{font-family:system-ui,sans-serif;display:grid;place-items:center;min-height:100vh;margin:0;background:#f1f5f9;"
    "color:#0f172a}form{background:#fff;padding:2rem;border-radius:14px;max-width:24rem;display:grid;gap:.8rem;"
    "box-shadow:0 10px 30px #0f172a1a}input,button{font:inherit;padding:.6rem .8rem;border-radius:8px;"
    "border:1px solid"
    " #94a3b8}button{background:#0f766e;color:#fff;border:0;cursor:pointer}h1{margin:0;font-size:1.3rem}"
    "p{margin:0}.bad{color:#b91c1c}@media(prefers-color-scheme:dark){body{background:#0b1220;color:#e2e8f0}"
    "form{background:#111c2e}input{background:#0b1220;color:inherit}.bad{color:#fca5a5}}"
)


def router(sessions: Sessions) -> APIRouter:
    routes = APIRouter(include_in_schema=False)

    @routes.get("/login")
    def ask(request: Request) -> Response:
        return _page(_words(request))

    @routes.post("/login")
    async def log_in(request: Request) -> Response:
        w = _words(request)
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > _LONGEST:
                return _page(w, w("login.wrong"), 413)
        token = parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0].strip()
        address = request.client.host if request.client else ""
        session = sessions.log_in(token, address)
        if session is None and sessions.too_many_tries(address):
            return _page(w, w("login.wait"), 429)
        if session is None:
            return _page(w, w("login.wrong"), 401)
        cookie = sessions.cookie(session, request.url.scheme)
        return RedirectResponse("/zh/" if w.language == "zh" else "/", 303, headers={"set-cookie": cookie})

    @routes.get("/logout")
    def log_out(request: Request) -> Response:
        sessions.log_out(request.cookies.get(COOKIE, ""))
        cookie = sessions.cookie("", request.url.scheme, age_s=0)
        return RedirectResponse("/login", 303, headers={"set-cookie": cookie})

    return routes


def _words(request: Request) -> Words:
    return Words(language="zh" if request.headers.get("accept-language", "").lower().startswith("zh") else "en")


def _page(w: Words, wrong: str = "", status: int = 200) -> Response:
    said = f'<p class="bad" role="alert">{esc(wrong)}</p>' if wrong else ""
    return HTMLResponse(
        f'<!doctype html><html lang="{w.language}"><meta charset="utf-8"><title>FaceChain</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>'
        f'<form method="post"><h1>FaceChain</h1><p>{esc(w("login.help"))}</p>{said}'
        f'<label>{esc(w("login.token"))}<br><input name="token" type="password" required autofocus '
        f'autocomplete="current-password" style="width:100%;box-sizing:border-box"></label>'
        f"<button>{esc(w('login.enter'))}</button></form></html>",
        status,
    )
