"""``redistill register``: put models under watch, from ``model.toml`` or from the traffic seen so
far."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from redistill.modes import as_the_user_has_it
from redistill.workers.cli import common

if TYPE_CHECKING:
    from redistill.streams.store.database import Database
    from redistill.workers.models.registration import PreparedModel, StoredModel
    from redistill.workers.models.spec import ModelSpec
    from redistill.workers.onboarding.baseline import JudgedBaseline
    from redistill.workers.settings.settings import Settings

__all__ = ["app"]

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    help="Put a model under watch: from model.toml, or from the traffic seen so far.",
)


@app.command()
def register(
    what: list[str] = typer.Argument(
        ...,
        metavar="PATH",
        help="model.toml, or its folder; with --from-traffic a model's name.",
    ),
    from_traffic: bool = typer.Option(
        False,
        "--from-traffic",
        help="Learn the columns from the model's events and write NAME.toml for you to edit.",
    ),
    out: Path | None = typer.Option(
        None, "--out", help="Where --from-traffic writes the file; default: NAME.toml."
    ),
    distrust_past: bool = typer.Option(
        False,
        "--distrust-past",
        help="Where [labels] bound names sources for the first time: what they, or somebody in"
        " their name, said on the common topic until now counts no more. Default: it does.",
    ),
    dry_run: bool = typer.Option(
        False, "--dry-run", help="Check and measure everything, but store nothing."
    ),
    as_json: bool = typer.Option(False, "--json", help="One JSON document instead of sentences."),
) -> None:
    """Put models under watch.

    Reads model.toml and the files it names, checks all of them, measures how often the model is
    wrong on trusted rows, and says what that means: how large a drop is found after how many
    labels. Level "watch" needs nothing but a schema; "rollback" the model's ONNX file and trusted
    rows; "repair" a teacher and a reference as well. Doing it again with the same files changes
    nothing.

    \b
    redistill register model.toml
    redistill register credit --from-traffic
    """
    from redistill.workers.errors import UsageError
    from redistill.workers.models import spec_file

    if out is not None and (len(what) > 1 or not from_traffic):
        raise UsageError("--out is where --from-traffic writes the file of one model")
    settings = common.load()
    if from_traffic:
        learned = ((item, out or Path(f"{item}.toml")) for item in what)
        read = [_learn(settings, item, path, write=not dry_run) for item, path in learned]
    else:  # all of them before the first is stored: a wrong one leaves nothing half done
        read = [(spec_file.read(Path(p)), spec_file.outdated(Path(p))) for p in what]
    if distrust_past:
        _want_new_bound(settings, [spec for spec, _ in read])
    results = [
        _register(
            settings,
            spec,
            warnings,
            dry_run=dry_run,
            distrust_past=distrust_past,
            quiet=as_json,
        )
        for spec, warnings in read
    ]
    if as_json:
        common.print_json(results if len(results) > 1 else results[0])


def _learn(
    settings: Settings, name: str, path: Path, *, write: bool
) -> tuple[ModelSpec, tuple[str, ...]]:
    from dataclasses import replace

    from redistill.workers.errors import UsageError
    from redistill.workers.models import traffic
    from redistill.workers.models.spec_file import parse

    with common.opened(settings) as database, database.read() as conn:
        text, warnings = traffic.to_toml(traffic.look(conn, name))
    try:
        other = path.exists() and not (path.is_file() and path.read_bytes() == text.encode())
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}; use --out") from error
    if other:
        raise UsageError(
            f"{path} exists already: register it (`redistill register"
            f" {shlex.quote(str(path))}`), or write elsewhere with --out"
        )
    spec = replace(parse(text, path.absolute()), origin="traffic")
    if write:
        try:
            with as_the_user_has_it():
                path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{path} cannot be written: {error.strerror}; use --out") from error
        common.echo(f"wrote {path}: look it over", err=True)
    return spec, warnings


def _register(
    settings: Settings,
    spec: ModelSpec,
    warnings: tuple[str, ...],
    *,
    dry_run: bool,
    distrust_past: bool,
    quiet: bool,
) -> dict[str, Any]:
    from redistill.workers.models import explain, registered, registration
    from redistill.workers.store import queries

    published, stored = None, None
    later: tuple[str, ...] = ()
    with ExitStack() as stack:
        database = stack.enter_context(common.opened(settings))
        now, actor = database.clock(), common.actor()
        may_bind, doubts = _may_bind(database, settings, spec, now)
        first = None
        if spec.level != "watch" and not dry_run:
            first = _first_release(stack, database, settings, spec, now)
        with database.read() as conn:
            known = registered.known_files(conn, spec.name)
        prepared = registration.prepare(spec, settings, known=known)
        with database.read() as conn:
            traffic = queries.traffic(conn, spec.name, now)
            churn = queries.trusted_churn(conn, spec.name)
        said = explain.explain(prepared, settings, traffic, now=now, churn=churn)
        if not dry_run:
            judged = None if first is None else first(prepared)
            ends = _label_ends(settings) if may_bind and not distrust_past else None
            stored = registration.store(
                database, prepared, settings, actor=actor, now=now, label_ends=ends
            )
            later = _differences(database, prepared)
            if may_bind:
                later += (_bound_first(may_bind, distrust_past),)
            later += tuple(doubts)
            if judged is not None:
                published = _publish(database, settings, judged, actor)
                later += judged.report.warnings
    found = (*warnings, *prepared.warnings, *said.warnings, *later)
    if not quiet:
        _print(prepared, stored, (*said.sentences, *([published] if published else [])), found)
    return {
        "model": spec.name,
        "level": spec.level,
        "version": spec.model.version,
        "changed": None if stored is None else stored.changed,
        "revision": None if stored is None else stored.revision,
        "config_sha256": prepared.spec.config_sha256(),
        "base_error": None
        if prepared.base is None
        else {
            "rate": prepared.base.rate,
            "upper": prepared.base.upper,
            "n": prepared.base.n,
            "ordered": prepared.base.ordered,
        },
        "teacher_error": prepared.spec.measured.get("teacher_error"),
        "delays": said.delays,
        "published": published,
        "sentences": list(said.sentences),
        "warnings": list(found),
    }


def _want_new_bound(settings: Settings, specs: Iterable[ModelSpec]) -> None:
    """Refuse ``--distrust-past`` where it would do nothing: what counts already was taken in with
    the label of a bound source, or counts of everybody.

    Raises
    ------
    UsageError
        A model binds nothing, or bound its first sources before.
    """
    from redistill.workers.errors import UsageError
    from redistill.workers.models import registered

    with common.opened(settings) as database, database.read() as conn:
        for spec in specs:
            old = registered.spec_of(conn, spec.name)
            if not spec.labels.bound:
                raise UsageError(
                    f"--distrust-past does nothing for {spec.name}, which binds no source: name"
                    " those that you trust in [labels] bound"
                )
            if old is not None and old.labels.bound:
                raise UsageError(
                    f"--distrust-past does nothing for {spec.name}, which binds sources already"
                    f" ({', '.join(old.labels.bound)}): what was said before that is one with what"
                    " they said since. Send what is right to their topics (`redistill label import"
                    " FILE --bound`): the newest label of a source stands"
                )


def _may_bind(
    database: Database, settings: Settings, spec: ModelSpec, now: int
) -> tuple[tuple[str, ...], list[str]]:
    """Make sure that the sources that are bound now can be; those whose labels counted so far, and
    why those that are new may not be alone on their topics."""
    if not spec.labels.bound:
        return (), []
    from redistill.workers.models import binding, registered
    from redistill.workers.processes import topic_writers

    broker = settings.broker()
    with database.read() as conn:
        old = registered.spec_of(conn, spec.name)
        binding.check(conn, broker, old, spec, now=now)
    new = [s for s in spec.labels.bound if old is None or s not in old.labels.bound]
    return binding.first_bound(old, spec), topic_writers.doubts(broker, new)


def _label_ends(settings: Settings) -> dict[str, int]:
    """Where the common topic of labels ends."""
    from redistill.streams.monitor.label_trust import partition_key
    from redistill.workers.invariants.log_offsets import logs

    found = logs(settings.broker(), ["labels"])
    return {partition_key(x.topic_id, x.partition): x.end for x in found}


def _bound_first(sources: tuple[str, ...], distrust_past: bool) -> str:
    """What becomes of labels that were sent before."""
    names = ", ".join(sources)
    if distrust_past:
        return f"what was said in the name of {names} on the topic labels counts no more"
    return (
        f"what was said in the name of {names} on the topic labels until now counts as before; what"
        " is said there from now on does not: send labels with `bound=True`, or `label import"
        " --bound`. If somebody else may have spoken in that name, register with --distrust-past"
    )


def _first_release(
    stack: ExitStack, database: Database, settings: Settings, spec: ModelSpec, now: int
) -> Callable[[PreparedModel], JudgedBaseline] | None:
    """How the model's first release will be judged; ``None`` where it serves already.

    The process that judges loads while the files are read.
    """
    from redistill.workers.models import registration
    from redistill.workers.onboarding import baseline

    with database.read() as conn:
        if baseline.serves(conn, spec.name) is not None:
            return None
    baseline.check_keys(database, settings, now=now)
    child = stack.enter_context(baseline.start_child())

    def judge(prepared: PreparedModel) -> JudgedBaseline:
        registration.keep_files(prepared, settings)
        return baseline.judge(prepared.spec, settings, child, now=now)

    return judge


def _differences(database: Database, prepared: PreparedModel) -> tuple[str, ...]:
    from redistill.workers.onboarding import baseline

    with database.read() as conn:
        told = baseline.differs(conn, prepared.spec)
    return () if told is None else (told,)


def _publish(database: Database, settings: Settings, judged: JudgedBaseline, actor: str) -> str:
    from redistill.workers.cli.pointer import writer_of
    from redistill.workers.onboarding import baseline

    writer = writer_of(settings, database, holder=f"{settings.instance}-register")
    try:
        return baseline.publish(
            database,
            writer,
            judged,
            actor=actor,
            now=database.clock(),
            wait_seconds=settings.command_wait_seconds,
        )
    finally:
        writer.close()


def _print(
    prepared: PreparedModel,
    stored: StoredModel | None,
    sentences: tuple[str, ...],
    warnings: tuple[str, ...],
) -> None:
    spec = prepared.spec
    if stored is None:
        done = "checked, nothing was stored"
    elif not stored.changed:
        done = f"unchanged, revision {stored.revision}"
    elif stored.was is None:
        done = "registered"
    else:
        done = f"changed, revision {stored.revision}"
    common.echo(f"{spec.name}: {done} (level {spec.level})")
    for sentence in sentences:
        common.echo(f"  {sentence}")
    for warning in warnings:
        common.echo(f"  warning: {warning}")
