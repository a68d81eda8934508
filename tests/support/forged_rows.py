"""An installation whose rows somebody changes by SQL: what it serves, what is refused, and how rows are
forged."""

from __future__ import annotations

import json
from pathlib import Path

from release_kit import FakeClock, Installation, install
from tuf.api.metadata import Metadata, Timestamp

from redistill.workers.errors import SigningRefused
from redistill.workers.releases import adoption, release_requests
from redistill.workers.releases import keys as keyring
from redistill.workers.releases.repository_writer import RepositoryWriter
from redistill.workers.releases.roles import Lifetimes
from redistill.workers.store import audit, signing_refusal

HOUR = 3_600.0
LIVES = Lifetimes(root=24 * 365, targets=24 * 30, snapshot=24 * 7, timestamp=24)


def make(folder: Path, url: str) -> Installation:
    inst = install(folder / "home", url, lifetimes=LIVES)
    inst.register("credit")
    inst.add("credit", "v1", 1, "baseline")
    inst.add("credit", "v2", 2)
    inst.add("credit", "v3", 3)
    inst.add("credit", "bad", 4, passed=False)
    for version in ("v1", "v2"):
        inst.publish("credit", version)
    inst.rollback("credit")
    return inst


def unanchored(inst: Installation) -> None:
    """Sign the timestamp as an older redistill does."""
    path = inst.layout.metadata / "timestamp.json"
    stamp = Metadata[Timestamp].from_bytes(path.read_bytes())
    stamp.signed.unrecognized_fields.clear()
    stamp.sign(keyring.load(inst.layout.keys, passphrase=None).timestamp)
    stamp.to_file(str(path))


def take_in(inst: Installation) -> adoption.Adopted:
    """What `redistill db upgrade` does."""
    with inst.database.begin() as conn:
        return adoption.take_in(conn, inst.layout, actor="cli:ann", now=inst.now)


def files(inst: Installation) -> dict[str, bytes]:
    """What clients read of metadata and pointers."""
    folder = inst.layout.repository
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in folder.rglob("*.json")
        if "manifest" not in p.name
    }


def sql(inst: Installation, *statements: str) -> None:
    """What somebody does who may write every table."""
    with inst.database.begin() as conn:
        for statement in statements:
            assert conn.exec_driver_sql(statement).rowcount > 0, statement


def serves(inst: Installation) -> str:
    """The version that the signed pointer names."""
    folder = inst.layout.metadata
    newest = max(folder.glob("*.m-credit.json"), key=lambda p: int(p.name.split(".")[0]))
    listed = json.loads(newest.read_bytes())["signed"]["targets"]["credit/pointer.json"]
    name = f"{listed['hashes']['sha256']}.pointer.json"
    return str(json.loads((inst.layout.targets / "credit" / name).read_bytes())["stable"])


def told(inst: Installation) -> signing_refusal.SigningRefusal | None:
    with inst.database.read() as conn:
        return signing_refusal.get(conn)


def ask(inst: Installation, version: str = "v3") -> str:
    """An operator asks for a release."""
    with inst.database.begin() as conn:
        body = {"version": version, "reason": "new quarter"}
        return release_requests.submit(
            conn, "publish", "credit", body, actor="cli:ann", now=inst.now
        )


def answer(inst: Installation, request_id: str) -> release_requests.RequestResult:
    with inst.database.read() as conn:
        result = release_requests.result_of(conn, request_id)
    assert result is not None
    return result


def tick(inst: Installation, seconds: float = 6.0) -> None:
    assert isinstance(inst.clock, FakeClock)
    inst.clock.advance(seconds)
    inst.writer.tick()


def restarted(inst: Installation) -> Installation:
    """Another process holds the repository."""
    inst.writer.close()
    inst.writer = RepositoryWriter(
        inst.database, inst.layout, holder="other", clock=inst.clock, lifetimes=LIVES
    )
    return inst


def refused(inst: Installation, why: str) -> None:
    """Nothing is signed, and it is told why."""
    problem = inst.writer.problem
    assert isinstance(problem, SigningRefused), problem
    assert why in str(problem)
    said = told(inst)
    assert said is not None
    assert (why in said.why, said.until) == (True, None)


COLUMNS = "intent_id, kind, model, body, actor, created_at, done_at, result, mac"


