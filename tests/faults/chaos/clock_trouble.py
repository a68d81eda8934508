"""Trouble with clocks: one that is ahead, one that is behind, and jumps while a process runs."""

from __future__ import annotations

from world import World


def wrong_clock(world: World) -> None:
    """One repair worker's clock is 40 days ahead, another's an hour behind, a stream worker's an
    hour ahead; in mid-run the clocks jump, forward and back."""
    world.add("repair-2", ["run", "repair"])
    world.watch.start_worker("repair-2")
    world.clocked("repair-2", "+40d")
    world.clocked("repair", "-1h")
    world.clocked("stream-1", "+1h")
    world.drift()
    world.rest(20.0)
    world.jump("repair-2", "-1h")
    world.jump("stream-1", "-1h")
    world.rest(10.0)
    world.jump("repair", "+40d")
    world.jump("stream-1", "+0")
    world.rest(15.0)
    for name in ("repair", "repair-2"):
        world.jump(name, "+0")
    world.rest(5.0)
    world.healed()
