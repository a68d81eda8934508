"""Settings: what an operator sets in the environment, read here and nowhere else, at a command's
start.

``docs/settings.md`` lists every variable; a test keeps it equal to this class. What concerns one
model lives in ``model.toml`` (``redistill.workers.models.spec``).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from redistill.streams.engine.metrics_address import MetricsAddress
from redistill.streams.kafka.broker import Broker, Mechanism, Protocol, Security
from redistill.workers.errors import SettingsError
from redistill.workers.settings import dev_address, values
from redistill.workers.settings.state_key import stored_key

__all__ = ["PREFIX", "Settings", "env_name"]

PREFIX = "REDISTILL_"

Positive = Annotated[float, Field(gt=0)]
Port = Annotated[int, Field(ge=0, le=65_535)]


class Settings(BaseSettings):
    """Everything that comes from the environment, checked; frozen.

    Use ``Settings.load``: it reports all bad values together, as a ``SettingsError``.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="ignore", populate_by_name=True, env_ignore_empty=True
    )

    # --- where things are ---
    home: Path = Field(
        Path(".redistill"),
        description="Folder of the SQLite file, keys, objects, job folders and releases.",
    )
    database: Annotated[str | None, AfterValidator(values.database)] = Field(
        None,
        repr=False,  # it may hold a password
        description="sqlite:///PATH or postgresql://...; default: a SQLite file in the home.",
    )
    namespace: Annotated[str, AfterValidator(values.namespace)] = Field(
        "",
        pattern=r"^([a-z0-9][a-z0-9._-]{0,39})?$",
        description="Put in front of topics, consumer groups and metrics.",
    )

    # --- the broker ---
    servers: Annotated[str | None, AfterValidator(values.servers)] = Field(
        None,
        validation_alias="REDISTILL_BROKER",
        description="host:port[,host:port] of Kafka, or the dev:// address of the dev broker.",
    )
    kafka_security_protocol: Protocol | None = Field(
        None,
        description="Default: SASL_SSL with a user name, PLAINTEXT on loopback, SSL elsewhere.",
    )
    kafka_mechanism: Mechanism = Field("SCRAM-SHA-256", description="SASL mechanism.")
    kafka_username: str | None = Field(None, description="SASL user name.")
    kafka_password: SecretStr | None = Field(None, description="SASL password.")
    kafka_ca: Path | None = Field(
        None, description="CA certificates in PEM; default: the system's."
    )
    allow_plaintext: bool = Field(
        False, description="Allow an unencrypted broker that is not on loopback."
    )

    # --- the stream worker ---
    group: str = Field(
        "redistill", min_length=1, description="Consumer group (behind the namespace)."
    )
    instance_id: str | None = Field(
        None, description="Name of this process in logs and leases; default: host and process id."
    )
    static_member: str | None = Field(
        None, description="Kafka group.instance.id: a restart keeps its partitions. One per worker."
    )
    session_timeout_seconds: Positive = Field(
        6.0, description="Kafka session timeout; not below the broker's minimum (6 by default)."
    )
    flush_seconds: Positive = Field(0.5, description="Longest time between two flushes to SQL.")
    new_names_per_flush: Annotated[int, Field(ge=1)] = Field(
        100,
        description="Versions of unregistered models that one flush may add, those with most rows.",
    )
    unregistered_kept: Annotated[int, Field(ge=1)] = Field(
        10_000,
        description="Versions of unregistered models kept in all; those seen last stay.",
    )
    versions_per_model: Annotated[int, Field(ge=1)] = Field(
        100,
        description="Versions kept of an unregistered model, and watched of a registered one that"
        " did not register them; a further one is watched after 1,000 rows.",
    )
    metrics_port: Port | None = Field(
        None,
        description="Port of a worker's Prometheus metrics; 0: a free port; default: off.",
    )
    metrics_host: str = Field("127.0.0.1", description="Address on which they are served.")
    metrics_token: Annotated[SecretStr | None, AfterValidator(values.token)] = Field(
        None,
        description="Bearer token of their scrapes, 32 characters or more; needed off loopback.",
    )
    metrics_models: Annotated[int, Field(ge=1, le=10_000)] = Field(
        500,
        description="Models that metrics name, those registered first; the others are counted as"
        " `_other`.",
    )
    metrics_allow_insecure: bool = Field(
        False, description="Serve them off loopback without a token, behind a proxy that has one."
    )
    state_key: Annotated[SecretStr | None, AfterValidator(values.hex_key)] = Field(
        None,
        description="Hex key that authenticates stored detectors; default: made in the home.",
    )

    audit_key: Path | None = Field(
        None,
        description="File of the key that authenticates audit entries and release requests;"
        " default: keys/audit.key in the home.",
    )

    # --- alarms and repairs, for the whole fleet ---
    alarms_per_week: Positive = Field(
        1.0,
        description="False alarms a week that the operator accepts, for the fleet: see below.",
    )
    cool_down_minutes: Annotated[float, Field(ge=0)] = Field(
        60.0, description="After a repair or roll back of a model, no automatic repair for so long."
    )
    max_jobs_per_day: Annotated[int, Field(ge=0)] = Field(
        24, description="Recompression jobs that may start in 24 hours, for the fleet."
    )
    child_memory_mb: Annotated[int, Field(ge=256)] = Field(
        4_096, description="Memory of the child process that trains, in MiB."
    )
    child_seconds: Positive = Field(600.0, description="Wall-clock limit of one run of that child.")
    load_memory_mb: Annotated[int, Field(ge=64)] = Field(
        2_048,
        description="Memory of the child in which a foreign ONNX file is first loaded, in MiB.",
    )
    load_seconds: Positive = Field(30.0, description="CPU time limit of that child.")
    poll_seconds: Positive = Field(
        0.5, description="How often the repair worker looks for work that no event announced."
    )

    # --- releases ---
    pointer_ttl_hours: Positive = Field(
        168.0, description="Signed metadata expire after this; they are signed again at half life."
    )
    key_passphrase: SecretStr | None = Field(
        None,
        description="Passphrase of the signing keys; default: keys are stored unencrypted, 0600.",
    )
    command_wait_seconds: Positive = Field(
        30.0, description="How long a command waits for the worker that holds the repository."
    )

    # --- the web process ---
    web_host: str = Field("127.0.0.1", description="Address to listen on.")
    web_port: Port = Field(8_443, description="Port to listen on; 0: a free one.")
    web_token: Annotated[SecretStr | None, AfterValidator(values.token)] = Field(
        None,
        description="Bearer token of clients, 32 characters or more; needed off loopback.",
    )
    web_tls_cert: Path | None = Field(None, description="TLS certificate chain in PEM.")
    web_tls_key: Path | None = Field(None, description="TLS private key in PEM.")
    web_allow_insecure: bool = Field(
        False, description="Listen off loopback without TLS, behind a proxy that has it."
    )
    web_connections_per_peer: Annotated[int, Field(ge=1)] = Field(
        128,
        description="Connections of one address at once; more where a proxy is the only one.",
    )

    # --- alerts ---
    alerts: Path | None = Field(
        None, description="File that says who is told what; default: alerts.toml in the home."
    )
    public_url: Annotated[str | None, AfterValidator(values.web_url)] = Field(
        None,
        description="Where people reach the web process, https://...; messages link to it.",
    )

    # --- retention ---
    releases_kept: Annotated[int, Field(ge=2)] = Field(
        10, description="Published releases kept per model (the current and previous always)."
    )
    jobs_kept_days: Positive = Field(14.0, description="Folders of finished jobs are kept so long.")
    outbox_kept_days: Positive = Field(7.0, description="Sent announcements are kept so long.")
    names_kept_days: Positive = Field(
        30.0,
        description="Unregistered models, and counters, are kept so long after they last grew.",
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe log lines that are written."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        """Check the keys against each other, all problems in one message."""
        problems: list[str] = []
        if (self.kafka_username is None) != (self.kafka_password is None):
            problems.append(
                "REDISTILL_KAFKA_USERNAME and REDISTILL_KAFKA_PASSWORD: set both or neither"
            )
        protocol = self.protocol
        if protocol.startswith("SASL") and self.kafka_username is None:
            problems.append(
                f"REDISTILL_KAFKA_SECURITY_PROTOCOL = {protocol!r} needs REDISTILL_KAFKA_USERNAME"
                " and REDISTILL_KAFKA_PASSWORD"
            )
        if self.kafka_ca is not None and not self.kafka_ca.is_file():
            problems.append(f"REDISTILL_KAFKA_CA = {str(self.kafka_ca)!r}: there is no such file")
        if self.servers is not None and not self.servers.startswith("dev://"):
            off = [s for s in self.servers.split(",") if not values.is_loopback(s)]
            if off and not protocol.endswith("SSL") and not self.allow_plaintext:
                problems.append(
                    f"REDISTILL_BROKER = {self.servers!r}: {off[0].strip()} is not on loopback and"
                    f" {protocol} is not encrypted; use SASL_SSL, or set"
                    " REDISTILL_ALLOW_PLAINTEXT=1"
                )
        if (self.web_tls_cert is None) != (self.web_tls_key is None):
            problems.append("REDISTILL_WEB_TLS_CERT and REDISTILL_WEB_TLS_KEY: set both or neither")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    # --- what others ask for ---

    @classmethod
    def load(cls, overrides: Mapping[str, Any] | None = None) -> Settings:
        """Read the environment; ``overrides`` (by field name, ``None`` = not given) win over it.

        Raises
        ------
        SettingsError
            Naming every bad key with its value. Secrets are not repeated. Variables that are no
            setting are left alone: ``unknown_variables`` tells them.
        """
        given = {k: v for k, v in (overrides or {}).items() if v is not None}
        if unknown := sorted(set(given) - set(cls.model_fields)):
            raise SettingsError(f"unknown settings: {', '.join(unknown)}")
        keys = {name: env_name(name) for name in cls.model_fields}
        # init values are looked up by alias where there is one
        arguments = {_alias(cls, name): value for name, value in given.items()}
        try:
            made = cls(**arguments)
        except ValidationError as error:
            problems = [_describe(item, keys) for item in error.errors(include_url=False)]
            raise SettingsError("; ".join(problems)) from None
        try:  # it is told, stored and part of an address
            str(made.root).encode()
        except UnicodeEncodeError:
            raise SettingsError(
                f"{keys['home']}: the folder {str(made.root)!r} has a name that is not UTF-8:"
                " choose, or rename to, one that is"
            ) from None
        return made

    @property
    def protocol(self) -> Protocol:
        """The broker's security protocol, chosen if it was not given."""
        if self.kafka_security_protocol is not None:
            return self.kafka_security_protocol
        if self.kafka_username is not None:
            return "SASL_SSL"
        off = [s for s in (self.servers or "").split(",") if s and not values.is_loopback(s)]
        dev = (self.servers or "").startswith("dev://")
        return "SSL" if off and not dev and not self.allow_plaintext else "PLAINTEXT"

    @property
    def has_broker(self) -> bool:
        """Whether a broker is set."""
        return self.servers is not None

    def broker(self) -> Broker:
        """The broker with its credentials and namespace.

        Raises
        ------
        SettingsError
            No broker is set, or the dev broker that is set was not started.
        """
        if self.servers is None:
            raise SettingsError(
                "no broker is set: set REDISTILL_BROKER=host:port (or use `redistill up`, which can"
                " start an in-memory one)"
            )
        servers = self.servers
        if dev_address.is_short(servers):
            servers = dev_address.whole(self.root, servers)
        security = None
        if self.protocol != "PLAINTEXT":
            security = Security(
                protocol=self.protocol,
                mechanism=self.kafka_mechanism,
                username=self.kafka_username,
                password=self.kafka_password.get_secret_value() if self.kafka_password else None,
                ca=str(self.kafka_ca) if self.kafka_ca else None,
            )
        return Broker(servers, security, self.namespace)

    def metrics_address(self) -> MetricsAddress | None:
        """Where a worker serves its metrics; ``None``: nowhere.

        Raises
        ------
        SettingsError
            It would tell everybody in the network.
        """
        if self.metrics_port is None:
            return None
        token = self.metrics_token.get_secret_value() if self.metrics_token else None
        guarded = token is not None or self.metrics_allow_insecure
        if not guarded and not values.is_loopback(self.metrics_host):
            raise SettingsError(
                f"REDISTILL_METRICS_HOST = {self.metrics_host!r} is not on loopback: set"
                " REDISTILL_METRICS_TOKEN, or REDISTILL_METRICS_ALLOW_INSECURE=1 (behind a proxy"
                " that asks who comes)"
            )
        return MetricsAddress(host=self.metrics_host, port=self.metrics_port, token=token)

    @property
    def root(self) -> Path:
        """The home as an absolute path."""
        return self.home.expanduser().absolute()

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of the database; the default is a file in the home."""
        return self.database or f"sqlite:///{self.root / 'redistill.db'}"

    @property
    def keys_folder(self) -> Path:
        """Where keys are kept (folder 0700, files 0600)."""
        return self.root / "keys"

    @property
    def audit_key_path(self) -> Path:
        """File of the key without which nothing gets signed, whoever can write SQL."""
        named = self.audit_key
        return self.keys_folder / "audit.key" if named is None else named.expanduser().absolute()

    @property
    def objects_folder(self) -> Path:
        """Where reference, trusted and model files are kept, named by SHA-256."""
        return self.root / "objects"

    @property
    def alerts_path(self) -> Path:
        """The file that says who is told what."""
        return self.root / "alerts.toml" if self.alerts is None else self.alerts.absolute()

    @property
    def jobs_folder(self) -> Path:
        """Where job folders are made."""
        return self.root / "jobs"

    @property
    def instance(self) -> str:
        """Name of this process in logs and leases: unique on this machine."""
        return self.instance_id or f"{socket.gethostname()}-{os.getpid()}"

    @property
    def consumer_group(self) -> str:
        """Consumer group of the stream workers."""
        return f"{self.namespace}.{self.group}" if self.namespace else self.group

    def state_key_bytes(self) -> bytes:
        """Key that seals stored detectors; if none is set, ``home/keys/state.key`` is made.

        All stream workers on one database need the same key: with several machines set
        ``REDISTILL_STATE_KEY``.
        """
        if self.state_key is not None:
            return bytes.fromhex(self.state_key.get_secret_value())
        return stored_key(self.keys_folder / "state.key")

    def state_key_here(self) -> bytes | None:
        """The same key if it is on this machine; none is made."""
        there = self.state_key is not None or os.path.exists(self.keys_folder / "state.key")
        return self.state_key_bytes() if there else None


def env_name(field: str) -> str:
    """Environment variable of a field.

    Examples
    --------
    >>> env_name("home"), env_name("servers")
    ('REDISTILL_HOME', 'REDISTILL_BROKER')
    """
    alias = Settings.model_fields[field].validation_alias
    return alias if isinstance(alias, str) else PREFIX + field.upper()


def _alias(cls: type[Settings], name: str) -> str:
    alias = cls.model_fields[name].validation_alias
    return alias if isinstance(alias, str) else name


def _describe(item: Any, keys: Mapping[str, str]) -> str:
    """One sentence about one of pydantic's errors."""
    message = str(item["msg"]).removeprefix("Value error, ")
    if not item["loc"]:
        return message
    name = str(item["loc"][0])
    field = next((f for f, key in keys.items() if name in (f, key)), name)
    key = keys.get(field, name)
    annotation = Settings.model_fields[field].annotation if field in Settings.model_fields else None
    secret = annotation is SecretStr or SecretStr in get_args(annotation)
    shown = "(secret)" if secret else repr(values.without_password(item.get("input")))
    sentence = values.without_password(message[:1].lower() + message[1:])
    return f"{key} = {shown}: {sentence}"
