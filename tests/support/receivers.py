"""Receivers of alerts on loopback: HTTP(S) servers that record, fail, hang, redirect or never end;
an SMTP server; a PagerDuty that is only simulated.
"""

from __future__ import annotations

import json
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jsonschema

LOOPBACK = ["127.0.0.0/8", "::1/128"]
"""What a channel must allow to reach a receiver."""
LIMIT_BYTES = 512 * 1024


@dataclass(frozen=True)
class Request:
    """What came."""

    method: str
    path: str
    headers: dict[str, str]
    """By names in small letters."""
    body: bytes

    @property
    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.body)


class Talk:
    """The server's side of one request."""

    def __init__(self, handler: BaseHTTPRequestHandler, closing: threading.Event) -> None:
        self._handler = handler
        self.closing = closing

    @property
    def connection(self) -> socket.socket:
        """The connection itself."""
        return self._handler.connection

    def raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._handler.wfile.write(data)
        self._handler.wfile.flush()

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        """A usual answer; in names of headers ``_`` stands for ``-``."""
        self._handler.send_response(status)
        for name, value in headers.items():
            self._handler.send_header(name.replace("_", "-"), value)
        self._handler.send_header("Content-Length", str(len(body)))
        self._handler.end_headers()
        self._handler.wfile.write(body)


Behaviour = Callable[[Request, Talk], None]


def answers(status: int = 200, body: bytes = b"", **headers: str) -> Behaviour:
    """Always this answer."""
    return lambda _, talk: talk.answer(status, body, **headers)


def redirects(location: str, status: int = 307) -> Behaviour:
    """Sends the caller elsewhere."""
    return answers(status, Location=location)


def hangs(_: Request, talk: Talk) -> None:
    """Takes the request and says nothing."""
    talk.closing.wait()


def drips(_: Request, talk: Talk) -> None:
    """A header that never ends, a byte at a time: no single read takes long."""
    talk.raw(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not talk.closing.wait(0.05):
        talk.raw(b"x")


def continues(_: Request, talk: Talk) -> None:
    """Interim answers for ever."""
    while not talk.closing.is_set():
        talk.raw(b"HTTP/1.1 100 Continue\r\n\r\n")


def endless(status: int) -> Behaviour:
    """A body without an end."""

    def behaviour(_: Request, talk: Talk) -> None:
        talk.raw(b"HTTP/1.1 %d Any\r\nContent-Type: text/plain\r\n\r\n" % status)
        while not talk.closing.is_set():
            talk.raw(b"y" * 65_536)

    return behaviour


def no_http(_: Request, talk: Talk) -> None:
    """Speaks something else, and quotes what it was sent."""
    talk.raw(b"SSH-2.0-secret-path\r\n")


def tunnels(port: int) -> Behaviour:
    """A proxy whose tunnels all lead to a port of this machine."""

    def behaviour(_: Request, talk: Talk) -> None:
        talk.raw(b"HTTP/1.1 200 Opened\r\n\r\n")
        with socket.create_connection(("127.0.0.1", port)) as other:
            ways = {talk.connection: other, other: talk.connection}
            while not talk.closing.is_set():
                for ready in select.select([*ways], [], [], 0.05)[0]:
                    if not (data := ready.recv(65_536)):
                        return
                    ways[ready].sendall(data)

    return behaviour


@dataclass
class Receiver:
    """An HTTP server; ``behaviour`` may be changed while it runs."""

    behaviour: Behaviour
    requests: list[Request] = field(default_factory=list)
    server: ThreadingHTTPServer | None = None
    scheme: str = "http"
    connections: int = 0
    """That were opened, whatever was said on them."""

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self.server is not None
        return int(self.server.server_address[1])

    @property
    def url(self) -> str:
        """Of its root, without a slash at the end."""
        return f"{self.scheme}://127.0.0.1:{self.port}"


@contextmanager
def receiver(
    behaviour: Behaviour | None = None, *, tls: tuple[Path, Path] | None = None
) -> Iterator[Receiver]:
    """A server on a free loopback port.

    Parameters
    ----------
    tls
        Certificate and key: it speaks HTTPS.
    """
    made = Receiver(behaviour or answers())
    closing = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, self.path, headers, self.rfile.read(length))
            made.requests.append(request)
            self.close_connection = True
            made.behaviour(request, Talk(self, closing))

        do_GET = do_POST = do_HEAD = do_PUT = do_CONNECT = handle_any

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def get_request(self) -> Any:
            found = super().get_request()
            made.connections += 1
            return found

        def handle_error(self, *_: Any) -> None:
            """A caller that goes away in the middle is what is tested."""

    made.server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*map(str, tls))
        made.server.socket = context.wrap_socket(
            made.server.socket, server_side=True, do_handshake_on_connect=False
        )
        made.scheme = "https"
    thread = threading.Thread(target=made.server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        closing.set()
        made.server.shutdown()
        thread.join()
        made.server.server_close()


# --- PagerDuty, simulated ---

_LINKS = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"href": {"type": "string"}, "text": {"type": "string"}},
        "required": ["href"],
    },
}
_TEXT = {"type": "string"}
EVENT_SCHEMA = {
    "type": "object",
    "properties": {
        "routing_key": {"type": "string", "minLength": 32, "maxLength": 32},
        "event_action": {"enum": ["trigger", "acknowledge", "resolve"]},
        "dedup_key": {"type": "string", "maxLength": 255},
        "payload": {
            "type": "object",
            "properties": {
                "summary": {"type": "string", "maxLength": 1024, "minLength": 1},
                "source": {"type": "string", "minLength": 1},
                "severity": {"enum": ["critical", "error", "warning", "info"]},
                "timestamp": {"type": "string", "format": "date-time"},
                "component": _TEXT,
                "group": _TEXT,
                "class": _TEXT,
                "custom_details": {"type": "object"},
            },
            "required": ["summary", "source", "severity"],
            "additionalProperties": False,
        },
        "client": _TEXT,
        "client_url": _TEXT,
        "links": _LINKS,
        "images": {"type": "array"},
    },
    "required": ["routing_key", "event_action"],
    "additionalProperties": False,
}
"""As PagerDuty's published schema has it (github.com/PagerDuty/api-schema,
``reference/events-v2/openapiv3.json``), with the limits that its documentation names beside."""
CHANGE_SCHEMA = {
    "type": "object",
    "properties": {
        "routing_key": {"type": "string", "minLength": 32, "maxLength": 32},
        "payload": {
            "type": "object",
            "properties": {
                "summary": {"type": "string", "maxLength": 1024, "minLength": 1},
                "source": _TEXT,
                "timestamp": {"type": "string", "format": "date-time"},
                "custom_details": {"type": "object"},
            },
            "required": ["summary"],
            "additionalProperties": False,
        },
        "links": _LINKS,
        "images": {"type": "array"},
    },
    "required": ["routing_key", "payload"],
    "additionalProperties": False,
}


