"""What goes wrong with a broker, one function a fault: frozen, without an answer, closed to its user,
emptied, changed under those who use it.

All of it is done over the plain listener of a test's own broker (``server.bootstrap``), whose
anonymous user may do everything.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    MemberToRemove,
    ResourcePattern,
    ResourcePatternFilter,
    ResourceType,
    UserScramCredentialUpsertion,
)
from kafka.structs import OffsetAndMetadata
from kafka_server import KafkaServer
from ports import free_port
from waiting import eventually

from redistill.streams.kafka.broker import Broker, Security

USER, PASSWORD = "svc", "right"
TOPIC, GROUP = ResourceType.TOPIC, ResourceType.GROUP
READ, WRITE, DESCRIBE = ACLOperation.READ, ACLOperation.WRITE, ACLOperation.DESCRIBE
_JAAS = (
    'org.apache.kafka.common.security.scram.ScramLoginModule required username="a" password="b";'
)
_QUEUED_BYTES = 65_536


@contextlib.contextmanager
def _admin(server: KafkaServer) -> Iterator[Any]:
    client = KafkaAdminClient(bootstrap_servers=server.bootstrap)
    try:
        yield client
    finally:
        client.close()


# --- away ------------------------------------------------------------------------------------


@contextlib.contextmanager
def down(server: KafkaServer) -> Iterator[None]:
    """Killed with SIGKILL, and started again at the end."""
    server.kill()
    try:
        yield
    finally:
        server.start()


@contextlib.contextmanager
def frozen(server: KafkaServer) -> Iterator[None]:
    """Stopped with SIGSTOP: connections stand, and nobody answers."""
    server.pause()
    try:
        yield
    finally:
        server.resume()


class Proxy:
    """A way to a broker that can be made to swallow everything: what connects is accepted, what is
    sent is taken, and nothing comes back. ``cut`` breaks off every connection.

    Where clients are to go this way for good the broker has to advertise it
    (``advertised.listeners``).
    """

    def __init__(self, port: int, *, listen: int | None = None) -> None:
        self._target = port
        self.silent = threading.Event()
        self._pairs: set[tuple[socket.socket, socket.socket | None]] = set()
        self._server = socket.create_server(("127.0.0.1", listen or 0))
        self.port = int(self._server.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        """``host:port`` for clients."""
        return f"127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Break every connection off."""
        for pair in list(self._pairs):
            for end in pair:
                if end is not None:
                    with contextlib.suppress(OSError):
                        end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Accept no more."""
        self._server.close()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                far = None
                if not self.silent.is_set():
                    with contextlib.suppress(OSError):
                        far = socket.create_connection(("127.0.0.1", self._target), 5)
                        far.settimeout(None)
                    if far is None:
                        near.close()
                        continue
                pair = near, far
                self._pairs.add(pair)
                ways = [(near, far)] if far is None else [(near, far), (far, near)]
                for a, b in ways:
                    threading.Thread(target=self._carry, args=(a, b, pair), daemon=True).start()

    def _carry(self, a: socket.socket, b: socket.socket | None, pair: Any) -> None:
        try:
            while data := a.recv(_QUEUED_BYTES):
                if b is not None and not self.silent.is_set():
                    b.sendall(data)
        except OSError:
            pass
        for end in pair:
            if end is not None:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()
        self._pairs.discard(pair)


# --- closed ----------------------------------------------------------------------------------


def guarded(folder: Path, **extra: str) -> tuple[KafkaServer, Broker]:
    """A broker with permissions, not started, and how the user ``svc`` reaches it: over a listener
    with SCRAM. Whoever comes over the plain one may do everything.
    """
    plain, control, sasl = (free_port() for _ in range(3))
    listeners = f"PLAINTEXT://127.0.0.1:{plain},LOGIN://127.0.0.1:{sasl}"
    server = KafkaServer(
        folder,
        port=plain,
        controller_port=control,
        scram={USER: PASSWORD},
        extra={
            "listeners": f"{listeners},CONTROLLER://127.0.0.1:{control}",
            "advertised.listeners": listeners,
            "listener.security.protocol.map": (
                "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,LOGIN:SASL_PLAINTEXT"
            ),
            "sasl.enabled.mechanisms": "SCRAM-SHA-256",
            "listener.name.login.scram-sha-256.sasl.jaas.config": _JAAS,
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            **extra,
        },
    )
    login = Security(protocol="SASL_PLAINTEXT", username=USER, password=PASSWORD)
    return server, Broker(f"127.0.0.1:{sasl}", login)


def grant(
    server: KafkaServer, kind: ResourceType, name: str, *operations: ACLOperation, user: str = USER
) -> None:
    """Allow operations (READ, if none is named) on one topic or group."""
    with _admin(server) as client:
        client.create_acls(
            [
                ACL(
                    principal=f"User:{user}",
                    host="*",
                    operation=operation,
                    permission_type=ACLPermissionType.ALLOW,
                    resource_pattern=ResourcePattern(kind, name),
                )
                for operation in operations or (READ,)
            ]
        )


def revoke(
    server: KafkaServer,
    kind: ResourceType,
    name: str,
    operation: ACLOperation = ACLOperation.ANY,
) -> None:
    """Take back what was granted on one topic or group; everything, if no operation is named."""
    with _admin(server) as client:
        client.delete_acls(
            [
                ACLFilter(
                    principal=None,
                    host=None,
                    operation=operation,
                    permission_type=ACLPermissionType.ANY,
                    resource_pattern=ResourcePatternFilter(
                        kind, name, ACLResourcePatternType.LITERAL
                    ),
                )
            ]
        )


def set_password(server: KafkaServer, password: str, user: str = USER) -> None:
    """Change a user's password. Connections that stand go on until they break off: restart the
    broker, or give it ``connections.max.reauth.ms``.
    """
    with _admin(server) as client:
        changed = UserScramCredentialUpsertion(user, "SCRAM-SHA-256", password, iterations=4096)
        client.alter_user_scram_credentials([changed])


# --- changed ---------------------------------------------------------------------------------


def add_partitions(server: KafkaServer, topic: str, count: int) -> None:
    """Give a topic more partitions: ``count`` in all."""
    with _admin(server) as client:
        client.create_partitions({topic: count})


def log_ends(server: KafkaServer, topic: str) -> dict[int, int]:
    """Offset of the next record, by partition."""
    client = KafkaConsumer(bootstrap_servers=server.bootstrap)
    try:
        tps = [TopicPartition(topic, p) for p in client.partitions_for_topic(topic) or ()]
        return {tp.partition: end for tp, end in client.end_offsets(tps).items()}
    finally:
        client.close()


def delete_records(server: KafkaServer, topic: str, before: Mapping[int, int]) -> None:
    """Move the logs' starts, as retention does: records below these offsets are gone."""
    with _admin(server) as client:
        client.delete_records({TopicPartition(topic, p): at for p, at in before.items()})


