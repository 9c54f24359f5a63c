"""Model card of a converted model, with the metrics of its training run and its results on benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gpt2_lightning.checkpoints.content import weights_hash
from gpt2_lightning.checkpoints.folder import BEST, evaluation_of, run_of
from gpt2_lightning.data.instruction.templates import KIND as INSTRUCT
from gpt2_lightning.data.instruction.templates import Template, template_of
from gpt2_lightning.evaluation.language_metrics import perplexity
from gpt2_lightning.evaluation.results.markdown import results_table
from gpt2_lightning.evaluation.results.results_file import FILE as RESULTS
from gpt2_lightning.evaluation.results.results_file import Results, read_results
from gpt2_lightning.evaluation.results.table import notes
from gpt2_lightning.huggingface.label_head import LabelHead
from gpt2_lightning.huggingface.model_card import Card
from gpt2_lightning.huggingface.weights import dtype_name
from gpt2_lightning.inspection.curves.loss_curve import read_points
from gpt2_lightning.label_kinds import KINDS
from gpt2_lightning.label_kinds.reports.report import literally
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
    results = results_of(source)
    sections = [report, "" if results is None else _benchmarks(results)]
    return Card(
        name,
        source.run_config,
        figures,
        head,
        "\n\n".join(section for section in sections if section),
        written_question(source) or "",
        dtype_name(source.model.wte.weight.dtype),
        {} if results is None else _model_index(results, name, head),
    )


def written_question(source: LoadedModel) -> str | None:
    """Render a question with the model's template; None if the model was not trained on instructions."""
    template = trained_template(source)
    return None if template is None else template.prompt("QUESTION")


def trained_template(source: LoadedModel) -> Template | None:
    """Return the template of the model; None if it was not trained on instructions."""
    return template_of(source.task) if source.task.get("kind") == INSTRUCT else None


def results_of(source: LoadedModel) -> Results | None:
    """Return the results on benchmarks that were measured with exactly these weights; None if there are none.

    Raises:
        UserError: if a file of results in the evaluation folder of the run cannot be read.
    """
    files = sorted(evaluation_of(Path(source.location)).parent.glob(f"*/{RESULTS}"))
    if not files:
        return None
    weights = weights_hash(source.model if source.score is None else source.classifier(), "sha256")
    found = [results for results in map(read_results, files) if results.model.weights == weights]
    merged = {name: result for results in found for name, result in results.benchmarks.items()}
    return Results(found[0].model, merged) if merged else None


def _benchmarks(results: Results) -> str:
    """Render the results of benchmarks as Markdown."""
    lines = [f"- {literally(note)}" for note in notes(results.benchmarks.values())]
    return "\n".join(["### Benchmarks", "", *results_table(results), "", *lines])


def _model_index(results: Results, name: str, head: LabelHead | None) -> dict[str, Any]:
    """Return the metadata from which the Hugging Face Hub shows results; shares are from 0 to 1.

    A part of the items is named as such, and a file of the user does not have the name of a data set on the Hub.
    """
    from huggingface_hub.repocard_data import EvalResult, eval_results_to_model_index

    task = "text-generation" if head is None else "text-classification"
    entries: list[dict[str, Any]] = []
    for result in results.benchmarks.values():
        settings = result.settings
        source = {} if settings.get("path") else settings.get("source") or {}
        is_part = settings.get("limit") is not None
        found = [
            EvalResult(
                task_type=task,
                dataset_type=source.get("hub") or result.name,
                dataset_name=f"{result.name}, {result.n_items:,} items" if is_part else result.name,
                dataset_config=source.get("config"),
                dataset_split=source.get("split") or settings.get("split"),
                dataset_revision=source.get("revision") if result.source.startswith("hf:") else None,
                dataset_args={"limit": settings["limit"]} if is_part else None,
                metric_type=metric.name,
                metric_name=metric.name,
                metric_value=metric.value,
            )
            for metric in result.metrics
        ]
        (index,) = eval_results_to_model_index(name, found)  # of all at once, it would merge those of one data set
        entries += index["results"]
    return {"model-index": [{"name": name, "results": entries}]}


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
