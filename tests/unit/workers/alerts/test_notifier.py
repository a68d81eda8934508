from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

import pytest
from alert_rows import NOW, Recorder, alert
from structlog.testing import capture_logs
from waiting import eventually

from redistill.streams.errors import StoreUnavailable
from redistill.times import HOUR
from redistill.workers.alerts import delivery
from redistill.workers.alerts.alert import Alert
from redistill.workers.alerts.channels.channel import DeliveryFailed
from redistill.workers.alerts.notifier import Notifier
from redistill.workers.alerts.planning import Sending
from redistill.workers.store.alert_deliveries import Delivery


class Site:
    """Two channels, and a database that may be away."""

    def __init__(self) -> None:
        self.now = NOW
        self.notes: list[Delivery] = []
        self.away = False
        self.poison = ""
        """Key of an alert of which the database takes no note."""
        self.refused = 0
        self.leads = True
        self.channels = {"a": Recorder(), "b": Recorder()}
        self.notifier = self.made(None)

    def made(self, before: Notifier | None) -> Notifier:
        made = Notifier(
            self.channels,
            note=self.note,
            clock=lambda: self.now,
            rng=Random(1),
            may=lambda: self.leads,
            before=before,
        )
        made.start()
        return made

    def reload(self, **channels: Recorder) -> None:
        self.channels = channels
        self.notifier = self.made(self.notifier)

    def note(self, rows: Sequence[Delivery]) -> None:
        if self.away:
            raise StoreUnavailable("away")
        if any(row.alert_key == self.poison for row in rows):
            self.refused += 1
            raise ValueError("A string literal cannot contain NUL (0x00) characters.")
        self.notes += rows

    def owe(self, *alerts: Alert, channels: str = "ab", **more: int) -> None:
        self.notifier.offer({c: [self.sending(one, c, **more) for one in alerts] for c in channels})

    def sending(self, one: Alert, channel: str, settle: int = 0) -> Sending:
        row = delivery.owed(
            one, None, channel=channel, in_place=True, again=0, settle=settle, now=self.now
        )
        return Sending(alert=one, delivery=row)

    def told(self, channel: str) -> list[str]:
        return [one.key for one in self.channels[channel].told]


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    first = made.channels
    yield made
    for channel in [*first.values(), *made.channels.values()]:
        channel.gate.set()
    assert made.notifier.stop(60)


def noted(site: Site, channel: str, state: str) -> Callable[[], bool]:
    return lambda: any(n.channel == channel and n.state == state for n in site.notes)


def test_every_channel_is_told_and_it_is_noted(site: Site) -> None:
    site.owe(alert("1"), alert("2"))
    eventually(lambda: len(site.notes) == 4)
    assert site.told("a") == site.told("b") == ["incident:1", "incident:2"]
    assert {(n.state, n.told_state) for n in site.notes} == {("told", "firing")}


def test_channel_that_hangs_holds_no_other_up(site: Site) -> None:
    site.channels["a"].gate.clear()
    site.owe(alert())
    eventually(noted(site, "b", "told"))
    assert site.told("a") == []


def test_plan_that_is_older_than_the_last_delivery_tells_nothing_twice(site: Site) -> None:
    site.owe(alert())
    eventually(noted(site, "a", "told"))
    eventually(noted(site, "b", "told"))
    site.owe(alert(), alert("2"))
    eventually(lambda: "incident:2" in site.told("a"))
    assert site.told("a") == ["incident:1", "incident:2"]


def test_what_another_process_told_meanwhile_is_told_again_here(site: Site) -> None:
    site.owe(alert(), channels="a")
    eventually(noted(site, "a", "told"))
    site.notifier.forget()
    site.owe(alert(), channels="a")
    eventually(lambda: len(site.told("a")) == 2)


def test_newer_plan_takes_the_place_of_what_was_owed(site: Site) -> None:
    site.owe(alert("late"), channels="a", settle=HOUR)
    site.owe(alert("2"), channels="a")
    eventually(lambda: site.told("a") == ["incident:2"])
    site.now += 2 * HOUR
    site.owe(alert("3"), channels="a")
    eventually(lambda: site.told("a") == ["incident:2", "incident:3"])


def test_failure_is_noted_and_tried_again_when_it_is_due(site: Site) -> None:
    site.channels["a"].broken = DeliveryFailed("503")
    site.owe(alert(), channels="a")
    eventually(noted(site, "a", "owed"))
    (row,) = site.notes
    assert (row.tries, row.error) == (1, "503")
    site.channels["a"].broken = None
    site.now = row.not_before
    site.notifier.offer({"a": [Sending(alert=alert(), delivery=row)]})
    eventually(noted(site, "a", "told"))


def test_defect_of_a_channel_ends_no_thread(site: Site) -> None:
    site.channels["a"].broken = ZeroDivisionError("secret-token")  # type: ignore[assignment]
    site.owe(alert(), channels="a")
    eventually(noted(site, "a", "owed"))
    assert site.notes[0].error == "ZeroDivisionError in the channel itself"


