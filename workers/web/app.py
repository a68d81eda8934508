"""Web process: the signed repository over HTTP, health, metrics. It never loads torch or faust.

Only names of the repository's own form are looked up, so that no path of a client's reaches the
file system. What is served needs no secrecy for its integrity (clients verify signatures), but the
models do: off loopback a bearer token is needed.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import os
import re
import signal
import socket
import stat
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException

from redistill.streams.errors import AddressError
from redistill.streams.store.database import Database
from redistill.workers.errors import SettingsError
from redistill.workers.releases.release_files import RepositoryLayout
from redistill.workers.settings.settings import Settings
from redistill.workers.settings.values import is_loopback
from redistill.workers.web.connection import Connection
from redistill.workers.web.guard import Guard, problem
from redistill.workers.web.limits import Limits, raise_descriptors
from redistill.workers.web.listener import Listener
from redistill.workers.web.metrics import WebMetrics
from redistill.workers.web.places import Places
from redistill.workers.web.presence import WebPresence
from redistill.workers.web.readiness import Readiness
from redistill.workers.web.shared_call import SharedCall

__all__ = ["FOR_EVER", "check_exposure", "create_app", "serve"]

log = structlog.get_logger(__name__)

METADATA = re.compile(
    r"(?:\d{1,18}\.)?(?:root|targets|snapshot|timestamp|m-[a-z0-9][a-z0-9._-]{0,79})\.json"
)
TARGET = re.compile(r"[0-9a-f]{64}\.[A-Za-z0-9]{1,20}(?:\.json)?")
MODEL = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}")
BACKLOG = 2_048
"""Connections that wait to be taken in: what is beyond comes again after a second."""
FOR_EVER = "private, max-age=31536000, immutable"
"""For what never changes under its name: versioned metadata, files named by their hash."""

KEPT_SECONDS = 1.0
"""How long a scrape is told again: nobody makes the database work by scraping all the time."""
SCRAPE_SECONDS = 5.0
"""How long a scrape waits for the database; Prometheus gives up after ten."""


def create_app(settings: Settings, database: Database, limits: Limits | None = None) -> FastAPI:
    """The application.

    Parameters
    ----------
    settings
        ``web_token`` protects everything but health; ``root`` holds the repository.
    database
        For readiness and metrics.
    limits
        Of downloads and wrong tokens; ``None``: as they are.

    Returns
    -------
    fastapi.FastAPI
        ``GET`` and ``HEAD`` of ``/metadata/NAME``, ``/targets/MODEL/NAME``, ``/health/live``,
        ``/health/ready``, ``/metrics``. Errors are ``{"error": {"code", "message"}}``.
    """
    layout = RepositoryLayout(settings.root)
    metrics = WebMetrics(database, settings.namespace, most_models=settings.metrics_models)
    readiness = Readiness(database, layout)
    scrapes = SharedCall(lambda: generate_latest(metrics.registry), keep_seconds=KEPT_SECONDS)
    token = settings.web_token.get_secret_value() if settings.web_token is not None else None
    app = FastAPI(title="redistill", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(
        Guard,
        token=token,
        limits=Limits() if limits is None else limits,
        answered=lambda area, status: metrics.requests.labels(area, str(status)).inc(),
    )

    @app.exception_handler(HTTPException)
    async def failed(_: Request, error: HTTPException) -> Response:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "error")
        return problem(error.status_code, code, str(error.detail), error.headers)

    @app.exception_handler(Exception)
    async def broken(_: Request, __: Exception) -> Response:
        return problem(500, "internal", "the request failed; the log of the web process says why")

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
        info = _plain(path) if MODEL.fullmatch(model) and TARGET.fullmatch(name) else None
        if info is None:
            raise HTTPException(404, "there is no such file in the repository")
        tag = f'"{name}"'
        headers = {"ETag": tag, "Cache-Control": FOR_EVER}
        if _matches(request, tag):
            return Response(status_code=304, headers=headers)
        kind = "application/octet-stream"
        return FileResponse(path, media_type=kind, headers=headers, stat_result=info)

    @app.api_route("/health/live", methods=["GET", "HEAD"])
    async def live() -> dict[str, str]:
        return {"status": "live"}

    @app.api_route("/health/ready", methods=["GET", "HEAD"])
    async def ready() -> Response:
        problems = await readiness.problems()
        status = "ready" if not problems else "not ready"
        body = {"status": status, "problems": problems}
        return JSONResponse(body, status_code=503 if problems else 200)

    @app.get("/metrics")
    async def scrape() -> Response:
        try:
            text = await scrapes.answer(within=SCRAPE_SECONDS)
        except TimeoutError:
            raise HTTPException(503, "the database has not answered in time") from None
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    return app


def serve(
    settings: Settings,
    database: Database,
    *,
    host: str | None = None,
    port: int | None = None,
    limits: Limits | None = None,
    started: Callable[[str], None] | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT.

    Parameters
    ----------
    host, port
        In place of the settings' own; port 0 takes a free one.
    limits
        Of connections; ``None``: what the descriptors of this process allow.
    started
        Called with the address when connections are accepted.

    Returns
    -------
    int
        Exit status: 0 stopped.

    Raises
    ------
    SettingsError
        It would listen off loopback without a token or without TLS.
    AddressError
        The address is taken, or not ours.
    """
    host = settings.web_host if host is None else host
    port = settings.web_port if port is None else port
    check_exposure(settings, host)
    listening = _listen(host, port)
    scheme = "http" if settings.web_tls_cert is None else "https"
    shown = f"[{host}]" if ":" in host else host
    address = f"{scheme}://{shown}:{listening.getsockname()[1]}"
    if limits is None:
        limits = Limits.of(raise_descriptors(), per_peer=settings.web_connections_per_peer)
    config = uvicorn.Config(
        create_app(settings, database, limits),
        http=Connection,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # a peer is who connects: what a header says, anybody can write
        lifespan="off",
        ssl_certfile=None if settings.web_tls_cert is None else str(settings.web_tls_cert),
        ssl_keyfile=None if settings.web_tls_key is None else str(settings.web_tls_key),
        timeout_keep_alive=math.ceil(limits.idle_seconds),
        timeout_graceful_shutdown=5,
    )
    server = _Server(config, Places(limits), lambda: _say(address, started))
    presence = WebPresence(
        database,
        f"{settings.instance}:{uuid.uuid4().hex[:8]}",
        Readiness(database, RepositoryLayout(settings.root)).look,
    )
    presence.start()
    try:
        with listening:
            asyncio.run(server.serve(sockets=[listening]))
    finally:
        presence.stop()
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
    """Takes connections in by a listener of ours, tells when it does, and ends with status 0 on a
    signal: it was asked to."""

    def __init__(self, config: uvicorn.Config, places: Places, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._places = places
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        state, places = self.server_state, self._places
        self.servers: list[Any] = [
            Listener(listening, self.config, state, places) for listening in sockets or ()
        ]
        self.started = True
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
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise AddressError(host, port, error, do="choose another --port") from error


def _plain(path: Path) -> os.stat_result | None:
    """What a file is like; ``None``: there is none, or it is a link or no file."""
    try:
        info = path.lstat()
    except (OSError, ValueError):
        return None
    return info if stat.S_ISREG(info.st_mode) else None


def _read(path: Path) -> bytes:
    if _plain(path) is None:
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
