"""Environment of our processes: which of them reads which setting, and what each is given.

A process holds the secrets that it uses and no others: the web process, which answers strangers,
has neither the broker's password nor the keys'. Jobs and the children in which models are loaded
read no setting at all (``redistill.workers.jobs.child_process``).
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Mapping
from typing import Any, Literal

from redistill import child_path
from redistill.workers.settings.settings import PREFIX, Settings, env_name

__all__ = ["READ_BY", "Process", "environment", "unknown_variables", "variable", "withhold"]

Process = Literal["stream", "repair", "web", "alerts", "command", "none"]

_ALL = ("home", "database", "namespace", "audit_key")
_BROKER = (
    "servers", "kafka_security_protocol", "kafka_mechanism", "kafka_username", "kafka_password",
    "kafka_ca", "allow_plaintext",
)  # fmt: skip
_METRICS = ("metrics_port", "metrics_host", "metrics_token", "metrics_allow_insecure")
_WORKER = (*_BROKER, *_METRICS, "log_level", "group", "metrics_models")

READ_BY: Mapping[Process, frozenset[str]] = {
    "stream": frozenset(
        [
            *_ALL, *_WORKER, "static_member", "session_timeout_seconds", "flush_seconds",
            "new_names_per_flush", "unregistered_kept", "versions_per_model", "state_key",
        ]
    ),
    "repair": frozenset(
        [
            *_ALL, *_WORKER, "instance_id", "alarms_per_week", "cool_down_minutes",
            "max_jobs_per_day", "child_memory_mb", "child_seconds", "load_memory_mb",
            "load_seconds", "poll_seconds", "pointer_ttl_hours", "key_passphrase",
            "releases_kept", "jobs_kept_days", "outbox_kept_days", "names_kept_days",
        ]
    ),
    "web": frozenset(
        [
            *_ALL, "metrics_models", "web_host", "web_port", "web_token", "web_tls_cert",
            "web_tls_key", "web_allow_insecure", "web_connections_per_peer", "log_level",
            "instance_id",
        ]
    ),
    "alerts": frozenset(
        [
            *_ALL, *_BROKER, *_METRICS, "log_level", "instance_id", "alerts", "public_url",
            "child_seconds", "pointer_ttl_hours",
        ]
    ),
    "command": frozenset(Settings.model_fields),
    "none": frozenset(),
}  # fmt: skip
"""Settings by the process that reads them, by field name; a test compares it with the code. A
``command`` is what a person calls, ``none`` is a program that reads no setting."""

OF_TESTS = ("REDISTILL_REQUIRE",)
"""Variables that are no settings, and ours: servers without which a test run fails."""


def unknown_variables() -> list[str]:
    """A sentence for each variable of the environment that has our prefix and is no setting.

    Not an error: other software may use the prefix. Most are misspelt, and then a default rules in
    silence.
    """
    known = {env_name(name).removeprefix(PREFIX): env_name(name) for name in Settings.model_fields}
    warnings = []
    for key in sorted(k for k in os.environ if _is_unknown(k)):
        near = difflib.get_close_matches(key.removeprefix(PREFIX), known, n=1, cutoff=0.75)
        hint = f"; did you mean {known[near[0]]}?" if near else ""
        warnings.append(f"{key}: there is no such setting{hint}")
    return warnings


def _is_unknown(key: str) -> bool:
    known = {*map(env_name, Settings.model_fields), *OF_TESTS}
    return key.startswith(PREFIX) and key not in known


def environment(
    overrides: Mapping[str, Any], *, process: Process, without: Collection[str] = ()
) -> dict[str, str]:
    """The environment for a process of ours: this one's, with what it reads of our settings.

    Variables with our prefix that are no setting stay behind, so that only the first process speaks
    of them. Modules of the current folder stay out as well (:mod:`redistill.child_path`): a user's
    own ``kafka.py`` must not be what a worker imports.

    Parameters
    ----------
    overrides
        Values by field name, in place of this process's; ``None`` takes the variable away. Those
        that the process does not read are left out.
    process
        Which one it is for.
    without
        Variables that are no settings of ours, and not for this process.

    Examples
    --------
    >>> made = environment({"home": "here", "servers": "kafka:9092"}, process="web")
    >>> made["REDISTILL_HOME"], "REDISTILL_BROKER" in made
    ('here', False)
    """
    out = {
        key: value
        for key, value in os.environ.items()
        if not _is_withheld(key, process) and key not in without
    }
    for name in READ_BY[process] & set(overrides):
        out = {key: value for key, value in out.items() if key.upper() != env_name(name)}
        if (value := overrides[name]) is not None:
            out[env_name(name)] = str(value)
    return out | child_path.variables()


def variable(name: str) -> str | None:
    """Value of a variable that is no setting of ours, but is named by one (``env:NAME``)."""
    return os.environ.get(name)


def withhold(process: Process) -> None:
    """Take the settings that a process does not read out of its environment.

    For a process that was started by hand or by systemd with the environment of all: what it does
    not have, nothing that gets into it can take, and no child inherits.
    """
    for key in [key for key in os.environ if _is_withheld(key, process)]:
        del os.environ[key]


def _is_withheld(key: str, process: Process) -> bool:
    """Whether a variable is ours and not for this process. Settings are read in any case of letters
    (``redistill_home``), so they are withheld in any."""
    if not key.upper().startswith(PREFIX) or key in OF_TESTS:
        return False
    return key.upper() not in map(env_name, READ_BY[process])