def test_delivery_is_noted_once_the_database_is_back_and_not_made_again(site: Site) -> None:
    site.away = True
    site.owe(alert(), channels="a")
    eventually(lambda: site.told("a"))
    site.owe(alert(), channels="a")
    site.away = False
    site.owe(alert(), alert("2"), channels="a")
    eventually(lambda: len(site.notes) == 2)
    assert site.told("a") == ["incident:1", "incident:2"]


def test_note_that_cannot_be_stored_ends_no_thread_and_holds_up_no_other(site: Site) -> None:
    site.poison = "incident:bad"
    with capture_logs() as lines:
        site.owe(alert("bad"), alert("2"), channels="a")
        eventually(noted(site, "a", "told"))
        eventually(lambda: site.refused > 3, "it is tried again")
        site.owe(alert("3"), channels="a")
        eventually(lambda: [n.alert_key for n in site.notes] == ["incident:2", "incident:3"])
        assert {x["action"] for x in lines} >= {"note_failed"}
        site.poison = ""
        eventually(lambda: site.notes[-1].alert_key == "incident:bad")
    assert site.told("a") == ["incident:bad", "incident:2", "incident:3"], "told once each"


def test_defect_of_the_thread_itself_does_not_end_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, broken = delivery.sent, [ZeroDivisionError(), ZeroDivisionError()]

    def sent(*args: Any, **more: Any) -> Delivery:
        if broken:
            raise broken.pop()
        return real(*args, **more)

    monkeypatch.setattr(delivery, "sent", sent)
    site.owe(alert(), channels="a")
    eventually(lambda: not broken or site.owe(alert("1", title=str(len(broken))), channels="a"))
    site.owe(alert("2"), channels="a")
    eventually(noted(site, "a", "told"))


def test_channel_is_told_by_one_thread_at_a_time_over_a_reload(site: Site) -> None:
    old = site.channels["a"]
    old.gate.clear()
    site.owe(alert(), channels="a")
    eventually(lambda: old.busy)
    first = site.notifier
    site.reload(b=Recorder())
    new = Recorder()
    site.reload(a=new, b=Recorder())
    site.owe(alert(), alert("2"))
    eventually(noted(site, "b", "told"), "another channel is told meanwhile")
    assert first.threads["a"].alive
    assert new.told == []
    old.gate.set()
    eventually(lambda: new.told)
    assert [a.key for a in old.told] == ["incident:1"]
    eventually(lambda: sum(n.channel == "a" for n in site.notes) == 2)
    assert [a.key for a in new.told] == ["incident:2"], "what the old thread told is known"
    assert not first.threads["a"].alive


def test_what_the_old_thread_could_not_note_is_noted_by_the_new_one(site: Site) -> None:
    site.away = True
    site.owe(alert(), channels="a")
    eventually(lambda: site.told("a"))
    site.reload(a=Recorder())
    site.owe(alert(), channels="a")
    site.away = False
    eventually(noted(site, "a", "told"))
    assert site.told("a") == []


def test_what_was_told_is_forgotten_once_a_plan_has_read_of_it(site: Site) -> None:
    thread = site.notifier.threads["a"]
    for i in range(5):
        site.owe(alert(str(i)), channels="a")
        eventually(lambda: len(site.notes) == i + 1)  # noqa: B023
    assert thread.remembered <= 2
    site.owe(channels="a")
    site.owe(channels="a")
    assert thread.remembered == 0


def test_nobody_is_told_by_a_process_that_may_not_lead_any_more(site: Site) -> None:
    site.channels["a"].gate.clear()
    site.owe(alert(), alert("2"), channels="a")
    eventually(lambda: site.channels["a"].busy)
    site.leads = False
    site.channels["a"].gate.set()
    eventually(noted(site, "a", "told"), "what was at work ends, and is noted")
    assert site.told("a") == ["incident:1"]
    site.leads = True
    eventually(lambda: site.told("a") == ["incident:1", "incident:2"])


def test_channel_that_refuses_everything_is_not_asked_for_each_of_many_alerts(site: Site) -> None:
    site.channels["a"].broken = DeliveryFailed("401", retriable=False)
    site.owe(*(alert(str(i)) for i in range(500)), channels="a")
    site.owe(*(alert(str(i)) for i in range(500)))
    eventually(lambda: sum(n.channel == "b" for n in site.notes) == 500)
    eventually(lambda: sum(n.channel == "a" for n in site.notes) == delivery.FAILING_TRIES)


def test_one_alert_that_is_refused_holds_no_other_up(site: Site) -> None:
    real = site.channels["a"].send

    def picky(one: Alert, *, seconds: float) -> None:
        if one.model == "bad":
            raise DeliveryFailed("400", retriable=False)
        real(one, seconds=seconds)

    site.channels["a"].send = picky  # type: ignore[method-assign]
    site.owe(*(alert(str(i), model="bad" if i % 2 else "m") for i in range(40)), channels="a")
    eventually(lambda: len(site.notes) == 40)
    assert len(site.told("a")) == 20
