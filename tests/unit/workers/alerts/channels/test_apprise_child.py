from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from receivers import answers, receiver

from redistill.workers.alerts.channels import apprise_child
from redistill.workers.alerts.channels.apprise_child import withheld

BODIES = {"text": "plain", "markdown": "**marked**", "html": "<p>html</p>"}


@pytest.mark.parametrize(
    "said",
    [
        "Failed to send to https://hooks.example/T0AAAA/B0BBBB/cccc: 404",
        "user me@shop.example, password p@ss!word or p%40ss%21word",
    ],
)
def test_no_piece_of_the_url_is_repeated(said: str) -> None:
    url = "some://me%40shop.example:p%40ss%21word@hooks.example/T0AAAA/B0BBBB/cccc?key=dddd"
    shown = withheld(said, url)
    for piece in ("T0AAAA", "B0BBBB", "cccc", "p@ss", "p%40ss", "hooks", "me@shop"):
        assert piece not in shown


class Service:
    def __init__(self, notify_format: Any) -> None:
        self.notify_format = notify_format


@pytest.mark.parametrize(
    ("formats", "form"),
    [("text", "text"), (("markdown", "text"), "markdown"), ("html", "html"), ("other", "text"),
     (("other", "html"), "html"), ((), "text")],
)  # fmt: skip
def test_body_is_in_the_form_of_the_service(formats: Any, form: str) -> None:
    assert apprise_child._fitting(Service(formats), BODIES) == (form, BODIES[form])


@pytest.mark.parametrize(("status", "told"), [(200, True), (500, False)])
def test_one_line_says_how_it_went(status: int, told: bool) -> None:
    with receiver(answers(status)) as server:
        url = f"json://127.0.0.1:{server.port}/secret-path"
        message = {"url": url, "title": "t", "bodies": BODIES, "type": "info"}
        done = subprocess.run(
            [sys.executable, "-m", apprise_child.__name__],
            input=json.dumps(message), capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
    said = json.loads(done.stdout)
    assert done.stdout.count("\n") == 1
    assert said["told"] is told
    assert "secret-path" not in done.stdout
    assert server.requests[0].json["message"] == "plain"