def forge(inst: Installation, mac: str = "''", *, body: str = '{"version":"v3"}') -> None:
    sql(
        inst,
        f"INSERT INTO intents ({COLUMNS}) VALUES"
        f" ('forged','publish','credit','{body}','cli:ann',{inst.now},NULL,NULL,{mac})",
    )


def hash_now(inst: Installation, seq: int) -> str:
    with inst.database.read() as conn:
        return str(audit.hash_of(conn, seq))


def cut(inst: Installation, keep: int) -> None:
    """Take the newest entries away, and move the head back."""
    sql(
        inst,
        f"DELETE FROM audit WHERE seq > {keep}",
        f"UPDATE facts SET value = '{keep} {hash_now(inst, keep)}' WHERE name = 'audit_head'",
    )


GATE = '{"name":"fresh_e_value","value":999,"limit":1,"passed":true,"why":"all is well"}'
REPORT = f"""'{{"format":1,"gates":[{GATE}]}}'"""
CHANGES = {
    "report of what serves": (f"UPDATE versions SET report = {REPORT} WHERE version = 'v1'", "v1"),
    "policy hash": (f"UPDATE versions SET policy_sha256 = '{'0' * 64}' WHERE version = 'v1'", "v1"),
    "bytes": (f"UPDATE versions SET sha256 = '{'e' * 64}' WHERE version = 'v1'", "sha256"),
    "manifest": (f"UPDATE versions SET manifest_sha256='{'e' * 64}' WHERE version='v1'", "manifest"),
    "files": ("""UPDATE versions SET files = '{"model.onnx":{"sha256":"e","bytes":1}}'
        WHERE version = 'v1'""", "v1"),
    "decision": ("UPDATE versions SET gate_passed = NOT gate_passed WHERE version = 'v1'", "passed"),
    "version gone": ("DELETE FROM versions WHERE version = 'v1'", "is gone"),
    "pointer": ("UPDATE pointers SET stable = 'bad', epoch = epoch + 1", "in pointers"),
    "pointer's reason": ("UPDATE pointers SET reason = 'all is well'", "in pointers"),
    "pointer gone": ("DELETE FROM pointers", "in pointers"),
    "history": ("UPDATE pointer_history SET stable = 'v2' WHERE epoch = 3", "in pointer_history"),
    "history cut": ("DELETE FROM pointer_history WHERE epoch = 3", "in pointer_history"),
    "signed pointer": ("""UPDATE repository_roles SET version = version + 1,
        body = replace(body, '\\"stable\\":\\"v1\\"', '\\"stable\\":\\"bad\\"')
        WHERE role = 'm-credit'""", "m-credit"),
    "canary": ("""UPDATE repository_roles SET version = version + 1,
        body = replace(body, '\\"canary\\":null', '\\"canary\\":\\"bad\\"')
        WHERE role = 'm-credit'""", "m-credit"),
    "list of files": ("""UPDATE repository_roles SET version = version + 1,
        body = replace(body, '"files":{', '"files":{"credit/evil.onnx":["ee",1],')
        WHERE role = 'm-credit'""", "evil.onnx"),
    "model that is not": ("""UPDATE repository_roles SET version = version + 1,
        body = '{"models":["credit","evil"]}' WHERE role = 'targets'""", "evil"),
    "model left out": ("""UPDATE repository_roles SET version = version + 1,
        body = '{"models":[]}' WHERE role = 'targets'""", "credit, which has a pointer"),
    "role of nobody": ("""INSERT INTO repository_roles (role, version, expires_at, body)
        SELECT 'm-evil', 1, expires_at, body FROM repository_roles WHERE role = 'm-credit'""", "evil"),
    "root": ("""UPDATE repository_roles SET version = 2,
        body = replace(body, '"documents":[', '"documents":["{}",') WHERE role = 'root'""", "root"),
    "specification": ("UPDATE specs SET spec = '{\"gates\":{}}'", "in specs"),
    "far version": ("UPDATE repository_roles SET version = 9000000000 WHERE role = 'snapshot'",
        "far beyond"),
}  # fmt: skip

ENTRY = (
    "INSERT INTO versions SELECT model, 'evil', {sha256}, manifest_sha256, kind, 'candidate', files,"
    " report, gate_passed, policy_sha256, predecessor, NULL, created_at, NULL FROM versions"
    " WHERE version = 'v3'"
)
