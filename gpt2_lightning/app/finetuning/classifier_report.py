"""Messages of a classification run: its data before training, the evaluation afterwards."""

from __future__ import annotations

import logging

from gpt2_lightning.app.config.overrides import command
from gpt2_lightning.app.finetuning.best import load_best
from gpt2_lightning.app.output.paths import display_path
from gpt2_lightning.app.run.job import Run
from gpt2_lightning.app.run.summary import list_files
from gpt2_lightning.checkpoints.label_task import LabelTask
from gpt2_lightning.data.classification.datamodule import LabelDataModule
from gpt2_lightning.evaluation import linear_baseline
from gpt2_lightning.evaluation.predictions import predict, report_of
from gpt2_lightning.label_kinds.reports.report import FILE

log = logging.getLogger(__name__)


def log_texts(data: LabelDataModule) -> None:
    """Log the number of texts of each part and class, and of truncated texts."""
    parts = {"to train on": data.train, "to validate": data.val, "to test": data.test}
    log.info("texts:  %s", ", ".join(f"{len(part):,} {use}" for use, part in parts.items()))
    if data.classes:
        counts = data.class_counts().tolist()
        log.info("        %s", ", ".join(f"{n:,} {name}" for name, n in zip(data.classes, counts, strict=True)))
    for use, part in parts.items():
        if cut := part.texts.n_cut:
            share = 100 * cut / len(part)
            cut_texts = f"1 text {use} is" if cut == 1 else f"{cut:,} texts {use} are"
            log.info("        %s cut at %d tokens (%.1f %%)", cut_texts, data.block_size, share)


def evaluate(run: Run, data: LabelDataModule, labels: LabelTask) -> None:
    """Evaluate the best weights and a linear baseline on the test part, or on the validation part if there is none."""
    name, part = ("test", data.test) if len(data.test) else ("validation", data.val)
    outputs = predict(load_best(run), part.texts, labels.kind, data.micro_batch_size)
    title = f"{run.folder.parent.name}: the {name} part, {len(part):,} texts"
    linear = None
    if linear_baseline.available():
        texts = [row.text for row in part.rows]
        linear = linear_baseline.linear_outputs(labels.kind, labels.labels, data.train.rows, data.val.rows, texts)
    report = report_of(part.rows, outputs, labels, linear)
    report.write(title, run.folder)
    log.info("")
    log.info(
        "done: %.1f epochs; the best weights on the %s part of %s texts:", data.epochs_seen, name, f"{len(part):,}"
    )
    for metric, estimate in report.headline.items():
        log.info("  %-16s %s", metric.replace("_", " "), estimate)
    for metric, estimate in (report.linear.headline if report.linear else {}).items():
        log.info("  %-16s %s, of a linear model of TF-IDF features", metric.replace("_", " "), estimate)
    if not report.linear:
        log.info("  for a linear baseline beside them: pip install 'gpt2-lightning[%s]'", linear_baseline.EXTRA)
    log.info("  %-16s %s", "report", f"{display_path(run.folder)}/{FILE}")
    list_files(run)
    where = display_path(run.folder)
    log.info("\nfor more: %s", command("predict", f"checkpoint={where}", "text=…"))
    log.info("          %s", command("convert", f"source={where}", "target=FOLDER"))
