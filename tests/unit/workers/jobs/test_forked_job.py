"""What is told of an error in a job; what a job does is tested with its fork server."""

from __future__ import annotations

import errno

from redistill.workers.jobs.forked_job import failure


class Passing(Exception):
    retriable = True


def test_errors_of_the_system_and_of_memory_may_pass() -> None:
    full = failure(OSError(errno.ENOSPC, "No space left on device"))
    assert (full["kind"], full["errno"], full["retriable"]) == ("OSError", errno.ENOSPC, True)
    for error, retriable in ((MemoryError(), True), (Passing("x"), True), (ValueError("x"), False)):
        told = failure(error)
        assert (told["errno"], told["retriable"]) == (None, retriable)
        assert told["message"]
