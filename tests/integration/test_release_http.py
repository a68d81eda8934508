"""The repository over HTTP: a client that follows it, and who may read it."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from certificates import certificate
from processes import Worker, environment
from release_kit import Installation, install
from waiting import PATIENCE_SECONDS, eventually

from redistill.streams.client.fetch import Repository
from redistill.streams.client.model import ModelClient
from redistill.streams.errors import AddressError, ReleaseError
from redistill.workers.errors import SettingsError
from redistill.workers.settings.settings import Settings
from redistill.workers.store import opening
from redistill.workers.web import app as web

TOKEN = "a-long-secret-of-32-letters-or-more"
ROW = {"income": 1.0, "age": 2.0, "region": "US"}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """As a real home: migrated database, keys, one published model."""
    folder = tmp_path_factory.mktemp("shop")
    settings = Settings.load({"home": folder / "home"})
    opening.open(settings).dispose()
    inst = install(settings.root, settings.database_url, clock=time.time)
    inst.register("credit")
    inst.add("credit", "v1", 1, "baseline")
    inst.add("credit", "v2", 2)
    inst.publish("credit", "v1")
    yield inst
    inst.database.dispose()


@pytest.fixture
def serve(shop: Installation) -> Iterator[Callable[..., str]]:
    """Runs the application on a free loopback port; returns its address."""
    running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def start(**settings: Any) -> str:
        loaded = Settings.load({"home": shop.layout.home, **settings})
        listening = web._listen("127.0.0.1", 0)
        config = uvicorn.Config(
            web.create_app(loaded, shop.database), log_config=None, lifespan="off",
            ssl_certfile=loaded.web_tls_cert and str(loaded.web_tls_cert),
            ssl_keyfile=loaded.web_tls_key and str(loaded.web_tls_key),
        )  # fmt: skip
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        running.append((server, thread))
        eventually(lambda: server.started, "the server listens", every=0.01)
        scheme = "https" if loaded.web_tls_cert else "http"
        return f"{scheme}://127.0.0.1:{listening.getsockname()[1]}"

    yield start
    for server, thread in running:
        server.should_exit = True
        thread.join(PATIENCE_SECONDS)


def client(shop: Installation, address: str, cache: Path, **more: Any) -> ModelClient:
    return ModelClient(
        "credit", repository=address, trust=shop.trust, cache=cache, poll_s=3_600, **more
    )


def test_client_follows_the_repository_over_http_with_a_token(
    shop: Installation, serve: Callable[..., str], tmp_path: Path
) -> None:
    address = serve(web_token=TOKEN)
    with client(shop, address, tmp_path / "cache", token=TOKEN) as model:
        assert model.version == "v1"
        first = model.sha256
        shop.publish("credit", "v2")
        assert model.refresh() is True
        assert model.predict(ROW).version == "v2"
        shop.rollback("credit")
        assert model.refresh() is True
        assert (model.version, model.sha256) == ("v1", first)


@pytest.mark.parametrize("token", [None, "wrong", TOKEN + "x"])
def test_without_the_token_nothing_is_read_and_the_client_says_why(
    shop: Installation, serve: Callable[..., str], tmp_path: Path, token: str | None
) -> None:
    address = serve(web_token=TOKEN)
    with pytest.raises(ReleaseError, match="401; give ModelClient the repository's token"):
        client(shop, address, tmp_path / "cache", token=token)


def test_tls_with_a_private_ca_is_verified(
    shop: Installation, serve: Callable[..., str], tmp_path: Path
) -> None:
    cert, key = certificate(tmp_path)
    address = serve(web_token=TOKEN, web_tls_cert=cert, web_tls_key=key)
    seen = Repository(address, shop.trust, cache=tmp_path / "a", token=TOKEN, ca=str(cert))
    assert seen.pointer("credit").model == "credit"
    seen.close()
    stranger = Repository(address, shop.trust, cache=tmp_path / "b", token=TOKEN)
    with pytest.raises(ReleaseError, match=r"(?i)certificate"):
        stranger.pointer("credit")
    stranger.close()


def test_server_that_is_away_is_told(shop: Installation, tmp_path: Path) -> None:
    listening = web._listen("127.0.0.1", 0)
    port = listening.getsockname()[1]
    listening.close()
    with pytest.raises(ReleaseError, match="cannot be read"):
        client(shop, f"http://127.0.0.1:{port}", tmp_path / "cache")


@pytest.mark.parametrize(
    "path",
    [
        "/metadata/../../keys/models.pem",
        "/metadata/%2e%2e%2f%2e%2e%2fkeys%2fmodels.pem",
        "/metadata/models.pem",
        "/metadata/.hidden.json",
        "/metadata/1.root.json/x",
        "/targets/..%2f..%2fkeys/models.pem",
        "/targets/credit/../../keys/models.pem",
        "/targets/credit/" + "0" * 64 + ".onnx",
        "/targets/credit/model.onnx",
        "/targets/../private/credit/x",
        "/private/credit",
        "/keys/root.json",
        "/docs",
        "/openapi.json",
        "/",
    ],
)
def test_nothing_but_names_of_the_repository_is_found(serve: Callable[..., str], path: str) -> None:
    answer = httpx.get(serve() + path, follow_redirects=False)
    assert answer.status_code == 404
    assert set(answer.json()["error"]) == {"code", "message"}


def test_links_are_not_followed(shop: Installation, serve: Callable[..., str]) -> None:
    link = shop.layout.targets / "credit" / ("d" * 64 + ".pem")
    link.symlink_to(shop.layout.keys / "models.pem")
    try:
        assert httpx.get(f"{serve()}/targets/credit/{link.name}").status_code == 404
    finally:
        link.unlink()


def test_files_are_cached_for_ever_and_the_timestamp_is_asked_for(
    shop: Installation, serve: Callable[..., str]
) -> None:
    address = serve()
    stamp = httpx.get(f"{address}/metadata/timestamp.json")
    assert stamp.headers["cache-control"] == "no-cache"
    same = httpx.get(
        f"{address}/metadata/timestamp.json", headers={"If-None-Match": stamp.headers["etag"]}
    )
    assert (same.status_code, same.content) == (304, b"")
    assert "immutable" in httpx.get(f"{address}/metadata/1.root.json").headers["cache-control"]
    name = next((shop.layout.targets / "credit").glob("*.onnx")).name
    file = httpx.get(f"{address}/targets/credit/{name}")
    assert file.content == (shop.layout.targets / "credit" / name).read_bytes()
    assert file.headers["etag"] == f'"{name}"'
    assert file.headers["x-content-type-options"] == "nosniff"
    again = httpx.get(f"{address}/targets/credit/{name}", headers={"If-None-Match": f'"{name}"'})
    assert again.status_code == 304
    assert httpx.post(f"{address}/metadata/1.root.json").status_code == 405


def test_health_needs_no_token_and_tells_what_is_wrong(
    shop: Installation, serve: Callable[..., str]
) -> None:
    address = serve(web_token=TOKEN)
    assert httpx.get(f"{address}/health/live").json() == {"status": "live"}
    ready = httpx.get(f"{address}/health/ready")
    assert (ready.status_code, ready.json()["problems"]) == (200, [])
    stamp = shop.layout.metadata / "timestamp.json"
    away = stamp.rename(shop.layout.home / "away.json")
    try:
        broken = httpx.get(f"{address}/health/ready")
        assert broken.status_code == 503
        assert "timestamp.json" in broken.json()["problems"][0]
    finally:
        away.rename(stamp)


def test_metrics_tell_epochs_answers_and_need_the_token(
    shop: Installation, serve: Callable[..., str]
) -> None:
    address = serve(web_token=TOKEN, namespace="staging")
    assert httpx.get(f"{address}/metrics").status_code == 401
    text = httpx.get(f"{address}/metrics", headers={"Authorization": f"bearer {TOKEN}"}).text
    assert 'staging_redistill_pointer_epoch{model="credit"}' in text
    assert "staging_redistill_up 1.0" in text
    assert 'staging_redistill_web_requests_total{area="metrics",status="401"} 1.0' in text
    assert TOKEN not in text


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({}, "REDISTILL_WEB_TOKEN is not set; and neither REDISTILL_WEB_TLS_CERT"),
        ({"web_token": TOKEN}, "REDISTILL_WEB_ALLOW_INSECURE=1"),
        ({"web_allow_insecure": True}, "REDISTILL_WEB_TOKEN is not set"),
    ],
)
def test_off_loopback_it_refuses_to_listen_unprotected(
    shop: Installation, settings: dict[str, Any], why: str
) -> None:
    loaded = Settings.load({"home": shop.layout.home, **settings})
    with pytest.raises(SettingsError, match=why):
        web.serve(loaded, shop.database, host="0.0.0.0", port=0)


def test_port_that_is_taken_is_told(shop: Installation) -> None:
    with web._listen("127.0.0.1", 0) as taken:
        loaded = Settings.load({"home": shop.layout.home})
        with pytest.raises(AddressError, match=r"cannot listen on 127\.0\.0\.1"):
            web.serve(loaded, shop.database, port=taken.getsockname()[1])


def test_run_web_serves_and_stops_on_sigterm(shop: Installation, tmp_path: Path) -> None:
    env = environment(home=str(shop.layout.home), web_port="0")
    worker = Worker("web", ["run", "web"], env, tmp_path).start()

    def address() -> str | None:
        for word in worker.tail().split():
            if "http://127.0.0.1:" in word:
                return word[word.index("http://") :].strip("'\",")
        assert worker.alive, worker.tail()
        return None

    try:
        found = str(eventually(address, "run web says where it listens"))
        assert httpx.get(f"{found}/health/live").status_code == 200
    finally:
        assert worker.process is not None
        worker.process.send_signal(signal.SIGTERM)
        try:
            status = worker.process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            worker.kill()
            raise
    assert status == 0, worker.tail()
