"""Model card of a converted model, with the metrics of its training run."""

from __future__ import annotations

from pathlib import Path

from gpt2_lightning.checkpoints.folder import BEST, run_of
from gpt2_lightning.data.instruction.templates import KIND as INSTRUCT
from gpt2_lightning.data.instruction.templates import Template, template_of
from gpt2_lightning.evaluation.language_metrics import perplexity
from gpt2_lightning.huggingface.label_head import LabelHead
from gpt2_lightning.huggingface.model_card import Card
from gpt2_lightning.huggingface.weights import dtype_name
from gpt2_lightning.inspection.curves.loss_curve import read_points
from gpt2_lightning.label_kinds import KINDS
from gpt2_lightning.pretrained.loaded_model import LoadedModel

_LOSSES = {"train/loss": "training loss", "val/loss": "validation loss"}


def card_of(source: LoadedModel, name: str, head: LabelHead | None) -> Card:
    """Create the card of a model.

    Args:
        source: model to describe.
        name: name of the model in the card.
        head: head of a classifier; None for a language model.
    """
    run = None if source.checkpoint is None else run_of(source.checkpoint)
    figures = {} if run is None or source.step is None else _figures(run, source.step, head)
    report = report_of(run) if run and head and source.checkpoint and source.checkpoint.name == BEST else ""
    measured_in = dtype_name(source.model.wte.weight.dtype)
    return Card(name, source.run_config, figures, head, report, written_question(source) or "", measured_in)


def written_question(source: LoadedModel) -> str | None:
    """Render a question with the model's template; None if the model was not trained on instructions."""
    template = trained_template(source)
    return None if template is None else template.prompt("QUESTION")


def trained_template(source: LoadedModel) -> Template | None:
    """Return the template of the model; None if it was not trained on instructions."""
    return template_of(source.task) if source.task.get("kind") == INSTRUCT else None


def _figures(run: Path, step: int, head: LabelHead | None) -> dict[str, str]:
    """Return the metrics of a run at a step, formatted."""
    from gpt2_lightning.training.loggers.csv_logger import FILE as METRICS

    if not (run / METRICS).is_file():
        return {}

    def at_step(key: str) -> float | None:
        return dict(zip(*read_points(run / METRICS, key), strict=True)).get(step)

    figures = {"optimizer steps": f"{step:,}"}
    if (tokens := at_step("tokens")) is not None:
        figures["tokens trained on"] = f"{tokens:,.0f}"
    per = ", nats per token" if head is None else ""
    of_labels = {} if head is None else KINDS[head.kind].metric_names
    names = {key: f"{name}{per}" for key, name in _LOSSES.items()}
    names |= {f"val/{key}": f"validation {name}" for key, name in of_labels.items()}
    figures |= {name: f"{value:.4f}" for key, name in names.items() if (value := at_step(key)) is not None}
    if head is None and (loss := at_step("val/loss")) is not None:
        figures["validation perplexity, per token"] = f"{perplexity(loss):.2f}"
    return figures


def report_of(run: Path) -> str:
    """Return the metrics in a classifier's report: its text before the first plot."""
    from gpt2_lightning.label_kinds.reports.report import FILE as REPORT

    if not (run / REPORT).is_file():
        return ""
    text = (run / REPORT).read_text(encoding="utf-8")
    lines = text.partition("\n![")[0].rstrip().splitlines()
    while lines and (lines[-1].startswith("#") or not lines[-1]):
        del lines[-1]
    return "\n".join(f"### {line.lstrip('# ')}" if line.startswith("#") else line for line in lines)