@dataclass
class SimulatedPagerDuty:
    """No PagerDuty: a server that checks the schema, and keeps what state an incident would be in."""

    routing_key: str
    states: dict[str, str] = field(default_factory=dict)
    changes: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, request: Request, talk: Talk) -> None:
        """Take or refuse an event."""
        schema = {"/v2/enqueue": EVENT_SCHEMA, "/v2/change/enqueue": CHANGE_SCHEMA}[request.path]
        event = request.json
        try:
            assert len(request.body) <= LIMIT_BYTES, "Event too large"
            assert request.headers["content-type"] == "application/json"
            jsonschema.validate(event, schema, format_checker=jsonschema.FormatChecker())
            assert event["routing_key"] == self.routing_key, "Invalid routing key"
            if schema is EVENT_SCHEMA:
                trigger = event["event_action"] == "trigger"
                assert "payload" in event if trigger else "dedup_key" in event
        except (AssertionError, jsonschema.ValidationError) as error:
            wrong = {"status": "invalid event", "message": "Event object is invalid",
                     "errors": [getattr(error, "message", str(error))]}  # fmt: skip
            talk.answer(400, json.dumps(wrong).encode())
            return
        if schema is CHANGE_SCHEMA:
            self.changes.append(event)
        else:
            after = {"trigger": "triggered", "acknowledge": "acknowledged", "resolve": "resolved"}
            self.states[event["dedup_key"]] = after[event["event_action"]]
        talk.answer(202, b'{"status":"success","message":"Event processed"}')


# --- e-mail ---


@dataclass
class Mailbox:
    """An SMTP server and what it took."""

    port: int
    mails: list[Any] = field(default_factory=list)
    """``email.message.EmailMessage``, oldest first."""
    refuse: str | None = None
    """What it answers to a message in place of taking it, like ``451 later``."""


@contextmanager
def mailbox() -> Iterator[Mailbox]:
    """An SMTP server on a free loopback port."""
    import email
    import email.policy

    from aiosmtpd.controller import Controller
    from ports import free_port

    box = Mailbox(free_port())

    class Handler:
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
            if box.refuse is not None:
                return box.refuse
            box.mails.append(
                email.message_from_bytes(envelope.content, policy=email.policy.default)
            )
            return "250 taken"

    controller = Controller(Handler(), hostname="127.0.0.1", port=box.port)
    controller.start()
    try:
        yield box
    finally:
        controller.stop()
