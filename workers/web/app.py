"""Web process: the signed repository over HTTP, health, metrics. It never loads torch or faust.

Only names of the repository's own form are looked up, so that no path of a client's reaches the
file system. What is served needs no secrecy for its integrity (clients verify signatures), but the
models do: off loopback a bearer token is needed.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException

from redistill.streams.errors import StreamsError
from redistill.streams.store.database import Database
from redistill.times import now_us, utc
from redistill.workers.errors import SettingsError, WorkersError
from redistill.workers.releases import roles
from redistill.workers.releases.release_files import RepositoryLayout
from redistill.workers.settings.settings import Settings, is_loopback
from redistill.workers.store import opening
from redistill.workers.web.metrics import WebMetrics

__all__ = ["FOR_EVER", "check_exposure", "create_app", "serve"]

log = structlog.get_logger(__name__)

METADATA = re.compile(
    r"(?:\d{1,18}\.)?(?:root|targets|snapshot|timestamp|m-[a-z0-9][a-z0-9._-]{0,79})\.json"
)
TARGET = re.compile(r"[0-9a-f]{64}\.[A-Za-z0-9]{1,20}(?:\.json)?")
MODEL = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}")
FOR_EVER = "private, max-age=31536000, immutable"
"""For what never changes under its name: versioned metadata, files named by their hash."""

KEEP_ALIVE_SECONDS = 65
"""Longer than a client's poll, so that its connection is reused."""


def create_app(settings: Settings, database: Database) -> FastAPI:
    """The application.

    Parameters
    ----------
    settings
        ``web_token`` protects everything but health; ``root`` holds the repository.
    database
        For readiness and metrics.

    Returns
    -------
    fastapi.FastAPI
        ``GET`` and ``HEAD`` of ``/metadata/NAME``, ``/targets/MODEL/NAME``, ``/health/live``,
        ``/health/ready``, ``/metrics``. Errors are ``{"error": {"code", "message"}}``.
    """
    layout = RepositoryLayout(settings.root)
    metrics = WebMetrics(database, settings.namespace)
    token = settings.web_token.get_secret_value() if settings.web_token is not None else None
    app = FastAPI(title="redistill", docs_url=None, redoc_url=None, openapi_url=None)

    @app.middleware("http")
    async def guarded(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        area = request.url.path.strip("/").partition("/")[0]
        if area != "health" and token is not None and not _authorized(request, token):
            answer: Response = _error(401, "unauthorized", "a bearer token is needed")
            answer.headers["WWW-Authenticate"] = "Bearer"
        else:
            answer = await call_next(request)
        known = area if area in ("metadata", "targets", "health", "metrics") else "other"
        metrics.requests.labels(known, str(answer.status_code)).inc()
        answer.headers["X-Content-Type-Options"] = "nosniff"
        return answer

    @app.exception_handler(HTTPException)
    async def failed(_: Request, error: HTTPException) -> Response:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "error")
        return _error(error.status_code, code, str(error.detail))

    @app.api_route("/metadata/{name}", methods=["GET", "HEAD"])
    def metadata(name: str, request: Request) -> Response:
        if not METADATA.fullmatch(name):
            raise HTTPException(404, "there is no such metadata file")
        data = _read(layout.metadata / name)
        fixed = name[0].isdigit()
        return _answer(request, data, FOR_EVER if fixed else "no-cache")

    @app.api_route("/targets/{model}/{name}", methods=["GET", "HEAD"])
    def target(model: str, name: str, request: Request) -> Response:
        path = layout.targets / model / name
        if not (MODEL.fullmatch(model) and TARGET.fullmatch(name)) or not _is_plain(path):
            raise HTTPException(404, "there is no such file in the repository")
        tag = f'"{name}"'
        headers = {"ETag": tag, "Cache-Control": FOR_EVER}
        if _matches(request, tag):
            return Response(status_code=304, headers=headers)
        return FileResponse(path, media_type="application/octet-stream", headers=headers)

    @app.api_route("/health/live", methods=["GET", "HEAD"])
    def live() -> dict[str, str]:
        return {"status": "live"}

    @app.api_route("/health/ready", methods=["GET", "HEAD"])
    def ready() -> Response:
        problems = _problems(database, layout)
        status = "ready" if not problems else "not ready"
        body = {"status": status, "problems": problems}
        return JSONResponse(body, status_code=503 if problems else 200)

    @app.get("/metrics")
    def scrape() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return app


