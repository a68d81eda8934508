"""Bill of materials of a model file, CycloneDX 1.6 (ML-BOM): the model with its card, what it was
made from, and the libraries that made it. Pure; the same card and lineage give the same bytes.

References
----------
https://cyclonedx.org/docs/1.6/json/; ECMA-424.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

from redistill.compress.documents.lineage import Ancestor, Lineage
from redistill.compress.documents.model_card import Figure, ModelCard
from redistill.compress.plan import DataSource

__all__ = ["bill"]

SPEC = "1.6"
NAMESPACE = uuid.UUID("6f1d2b1e-6a54-5d0f-9a6e-3f6f2f1c7b11")
"""Of the serial numbers: one made of the model's hash is the same whenever it is made."""
PROPERTY = "redistill:"
MODEL, TEACHER, PARENT = "model", "teacher", "parent"


def bill(card: ModelCard, lineage: Lineage) -> bytes:
    """The bill as JSON, with sorted keys.

    Parameters
    ----------
    card, lineage
        Of the same file.
    """
    libraries = [_library(n, v) for n, v in sorted(lineage.libraries.items()) if v is not None]
    own = _library("redistill", lineage.code.version)
    own["properties"] = _properties({"source-sha256": lineage.code.sha256})
    data = [_data(s, f"data-{k}") for k, s in enumerate(_sources(lineage))]
    components: list[dict[str, Any]] = [own, *libraries, *data]
    if lineage.teacher is not None:
        components.append(_ancestor(lineage.teacher, f"{lineage.model} teacher", TEACHER))
    made_with = sorted(c["bom-ref"] for c in components)
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC,
        "serialNumber": f"urn:uuid:{uuid.uuid5(NAMESPACE, lineage.sha256)}",
        "version": 1,
        "metadata": {
            "tools": {"components": [{k: own[k] for k in ("type", "name", "version")}]},
            "component": _model(card, lineage),
        },
        "components": components,
        "dependencies": [
            {"ref": MODEL, "dependsOn": made_with},
            *({"ref": ref} for ref in made_with),
        ],
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _model(card: ModelCard, lineage: Lineage) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": MODEL,
        "name": lineage.model,
        "version": lineage.sha256[:12],
        "hashes": _hashes(lineage.sha256),
        "modelCard": _card(card, lineage),
        "properties": _properties(_facts(lineage)),
    }
    if lineage.parent is not None:
        component["pedigree"] = {"ancestors": [_ancestor(lineage.parent, lineage.model, PARENT)]}
    if card.details.license:
        component["licenses"] = [{"license": {"name": card.details.license}}]
    if card.details.contact:
        component["authors"] = [{"name": card.details.contact}]
    return component


def _facts(lineage: Lineage) -> dict[str, str]:
    facts = {
        "variant": lineage.variant,
        "recipe": lineage.recipe,
        "seed": str(lineage.seed),
        "policy-sha256": lineage.policy_sha256,
        "python": lineage.python,
        "machine": lineage.machine,
        "cpu-flags": " ".join(lineage.cpu_flags),
    }
    return {name: value for name, value in facts.items() if value}


def _card(card: ModelCard, lineage: Lineage) -> dict[str, Any]:
    made = bool(lineage.training)
    parameters: dict[str, Any] = {
        "task": "classification",
        "datasets": [{"ref": f"data-{k}"} for k, _ in enumerate(_sources(lineage))],
        "inputs": [{"format": f"float32 {name}"} for name in card.details.inputs],
        "outputs": [{"format": f"score of class {name}"} for name in card.details.outputs],
    }
    if made:
        parameters["approach"] = {"type": "supervised"}
    if card.details.kind:
        parameters["modelArchitecture"] = card.details.kind
    told: dict[str, Any] = {
        "modelParameters": parameters,
        "quantitativeAnalysis": {
            "performanceMetrics": [_metric(f) for f in card.quantitative.measured]
        },
    }
    if considerations := _considerations(card):
        told["considerations"] = considerations
    return told


def _considerations(card: ModelCard) -> dict[str, Any]:
    use, caveats = card.intended_use, card.caveats
    limits = [use.out_of_scope, caveats.from_owner, *caveats.warnings]
    limits += [f"gate {gate} was waived: {who}" for gate, who in caveats.waived.items()]
    found: dict[str, Any] = {
        "users": [use.primary_users] if use.primary_users else [],
        "useCases": [use.primary_uses] if use.primary_uses else [],
        "technicalLimitations": [told for told in limits if told],
        "ethicalConsiderations": [{"name": card.ethical_considerations}]
        if card.ethical_considerations
        else [],
        "fairnessAssessments": [{"groupAtRisk": g.key} for g in card.quantitative.groups],
    }
    return {name: told for name, told in found.items() if told}


def _metric(figure: Figure) -> dict[str, Any]:
    m = figure.measure
    part = f"{figure.rows} rows, {figure.part or 'all'}, n={m.n}"
    told: dict[str, Any] = {
        "type": f"{figure.name} ({figure.model})",
        "value": repr(m.value),
        "slice": part,
    }
    if m.low is not None and m.high is not None:
        told["confidenceInterval"] = {"lowerBound": repr(m.low), "upperBound": repr(m.high)}
    return told


def _sources(lineage: Lineage) -> Iterator[DataSource]:
    seen = set()
    for source in (*lineage.trained_on, *lineage.judged_on):
        if source not in seen:
            seen.add(source)
            yield source


def _data(source: DataSource, ref: str) -> dict[str, Any]:
    facts = {"rows": str(source.rows), "first": source.first, "last": source.last}
    return {
        "type": "data",
        "bom-ref": ref,
        "name": source.role,
        "hashes": _hashes(source.sha256),
        "data": [{"type": "dataset", "name": source.role}],
        "properties": _properties({n: v for n, v in facts.items() if v}),
    }


def _ancestor(ancestor: Ancestor, name: str, ref: str) -> dict[str, Any]:
    return {
        "type": "machine-learning-model",
        "bom-ref": ref,
        "name": name,
        "version": ancestor.version or ancestor.sha256[:12],
        "hashes": _hashes(ancestor.sha256),
    }


def _library(name: str, version: str) -> dict[str, Any]:
    purl = f"pkg:pypi/{name}@{version.replace('+', '%2B')}"
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def _hashes(sha256: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": sha256}]


def _properties(facts: dict[str, Any]) -> list[dict[str, str]]:
    return [{"name": PROPERTY + name, "value": str(value)} for name, value in facts.items()]
