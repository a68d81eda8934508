"""The client in a service: it follows the pointer, and nothing that fails takes it down."""

from __future__ import annotations

import multiprocessing
import os
import re
import resource
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from release_kit import SCHEMA, Installation, linear, rows
from small_disks import empty, fill, read_only, small_disk
from waiting import PATIENCE_SECONDS, eventually

from redistill.streams.client.fetch import Repository
from redistill.streams.client.model import ModelClient
from redistill.streams.client.release import FALLBACK
from redistill.streams.client.session import Session
from redistill.streams.errors import ReleaseError
from redistill.streams.wire.events import PointerMoved, VersionActivated

ROW = {"income": 1.0, "age": 2.0, "region": "US"}
NEVER = 3_600.0
"""A poll that does not come in a test."""


class FakeLogger:
    """The part of a PredictionLogger that a client uses."""

    def __init__(self) -> None:
        self.callbacks: dict[str, Callable[[PointerMoved], None]] = {}
        self.reported: list[VersionActivated] = []

    def on_pointer(self, model: str, callback: Callable[[PointerMoved], None]) -> None:
        self.callbacks[model] = callback

    def report(self, event: VersionActivated) -> None:
        self.reported.append(event)

    def announce(self, epoch: int, model: str = "credit") -> None:
        self.callbacks[model](
            PointerMoved(
                model=model,
                stable="whatever",
                stable_sha256="0" * 64,
                epoch=epoch,
                reason="",
                at=datetime.now(UTC),
            )
        )


@pytest.fixture
def connect(shop: Installation, tmp_path: Path) -> Iterator[Callable[..., ModelClient]]:
    """Makes clients of the shop, and closes them."""
    made: list[ModelClient] = []

    def make(**more: Any) -> ModelClient:
        options = {
            "repository": shop.layout.repository,
            "trust": shop.trust,
            "cache": tmp_path / "cache",
            "poll_s": NEVER,
        }
        made.append(ModelClient("credit", **{**options, **more}))
        return made[-1]

    yield make
    for client in made:
        client.close()


def expected(seed: int) -> list[float]:
    weights, bias = linear(seed)
    logits = SCHEMA.pack([ROW])[0] @ weights + bias
    powers = np.exp(logits - logits.max())
    return [float(x) for x in powers / powers.sum()]


def test_client_serves_what_the_pointer_names_and_follows_it(
    shop: Installation, connect: Callable[..., ModelClient]
) -> None:
    client = connect()
    out = client.predict(ROW)
    assert (out.version, out.model, out.features) == ("v1", "credit", ROW)
    assert out.scores == pytest.approx(expected(1), rel=1e-5)
    assert out.prediction == SCHEMA.classes[int(np.argmax(expected(1)))]
    assert out.latency_ms > 0
    moved = shop.publish("credit", "v2")
    assert client.refresh() is True
    assert (client.version, client.epoch) == ("v2", moved.epoch)
    assert client.predict(ROW).scores == pytest.approx(expected(2), rel=1e-5)
    assert client.refresh() is False
    assert client.last_error is None


