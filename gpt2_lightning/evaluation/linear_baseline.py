"""A linear baseline for classifiers: TF-IDF features and a linear model, by scikit-learn."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2_lightning.label_kinds import LabeledText, LabelKind

EXTRA = "baseline"
"""Optional dependencies of the project that contain scikit-learn."""
TRAINING_ROWS = 50_000
"""Limit of training rows, for bounded time; more are reduced to evenly spaced rows."""
STRENGTHS = (1.0, 10.0, 100.0)
"""Inverse regularization strengths, of which the validation part determines one."""


def available() -> bool:
    """Whether scikit-learn is installed."""
    return find_spec("sklearn") is not None


def linear_outputs(
    kind: LabelKind,
    labels: Sequence[str],
    train: Sequence[LabeledText],
    val: Sequence[LabeledText],
    texts: Sequence[str],
) -> NDArray[np.float32]:
    """Fit a linear model of word unigrams and bigrams, weighted by TF-IDF, and compute its outputs.

    The model is logistic regression for one class per text, one such model for each class if several may apply, and
    ridge regression for numbers.

    Args:
        kind: label kind of the rows.
        labels: names of the L classes; empty for numbers.
        train: rows to fit the model to.
        val: rows that determine the regularization; without any, it is 10.
        texts: N texts to predict.

    Returns:
        Probabilities (N, L), or numbers (N,), as `LabelKind.outputs`.

    Raises:
        UserError: if a row has an unknown class.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline

    rows = train[:: math.ceil(len(train) / TRAINING_ROWS)]
    models = []
    for strength in STRENGTHS if val else (10.0,):
        # Single characters and punctuation are words, too, so that no text is without any.
        features = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+|[^\w\s]|\s+")
        models.append(make_pipeline(features, _linear_model(kind, len(labels), strength)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes without rows of one kind, and fits that need more iterations
        for model in models:
            model.fit([row.text for row in rows], kind.targets(rows, labels).numpy())
        unseen, wanted = [row.text for row in val], kind.targets(val, labels).numpy()
        score = {id(model): model.score(unseen, wanted) for model in models if val}
    best = max(models, key=lambda model: score.get(id(model), 0.0))
    if not labels:
        return np.asarray(best.predict(texts), dtype=np.float32)
    found = np.asarray(best.predict_proba(texts), dtype=np.float32)
    if not kind.is_exclusive:
        return found[:, -len(labels) :]  # of a single class, its complement comes first
    outputs = np.zeros((len(texts), len(labels)), dtype=np.float32)
    outputs[:, best.classes_] = found
    return outputs


def _linear_model(kind: LabelKind, n_labels: int, strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.multiclass import OneVsRestClassifier

    if not n_labels:
        return Ridge(alpha=1 / strength)
    logistic = LogisticRegression(C=strength, max_iter=1000)
    return logistic if kind.is_exclusive else OneVsRestClassifier(logistic)
