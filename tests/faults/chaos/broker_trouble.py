"""Trouble with the broker: frozen, killed."""

from __future__ import annotations

from world import World


def freeze_broker(world: World) -> None:
    """The broker stands still for 20 seconds: sockets are open and nobody answers."""
    world.drift()
    world.rest(5.0)
    world.fault("SIGSTOP to the broker")
    world.servers.kafka.pause()
    try:
        world.rest(20.0)
    finally:
        world.servers.kafka.resume()
    world.healed()


def broker_down(world: World) -> None:
    """``kill -9`` to the broker, twice; it comes back after 10 and 25 seconds."""
    world.drift()
    for seconds in (10.0, 25.0):
        world.rest(5.0)
        world.fault("kill -9 to the broker")
        world.servers.kafka.kill()
        world.rest(seconds)
        world.servers.kafka.start()
        world.healed()