def test_roll_back_serves_the_exact_bytes_before_without_loading_them_again(
    shop: Installation, connect: Callable[..., ModelClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect()
    before = client.sha256
    shop.publish("credit", "v2")
    client.refresh()
    monkeypatch.setattr(client._loader, "load", None)  # would raise
    moved = shop.rollback("credit")
    assert client.refresh() is True
    assert (client.version, client.epoch, client.sha256) == ("v1", moved.epoch, before)


def test_batch_answers_like_single_rows_and_by_one_version(
    connect: Callable[..., ModelClient],
) -> None:
    client = connect()
    some = [ROW, [2.0, 1.0, "EU"], {"income": None, "age": 3, "region": "MARS"}]
    batch = client.predict_batch(some)
    single = [client.predict(r) for r in some]
    assert [b.prediction for b in batch] == [s.prediction for s in single]
    for b, s in zip(batch, single, strict=True):
        assert b.scores == pytest.approx(s.scores, rel=1e-5)
    assert len(client.predict_batch(rows(SCHEMA, 7))) == 7
    assert client.predict_batch([]) == []
    assert batch[1].features == {"income": 2.0, "age": 1.0, "region": "EU"}  # as it is logged
    packed = client.predict(np.array([2.0, np.nan, 0.0]))
    assert packed.features["region"] == "EU"


def test_pointer_event_wakes_the_client_and_it_reports_what_it_activated(
    shop: Installation, connect: Callable[..., ModelClient]
) -> None:
    logger = FakeLogger()
    client = connect(log=logger)
    assert [(e.version, e.epoch, e.previous) for e in logger.reported] == [("v1", 1, None)]
    moved = shop.publish("credit", "v2")
    logger.announce(moved.epoch)
    eventually(lambda: client.version == "v2")
    eventually(lambda: len(logger.reported) == 2)
    last = logger.reported[-1]
    assert (last.version, last.epoch, last.previous) == ("v2", moved.epoch, "v1")
    assert last.sha256 == client.sha256


def test_event_of_a_forged_epoch_changes_nothing(
    connect: Callable[..., ModelClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redistill.streams.client.model.HURRY_SECONDS", (0.0, 0.01, 0.01))
    logger = FakeLogger()
    client = connect(log=logger)
    looks = []
    real = client.refresh
    monkeypatch.setattr(client, "refresh", lambda: looks.append(1) or real())
    logger.announce(1_000_000)
    eventually(lambda: client._wanted == 1)  # it has given up
    assert len(looks) == 3  # bounded
    assert (client.version, client.last_error) == ("v1", None)
    logger.announce(1)  # old news
    assert not client._poller._woken.is_set()


def test_poll_finds_a_new_pointer_without_any_event(
    shop: Installation, connect: Callable[..., ModelClient]
) -> None:
    client = connect(poll_s=0.05)
    shop.publish("credit", "v2")
    eventually(lambda: client.version == "v2")


def test_swap_under_concurrent_calls_fails_none_and_mixes_nothing(
    shop: Installation, connect: Callable[..., ModelClient]
) -> None:
    client = connect()
    wanted = {"v1": expected(1), "v2": expected(2)}
    stop, wrong, seen = threading.Event(), [], set()

    def ask() -> None:
        while not stop.is_set():
            try:
                out = client.predict(ROW)
                if out.scores != pytest.approx(wanted[out.version], rel=1e-4):
                    wrong.append(out)
                seen.add(out.version)
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for t in threads:
        t.start()
    for k in range(4):
        shop.publish("credit", "v2") if k % 2 == 0 else shop.rollback("credit")
        assert client.refresh()
        eventually(lambda: client.version in seen, "somebody was answered by it")
    stop.set()
    for t in threads:
        t.join()
    assert wrong == []
    assert seen == {"v1", "v2"}


# --- what fails ---------------------------------------------------------------------------------


def metadata_files(shop: Installation) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in shop.layout.metadata.iterdir()}


def test_replayed_repository_is_refused_and_what_serves_stays(
    shop: Installation, connect: Callable[..., ModelClient]
) -> None:
    old = metadata_files(shop)
    shop.publish("credit", "v2")
    client = connect()
    for name, data in old.items():
        (shop.layout.metadata / name).write_bytes(data)
    assert client.refresh() is False
    assert "BadVersionNumberError" in str(client.last_error)
    assert client.predict(ROW).version == "v2"


def test_repository_that_is_away_leaves_what_serves(
    shop: Installation, connect: Callable[..., ModelClient]
) -> None:
    client = connect()
    shop.layout.repository.rename(shop.layout.home / "away")
    assert client.refresh() is False
    assert "cannot be read" in str(client.last_error)
    assert client.predict(ROW).version == "v1"
    (shop.layout.home / "away").rename(shop.layout.repository)
    assert client.refresh() is False
    assert client.last_error is None


def test_restart_without_the_repository_serves_from_the_cache(
    shop: Installation, connect: Callable[..., ModelClient]
) -> None:
    shop.publish("credit", "v2")
    connect().close()
    shutil.rmtree(shop.layout.repository)
    again = connect()
    assert (again.version, again.epoch) == ("v2", 2)
    assert "cannot be read" in str(again.last_error)


def test_restart_with_a_damaged_cache_downloads_again(
    shop: Installation, connect: Callable[..., ModelClient]
) -> None:
    first = connect()
    first.close()
    for path in first._repository.cache.rglob("model.onnx"):
        path.write_bytes(b"rotten")
    assert connect().predict(ROW).scores == pytest.approx(expected(1), rel=1e-5)


def test_without_anything_to_serve_the_start_says_what_to_do(
    shop: Installation, tmp_path: Path
) -> None:
    with pytest.raises(ReleaseError, match="declare a fallback"):
        ModelClient(
            "credit", repository=tmp_path / "nowhere", trust=shop.trust, cache=tmp_path / "c"
        )
    with pytest.raises(ReleaseError, match="no release of a model named 'other'"):
        ModelClient("other", repository=shop.layout.repository, trust=shop.trust, cache=tmp_path)


@pytest.mark.parametrize("poll_s", [0, -1.0, float("nan"), float("inf")])
def test_a_poll_that_never_comes_is_refused(
    connect: Callable[..., ModelClient], poll_s: float
) -> None:
    with pytest.raises(ValueError, match="poll_s"):
        connect(poll_s=poll_s)


def test_relative_cache_is_where_the_process_stood(
    shop: Installation,
    connect: Callable[..., ModelClient],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    client = connect(cache="cache", repository=os.path.relpath(shop.layout.repository))
    assert (client.version, client.last_error) == ("v1", None)
    monkeypatch.chdir(tmp_path / "there")
    shop.publish("credit", "v2")
    assert client.refresh() is True
    assert (client.version, client.last_error) == ("v2", None)
    assert list((tmp_path / "there").iterdir()) == []
    assert [p.name for p in (tmp_path / "here").iterdir()] == ["cache"]


# --- downloads that go wrong --------------------------------------------------------------------


class Faulty(SimpleHTTPRequestHandler):
    """Serves the repository; what is asked for under ``targets`` suffers a fault."""

    def do_GET(self) -> None:
        fault = self.server.fault  # type: ignore[attr-defined]
        if fault is None or "/targets/" not in self.path or self.path.endswith(".json"):
            super().do_GET()
            return
        body = Path(self.translate_path(self.path)).read_bytes()
        self.send_response(500 if fault == "500" else 200)
        self.send_header("Content-Length", str(len(body) // 2 if fault == "short" else len(body)))
        self.end_headers()
        self.wfile.write(bytes(len(body)) if fault == "other bytes" else body[: len(body) // 2])
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def server(shop: Installation) -> Iterator[ThreadingHTTPServer]:
    made = ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Faulty, directory=str(shop.layout.repository))
    )
    made.fault = None  # type: ignore[attr-defined]
    made.daemon_threads = True
    made.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


@contextmanager
def no_space() -> Iterator[None]:
    """Files of more than a few bytes cannot be written: a full disk, as a process sees it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("fault", ["500", "cut off", "short", "other bytes", "full disk"])
def test_after_a_bad_download_the_next_look_tries_again(
    shop: Installation,
    connect: Callable[..., ModelClient],
    server: ThreadingHTTPServer,
    fault: str,
) -> None:
    client = connect(repository=f"http://127.0.0.1:{server.server_port}")
    shop.publish("credit", "v2")
    for _ in range(3):
        if fault == "full disk":
            with no_space():
                assert client.refresh() is False
        else:
            server.fault = fault  # type: ignore[attr-defined]
            assert client.refresh() is False
        assert client.last_error is not None
        assert client.predict(ROW).version == "v1"
    server.fault = None  # type: ignore[attr-defined]
    assert client.refresh() is True
    assert (client.version, client.last_error) == ("v2", None)
    assert client.predict(ROW).scores == pytest.approx(expected(2), rel=1e-5)
    assert not list(client._repository.cache.rglob(".new-*"))


def test_the_poll_tries_a_bad_download_again_by_itself(
    shop: Installation, connect: Callable[..., ModelClient], server: ThreadingHTTPServer
) -> None:
    client = connect(repository=f"http://127.0.0.1:{server.server_port}", poll_s=0.05)
    server.fault = "cut off"  # type: ignore[attr-defined]
    shop.publish("credit", "v2")
    eventually(lambda: client.last_error is not None)
    assert client.version == "v1"
    server.fault = None  # type: ignore[attr-defined]
    eventually(lambda: client.version == "v2")


# --- disks that are full ------------------------------------------------------------------------


def test_full_disk_leaves_what_serves_and_is_said_once_until_there_is_room(
    shop: Installation,
    connect: Callable[..., ModelClient],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        client = connect(cache=disk / "cache")
        shop.publish("credit", "v2")
        fill(disk)
        for _ in range(3):
            assert client.refresh() is False
            assert "No space left on device" in str(client.last_error)
        assert client.predict(ROW).version == "v1"
        assert [r.getMessage().count("No space left") for r in caplog.records] == [1]
        empty(disk)
        assert client.refresh() is True
        assert (client.version, client.last_error) == ("v2", None)


def test_rollback_reaches_a_service_whose_disk_is_full_and_is_noted_when_there_is_room(
    shop: Installation, connect: Callable[..., ModelClient], tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        client = connect(cache=disk / "cache")
        shop.publish("credit", "v2")
        assert client.refresh() is True
        fill(disk)
        shop.rollback("credit")
        assert client.refresh() is True
        assert client.version == "v1"
        assert "cannot be" in str(client.last_error)
        empty(disk)
        assert client.refresh() is False
        assert client.last_error is None
        shutil.rmtree(shop.layout.repository)
        assert connect(cache=disk / "cache").version == "v1", "it was noted"


@pytest.mark.parametrize("spoil", [fill, read_only])
def test_start_with_a_cache_that_cannot_be_written_serves_what_is_in_it(
    shop: Installation,
    connect: Callable[..., ModelClient],
    tmp_path: Path,
    spoil: Callable[[Path], None],
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        connect(cache=disk / "cache").close()
        spoil(disk)
        client = connect(cache=disk / "cache")
        assert client.predict(ROW).version == "v1"
        shop.publish("credit", "v2")
        assert client.refresh() is False
        assert client.predict(ROW).version == "v1"
        assert re.search(r"cache .* cannot be used: (No space|Read-only)", str(client.last_error))
        client.close()


def test_cache_that_was_removed_comes_back(
    shop: Installation, connect: Callable[..., ModelClient], tmp_path: Path
) -> None:
    client = connect()
    shutil.rmtree(tmp_path / "cache")
    shop.publish("credit", "v2")
    assert client.refresh() is True
    assert (client.version, client.last_error) == ("v2", None)


# --- fallback -----------------------------------------------------------------------------------


def test_fallback_that_is_a_known_release_serves_under_its_version(
    shop: Installation, connect: Callable[..., ModelClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.publish("credit", "v2")

    def refuse(folder: Path) -> None:
        raise ReleaseError("not here")

    monkeypatch.setattr("redistill.streams.client.loader.probe", refuse)
    client = connect(fallback=shop.layout.home / "candidates" / "credit-v1" / "model.onnx")
    assert (client.version, client.epoch, client.last_error) == ("v1", 0, "not here")
    assert client.predict(ROW).scores == pytest.approx(expected(1), rel=1e-5)


def test_unknown_fallback_serves_unmonitored_until_the_repository_is_back(
    shop: Installation, connect: Callable[..., ModelClient], tmp_path: Path
) -> None:
    shop.package("credit", "v7", 7)  # packaged, but never served: nobody knows it
    away = shop.layout.repository.rename(tmp_path / "away")
    logger = FakeLogger()
    fallback = shop.layout.home / "candidates" / "credit-v7" / "model.onnx"
    client = connect(fallback=fallback, log=logger)
    assert (client.version, client.epoch) == (FALLBACK, 0)
    out = client.predict([1.0, 2.0, 1.0])
    assert out.prediction in ("0", "1")  # a bare file knows no names
    assert client.predict({"a": 1.0, "b": 2.0, "c": 1.0}).scores == out.scores
    assert [e.version for e in logger.reported] == [FALLBACK]
    away.rename(shop.layout.repository)
    assert client.refresh() is True
    assert client.version == "v1"


def test_fallback_with_a_manifest_knows_names(
    shop: Installation, connect: Callable[..., ModelClient], tmp_path: Path
) -> None:
    release = Repository(shop.layout.repository, shop.trust, cache=tmp_path / "other")
    folder = release.release("credit", release.pointer("credit").manifest_sha256)
    shutil.rmtree(shop.layout.repository)
    client = connect(fallback=folder)
    assert client.version == FALLBACK
    assert client.predict(ROW).prediction in SCHEMA.classes


@pytest.mark.parametrize("content", [None, b"garbage"])
def test_fallback_that_cannot_be_used_is_told_at_the_start(
    shop: Installation, connect: Callable[..., ModelClient], tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "fallback.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ReleaseError, match=r"fallback\.onnx of credit cannot be used") as alone:
        connect(fallback=path)  # the repository is there: the fallback would be missed at night
    assert "no release could be loaded" not in str(alone.value)
    shutil.rmtree(shop.layout.repository)
    with pytest.raises(ReleaseError, match=r"fallback\.onnx of credit cannot be used") as both:
        connect(fallback=path, cache=tmp_path / "empty")
    assert re.search(r"no release could be loaded: .*cannot be read", str(both.value))


def test_fallback_that_works_is_opened_and_not_served_where_a_release_is(
    connect: Callable[..., ModelClient], shop: Installation
) -> None:
    logger = FakeLogger()
    file = shop.layout.home / "candidates" / "credit-v2" / "model.onnx"
    assert connect(fallback=file, log=logger).version == "v1"
    assert [e.version for e in logger.reported] == ["v1"]


# --- processes ----------------------------------------------------------------------------------


def _in_child(client: ModelClient, pipe: Any, go: Any) -> None:
    first = client.predict(ROW)
    pipe.send((os.getpid(), first.version, first.scores))
    go.wait(PATIENCE_SECONDS)
    eventually(lambda: client.version == "v2")
    pipe.send((os.getpid(), client.version, client.predict(ROW).scores))


def test_after_a_fork_the_child_answers_and_follows_by_itself(
    shop: Installation, connect: Callable[..., ModelClient]
) -> None:
    client = connect(poll_s=0.1)
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    go = context.Event()
    child = context.Process(target=_in_child, args=(client, theirs, go))
    child.start()
    assert ours.poll(PATIENCE_SECONDS)
    pid, version, scores = ours.recv()
    assert (pid, version) == (child.pid, "v1")
    assert scores == pytest.approx(expected(1), rel=1e-5)
    shop.publish("credit", "v2")
    go.set()
    assert ours.poll(PATIENCE_SECONDS)
    _, version, scores = ours.recv()
    assert version == "v2"
    assert scores == pytest.approx(expected(2), rel=1e-5)
    child.join(PATIENCE_SECONDS)
    assert child.exitcode == 0
    eventually(lambda: client.version == "v2")  # the parent goes on as well


@pytest.mark.parametrize("threads", [1, 3])
def test_child_follows_a_rollback_to_what_only_its_parent_had_loaded(
    shop: Installation, connect: Callable[..., ModelClient], threads: int
) -> None:
    """With several threads, a session of the parent's would never answer, or crash, here."""
    client = connect(threads=threads)
    shop.publish("credit", "v2")
    client.refresh()
    shop.rollback("credit")
    if (pid := os.fork()) == 0:
        swapped = client.refresh()
        first = (swapped, client.version, client.predict(ROW).scores)
        os._exit(first != (True, "v1", pytest.approx(expected(1), rel=1e-5)))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_closed_client_answers_in_a_child_and_follows_nothing(
    shop: Installation, connect: Callable[..., ModelClient]
) -> None:
    client = connect()
    client.close()
    shop.publish("credit", "v2")
    if (pid := os.fork()) == 0:
        served = client.predict(ROW).version
        client._poller.join()  # its thread answers before it ends
        os._exit((served, client._poller.alive) != ("v1", False))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.parametrize("fault", ["refused", "hangs"])
def test_child_that_cannot_load_what_its_parent_served_says_so(
    connect: Callable[..., ModelClient], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    client = connect()
    release = threading.Event()

    def reload(*_: object) -> None:
        if fault == "refused":
            raise ReleaseError("no memory")
        release.wait(PATIENCE_SECONDS)

    monkeypatch.setattr(Session, "reload", reload)
    if fault == "hangs":
        monkeypatch.setattr("redistill.streams.client.model.FORKED_SECONDS", 0.1)
    else:  # however slow the machine is, the refusal comes first
        monkeypatch.setattr("redistill.streams.client.model.FORKED_SECONDS", PATIENCE_SECONDS)
    if (pid := os.fork()) == 0:
        why = "no memory" if fault == "refused" else "not within"
        for ask in (partial(client.predict, ROW), lambda: client.version):
            try:
                ask()
            except ReleaseError as error:
                if why not in str(error):
                    os._exit(1)
        monkeypatch.undo()
        release.set()
        if fault == "refused":
            client.refresh()
            os._exit(client.version != "v1")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_processes_may_share_a_cache(
    shop: Installation, connect: Callable[..., ModelClient]
) -> None:
    clients = [connect() for _ in range(4)]
    shop.publish("credit", "v2")
    threads = [threading.Thread(target=c.refresh) for c in clients]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert [(c.version, c.last_error) for c in clients] == [("v2", None)] * 4


def test_forgotten_client_ends_its_thread(connect: Callable[..., ModelClient]) -> None:
    client = connect(poll_s=0.05)
    assert client._poller.alive
    client.close()
    assert not client._poller.alive
    assert client.predict(ROW).version == "v1"  # what serves goes on serving