def members(server: KafkaServer, group: str) -> int:
    """How many members a group has."""
    with _admin(server) as client:
        return len(client.describe_groups([group])[group]["members"])


def delete_group(server: KafkaServer, group: str) -> None:
    """Delete a group. Kafka refuses while it has members: they are removed until it obeys, which
    running workers, who join again at once, may not let it.
    """
    with _admin(server) as client:

        def deleted() -> bool:
            left = client.describe_groups([group])[group]["members"]
            if left:
                ids = [MemberToRemove(member_id=m["member_id"]) for m in left]
                client.remove_group_members(group, ids)
            (outcome,) = dict(client.delete_groups([group])).values()
            return "NoError" in str(outcome) or "NotFound" in str(outcome)

        eventually(deleted, f"group {group} deleted", every=0.02)


def set_group_offsets(server: KafkaServer, group: str, topic: str, to: Mapping[int, int]) -> None:
    """Alter committed offsets, as ``kafka-consumer-groups.sh --reset-offsets`` does; the group must
    have no members.
    """
    with _admin(server) as client:
        client.alter_group_offsets(
            group,
            {TopicPartition(topic, p): OffsetAndMetadata(at, "", -1) for p, at in to.items()},
        )


def delete_topics(server: KafkaServer, topics: Iterable[str]) -> None:
    """Delete topics, and return when the broker knows them no more."""
    names = set(topics)
    with _admin(server) as client:
        client.delete_topics(sorted(names))
        eventually(lambda: not names & set(client.list_topics()), f"{names} are gone")


def wipe(server: KafkaServer) -> None:
    """Kill the broker and throw its data away: the next start is another cluster."""
    server.kill()
    shutil.rmtree(server.folder / "data")


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far, its threads included (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_bytes(pid: int, which: str = "VmRSS") -> int:
    """Resident memory of a process now, or its highest mark (``VmHWM``) (Linux)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(which + ":"):
            return int(line.split()[1]) * 1024
    return 0
