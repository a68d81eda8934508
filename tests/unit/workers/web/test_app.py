"""Web process: which paths it answers, to whom, and when it says that it is ready."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import loop
import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from loop import NOW

from redistill.streams.errors import AddressError
from redistill.streams.store.database import Database, connect
from redistill.workers.errors import SettingsError
from redistill.workers.releases import roles
from redistill.workers.releases.release_files import RepositoryLayout
from redistill.workers.releases.roles import Lifetimes
from redistill.workers.settings.settings import Settings
from redistill.workers.store import opening
from redistill.workers.web import app as web

TOKEN = "a-long-secret-of-32-letters-or-more"
GRAPH = "a" * 64 + ".onnx"


class Client:
    """Asks an application without a socket."""

    def __init__(self, app: FastAPI) -> None:
        self._transport = httpx.ASGITransport(app=app)

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        async def answer() -> httpx.Response:
            address = "http://repository"
            async with httpx.AsyncClient(transport=self._transport, base_url=address) as client:
                return await client.request(method, path, **options)

        return asyncio.run(answer())

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.ask("GET", path, **options)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """All tables, with the revision of this program."""
    database = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    with database.begin() as conn:
        conn.execute(sa.text("CREATE TABLE alembic_version (version_num TEXT)"))
        conn.execute(sa.text("INSERT INTO alembic_version VALUES (:v)"), {"v": opening.HEAD})
    yield database
    database.dispose()


@pytest.fixture
def layout(tmp_path: Path) -> RepositoryLayout:
    """A repository of two metadata files and a graph."""
    layout = RepositoryLayout(Settings.load({"home": tmp_path}).root)
    layout.metadata.mkdir(parents=True)
    (layout.targets / "credit").mkdir(parents=True)
    (layout.metadata / "timestamp.json").write_text('{"version": 7}')
    (layout.metadata / "1.root.json").write_text("{}")
    (layout.targets / "credit" / GRAPH).write_bytes(b"graph")
    return layout


@pytest.fixture
def client_of(layout: RepositoryLayout, tmp_path: Path) -> Iterator[Callable[..., Client]]:
    """Clients of applications; there are tables where a test asks for ``database``, too."""
    reader = connect(f"sqlite:///{tmp_path / 'redistill.db'}")

    def client(**settings: Any) -> Client:
        return Client(web.create_app(Settings.load({"home": tmp_path, **settings}), reader))

    yield client
    reader.dispose()


def publish(database: Database, now: int) -> None:
    with database.begin() as conn:
        roles.ensure(conn, b'{"signed": {"version": 1}}', now=now, lifetimes=Lifetimes())


@pytest.mark.parametrize(
    ("path", "content"),
    [("/metadata/timestamp.json", b'{"version": 7}'), (f"/targets/credit/{GRAPH}", b"graph")],
)
def test_files_of_the_repository_are_answered(
    client_of: Callable[..., Client], path: str, content: bytes
) -> None:
    client = client_of()
    assert client.get(path).content == content
    asked = client.ask("HEAD", path)
    assert (asked.status_code, asked.content) == (200, b"")


@pytest.mark.parametrize(
    ("path", "cache"),
    [
        ("/metadata/timestamp.json", "no-cache"),
        ("/metadata/1.root.json", web.FOR_EVER),
        (f"/targets/credit/{GRAPH}", web.FOR_EVER),
    ],
)
def test_what_changes_under_its_name_is_asked_for_again(
    client_of: Callable[..., Client], path: str, cache: str
) -> None:
    client = client_of()
    first = client.get(path)
    assert first.headers["cache-control"] == cache
    tag = first.headers["etag"]
    for known in (tag, f'"old", {tag}', "*"):
        assert client.get(path, headers={"If-None-Match": known}).status_code == 304
    assert client.get(path, headers={"If-None-Match": '"old"'}).status_code == 200


def test_a_tag_of_metadata_is_the_hash_of_its_bytes(
    client_of: Callable[..., Client], layout: RepositoryLayout
) -> None:
    client = client_of()
    before = client.get("/metadata/timestamp.json").headers["etag"]
    assert before.strip('"') == hashlib.sha256(b'{"version": 7}').hexdigest()
    (layout.metadata / "timestamp.json").write_text('{"version": 8}')
    assert client.get("/metadata/timestamp.json").headers["etag"] != before


@pytest.mark.parametrize(
    "path",
    [
        "/metadata/snapshot.json",  # a good name, but no file
        "/metadata/keys.json",
        "/metadata/..%2f..%2fredistill.db",
        "/targets/Credit/" + GRAPH,
        "/targets/credit/" + "b" * 64 + ".onnx",
        "/targets/credit/model.onnx",
        "/targets/..%2fcredit/" + GRAPH,
        "/docs",
        "/openapi.json",
        "/",
    ],
)
def test_any_other_path_is_not_found(client_of: Callable[..., Client], path: str) -> None:
    answer = client_of().get(path)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"


def test_links_lead_nowhere(
    client_of: Callable[..., Client], layout: RepositoryLayout, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("{}")
    (layout.metadata / "2.root.json").symlink_to(tmp_path / "secret")
    (layout.targets / "credit" / ("c" * 64 + ".pem")).symlink_to(tmp_path / "secret")
    client = client_of()
    assert client.get("/metadata/2.root.json").status_code == 404
    assert client.get(f"/targets/credit/{'c' * 64}.pem").status_code == 404


def test_nothing_can_be_written(client_of: Callable[..., Client]) -> None:
    answer = client_of().ask("PUT", "/metadata/1.root.json", content=b"{}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (None, 401),
        (f"Bearer {TOKEN}", 200),
        (f"bearer  {TOKEN} ", 200),
        (f"Bearer {TOKEN}x", 401),
        (f"Bearer {TOKEN[:-1]}", 401),
        (f"Basic {TOKEN}", 401),
        (TOKEN, 401),
        ("Bearer ", 401),
    ],
)
@pytest.mark.parametrize("path", ["/metadata/timestamp.json", "/metrics"])
def test_only_the_token_opens_the_repository_and_the_metrics(
    client_of: Callable[..., Client], path: str, header: str | None, status: int
) -> None:
    headers = {} if header is None else {"Authorization": header}
    answer = client_of(web_token=TOKEN).get(path, headers=headers)
    assert answer.status_code == status
    assert answer.headers["x-content-type-options"] == "nosniff"
    if status == 401:
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["error"]["code"] == "unauthorized"


def test_health_needs_no_token(client_of: Callable[..., Client], database: Database) -> None:
    client = client_of(web_token=TOKEN)
    assert client.get("/health/live").json() == {"status": "live"}
    assert client.get("/health/ready").json() == {"status": "ready", "problems": []}


def problems_of(client: Client) -> list[str]:
    answer = client.get("/health/ready")
    problems: list[str] = answer.json()["problems"]
    assert answer.status_code == (503 if problems else 200)
    return problems


def test_it_is_not_ready_while_what_was_published_is_not_in_its_folder(
    client_of: Callable[..., Client], database: Database, layout: RepositoryLayout
) -> None:
    (layout.metadata / "timestamp.json").unlink()
    client = client_of()
    assert problems_of(client) == []  # nothing was published yet
    publish(database, database.clock())
    (problem,) = problems_of(client)
    assert "holds no timestamp.json" in problem
    (layout.metadata / "timestamp.json").write_text("{}")
    assert problems_of(client) == []


def test_it_is_not_ready_after_the_metadata_expired(
    client_of: Callable[..., Client], database: Database
) -> None:
    publish(database, NOW // 2)  # long ago
    (problem,) = problems_of(client_of())
    assert problem.startswith("the signed metadata expired on ")


def test_it_is_not_ready_with_a_database_of_another_revision(
    client_of: Callable[..., Client], database: Database
) -> None:
    with database.begin() as conn:
        conn.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    (problem,) = problems_of(client_of())
    assert "is newer than this program" in problem


def test_answers_are_counted_by_area_and_status(client_of: Callable[..., Client]) -> None:
    client = client_of(namespace="staging")
    for path in ("/metadata/1.root.json", "/metadata/9.root.json", "/favicon.ico"):
        client.get(path)
    text = client.get("/metrics").text
    for area, status in (("metadata", 200), ("metadata", 404), ("other", 404)):
        line = f'staging_redistill_web_requests_total{{area="{area}",status="{status}"}} 1.0'
        assert line in text
    assert "favicon" not in text


@pytest.mark.parametrize(
    ("settings", "host", "said"),
    [
        ({}, "127.0.0.1", None),
        ({}, "::1", None),
        ({}, "0.0.0.0", "REDISTILL_WEB_TOKEN is not set; and neither"),
        ({"web_token": TOKEN}, "10.0.0.1", "neither REDISTILL_WEB_TLS_CERT"),
        ({"web_allow_insecure": True}, "10.0.0.1", "REDISTILL_WEB_TOKEN is not set"),
        ({"web_token": TOKEN, "web_allow_insecure": True}, "10.0.0.1", None),
    ],
)
def test_off_loopback_a_token_and_tls_are_needed(
    tmp_path: Path, settings: dict[str, Any], host: str, said: str | None
) -> None:
    loaded = Settings.load({"home": tmp_path, **settings})
    if said is None:
        web.check_exposure(loaded, host)
    else:
        with pytest.raises(SettingsError, match=said):
            web.check_exposure(loaded, host)


def test_an_address_that_is_taken_is_said(database: Database, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressError, match=f"cannot listen on 127.0.0.1:{port}"):
            web.serve(Settings.load({"home": tmp_path}), database, host="127.0.0.1", port=port)