def serve(
    settings: Settings,
    database: Database,
    *,
    host: str | None = None,
    port: int | None = None,
    started: Callable[[str], None] | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT.

    Parameters
    ----------
    host, port
        In place of the settings' own; port 0 takes a free one.
    started
        Called with the address when connections are accepted.

    Returns
    -------
    int
        Exit status: 0 stopped.

    Raises
    ------
    SettingsError
        It would listen off loopback without a token or without TLS, or the address is taken.
    """
    host = settings.web_host if host is None else host
    port = settings.web_port if port is None else port
    check_exposure(settings, host)
    listening = _listen(host, port)
    scheme = "http" if settings.web_tls_cert is None else "https"
    shown = f"[{host}]" if ":" in host else host
    address = f"{scheme}://{shown}:{listening.getsockname()[1]}"
    config = uvicorn.Config(
        create_app(settings, database),
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        ssl_certfile=None if settings.web_tls_cert is None else str(settings.web_tls_cert),
        ssl_keyfile=None if settings.web_tls_key is None else str(settings.web_tls_key),
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=5,
        limit_concurrency=500,
    )
    server = _Server(config, lambda: _say(address, started))
    with listening:
        asyncio.run(server.serve(sockets=[listening]))
    log.info("web_stopped", action="web_stopped", address=address)
    return 0


def check_exposure(settings: Settings, host: str) -> None:
    """Refuse to show models to everybody, or a token to the wire.

    Raises
    ------
    SettingsError
        Off loopback, a token is missing, or TLS is and nobody said that a proxy has it.
    """
    if is_loopback(host):
        return
    problems = []
    if settings.web_token is None:
        problems.append("REDISTILL_WEB_TOKEN is not set")
    if settings.web_tls_cert is None and not settings.web_allow_insecure:
        problems.append(
            "neither REDISTILL_WEB_TLS_CERT and REDISTILL_WEB_TLS_KEY are set nor "
            "REDISTILL_WEB_ALLOW_INSECURE=1 (behind a proxy that has TLS)"
        )
    if problems:
        raise SettingsError(f"{host} is not on loopback, and " + "; and ".join(problems))


class _Server(uvicorn.Server):
    """Tells when it accepts connections, and ends with status 0 on a signal: it was asked to."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield  # whoever runs it in a thread stops it by ``should_exit``
            return
        wanted = (signal.SIGTERM, signal.SIGINT)
        before = {sign: signal.signal(sign, self.handle_exit) for sign in wanted}
        try:
            yield
        finally:
            for sign, handler in before.items():
                signal.signal(sign, handler)


def _say(address: str, started: Callable[[str], None] | None) -> None:
    log.info("web_started", action="web_started", address=address)
    if started is not None:
        started(address)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        raise SettingsError(f"cannot listen on {host}:{port}: {error.strerror}") from error


def _authorized(request: Request, token: str) -> bool:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    # compared as hashes: neither the token's length nor a common start can be measured
    digests = (hashlib.sha256(text.encode()).digest() for text in (given.strip(), token))
    return hmac.compare_digest(*digests) and scheme.lower() == "bearer"


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _read(path: Path) -> bytes:
    if not _is_plain(path):
        raise HTTPException(404, "there is no such metadata file")
    try:
        return path.read_bytes()
    except OSError as error:
        raise HTTPException(404, "there is no such metadata file") from error


def _matches(request: Request, tag: str) -> bool:
    given = request.headers.get("if-none-match", "")
    return given.strip() == "*" or tag in (t.strip() for t in given.split(","))


def _answer(request: Request, data: bytes, cache: str) -> Response:
    tag = f'"{hashlib.sha256(data).hexdigest()}"'
    headers = {"ETag": tag, "Cache-Control": cache}
    if _matches(request, tag):
        return Response(status_code=304, headers=headers)
    return Response(data, media_type="application/json", headers=headers)


def _error(status: int, code: str, message: str) -> JSONResponse:
    return JSONResponse({"error": {"code": code, "message": message}}, status_code=status)


def _problems(database: Database, layout: RepositoryLayout) -> list[str]:
    """Why this process cannot do its work now; empty when it can."""
    try:
        with database.read() as conn:
            opening.check(opening.revision(conn), database)
            until: Any = roles.valid_until(conn)
    except (StreamsError, WorkersError) as error:
        return [str(error)]
    if until is None:
        return []  # nothing was published yet: an empty repository is a good one
    if not (layout.metadata / "timestamp.json").is_file():
        return [
            f"{layout.metadata} holds no timestamp.json: does the repair worker write elsewhere?"
        ]
    if until < now_us():
        when = utc(until)
        return [
            f"the signed metadata expired on {when:%Y-%m-%d %H:%M}Z: is a repair worker running?"
        ]
    return []
