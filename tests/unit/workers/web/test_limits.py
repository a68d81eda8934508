"""Limits of the web process fit into the descriptors that it has."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from redistill.workers.web.limits import RESERVED_DESCRIPTORS, Limits

PROGRAM = "from redistill.workers.web.limits import raise_descriptors; print(raise_descriptors())"


@pytest.mark.parametrize("descriptors", [256, 512, 1_024, 4_096, 1_048_576])
def test_connections_and_the_files_they_send_fit(descriptors: int) -> None:
    limits = Limits.of(descriptors)
    assert limits.connections + limits.downloads <= descriptors - RESERVED_DESCRIPTORS
    assert limits.downloads_per_peer < limits.per_peer <= limits.connections
    assert limits.downloads_per_peer < limits.downloads  # one peer never has them all


@pytest.mark.parametrize("descriptors", [0, 64])
def test_some_are_let_in_however_few_there_are(descriptors: int) -> None:
    assert Limits.of(descriptors).connections == 16
    assert Limits.of(1_024, per_peer=1).per_peer == 1


def test_what_may_be_had_is_taken() -> None:
    def low() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 300))

    run = [sys.executable, "-c", PROGRAM]
    assert subprocess.run(run, check=True, capture_output=True, preexec_fn=low).stdout == b"300\n"
