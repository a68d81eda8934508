"""Answers of commands: what exit codes say of the question, by command. ``docs/commands.md`` shows
them, and a test compares them with the code."""

from __future__ import annotations

from collections.abc import Mapping

from redistill.workers.exit_codes import ExitCode

__all__ = ["ANSWERS"]

ANSWERS: Mapping[str, Mapping[ExitCode, str]] = {
    "demo": {ExitCode.REFUSED: "something of the story did not happen"},
    "run stream": {ExitCode.STUCK: "its watchdog ended it: start it again"},
    "register": {
        ExitCode.REFUSED: "its first release is refused",
        ExitCode.NOT_IN_TIME: "the repair worker did not publish its first release in time",
    },
    "add": {
        ExitCode.REFUSED: "a gate failed, or these bytes serve already",
        ExitCode.UNDECIDED: "too few labelled rows to judge",
        ExitCode.NEEDS_PERSON: "trusted rows cannot decide: the text says what you can do",
    },
    "publish": {
        ExitCode.REFUSED: "the version did not pass its gates, is barred, or its files are gone",
        ExitCode.NOT_IN_TIME: "the repair worker did not do it in time; nothing was changed",
    },
    "rollback": {
        ExitCode.REFUSED: "nothing that can serve was published before",
        ExitCode.NOT_IN_TIME: "the repair worker did not do it in time; nothing was changed",
    },
    "unbar": {ExitCode.REFUSED: "these bytes are not barred"},
    "recompress": {
        ExitCode.REFUSED: "with `--wait`: the candidate was rejected, or the job cancelled",
        ExitCode.UNDECIDED: "with `--wait`: the job waits for labels, or they did not come",
        ExitCode.NEEDS_PERSON: "with `--wait`: the job needs a person",
        ExitCode.NOT_IN_TIME: "with `--wait`: the job is not over after `--timeout`",
    },
    "compress": {
        ExitCode.REFUSED: "the student that was chosen fails a gate",
        ExitCode.UNDECIDED: "the trusted rows are too few to say whether it passes",
    },
    "gate": {
        ExitCode.REFUSED: "a gate failed",
        ExitCode.UNDECIDED: "the rows are too few to say yes or no",
    },
    "alerts test": {ExitCode.REFUSED: "a channel was not told"},
    "label import": {ExitCode.REFUSED: "rows were rejected; the others were sent"},
    "topics apply": {
        ExitCode.REFUSED: "topics differ from what is needed, or with `--dry-run` are missing"
    },
    "doctor": {ExitCode.REFUSED: "a check fails; warnings alone exit with 0"},
    "check-history": {ExitCode.REFUSED: "an invariant is broken"},
}
