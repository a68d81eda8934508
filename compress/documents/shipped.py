"""Documents of a release: model card, gate report, lineage and bill of materials, beside the model
file. None of them holds a row, or a value of a column but names of slices and groups."""

from __future__ import annotations

from pathlib import Path

from redistill.compress.documents import bom, gate_report, lineage, markdown, model_card
from redistill.compress.plan import DOCUMENTS, DataSource, JobSpec, Report
from redistill.compress.recipes import RECIPES

__all__ = ["documents"]

CARD, CARD_DATA = f"{DOCUMENTS}/MODEL_CARD.md", f"{DOCUMENTS}/model_card.json"
GATES, LINEAGE = f"{DOCUMENTS}/gate_report.html", f"{DOCUMENTS}/lineage.json"
BILL = f"{DOCUMENTS}/bom.cdx.json"


def documents(
    folder: Path,
    job: JobSpec,
    report: Report,
    *,
    model: Path,
    trained_on: tuple[DataSource, ...] = (),
    labels_in_loss: bool | None = None,
) -> dict[str, bytes]:
    """Everything that is written about a candidate, by its name in the release.

    Parameters
    ----------
    folder
        Of the job: its rows and models are hashed, and nothing else is read of them.
    report
        The job's own.
    model
        The candidate's ONNX file.
    trained_on, labels_in_loss
        What the making noted; nothing where it was not made here.
    """
    told = lineage.gather(
        folder, job, report, model=model, trained_on=trained_on, labels_in_loss=labels_in_loss
    )
    recipe = RECIPES.get(report.recipe_name or "")
    card = model_card.gather(job, report, told, made_by=recipe.told if recipe else None)
    return {
        CARD: markdown.card(card).encode(),
        CARD_DATA: model_card.to_json(card),
        GATES: gate_report.page(report).encode(),
        LINEAGE: lineage.to_json(told),
        BILL: bom.bill(card, told),
    }
