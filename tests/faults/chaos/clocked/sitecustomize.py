"""For a process under libfaketime whose monotonic clock is left alone: there ``time.sleep``, which
asks for a moment of that clock, is refused with EINVAL. A wait without a descriptor is not."""

import select
import time


def _sleep(seconds: float) -> None:
    select.select([], [], [], seconds)


time.sleep = _sleep
