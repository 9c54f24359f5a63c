"""A linear baseline for classifiers: TF-IDF features and a linear model, by scikit-learn."""

from __future__ import annotations

import math
import warnings
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2_lightning.data.classification.batches import LabeledSet
from gpt2_lightning.label_kinds import LabelKind

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
    kind: LabelKind, n_labels: int, train: LabeledSet, val: LabeledSet, test: LabeledSet
) -> NDArray[np.float32]:
    """Fit a linear model of word unigrams and bigrams, weighted by TF-IDF, and compute its outputs.

    The model is logistic regression for one class per text, one such model for each class if several may apply, and
    ridge regression for numbers.

    Args:
        kind: label kind of the rows.
        n_labels: number L of classes; 0 for numbers.
        train: rows to fit the model to.
        val: rows that determine the regularization; without any, it is 10.
        test: N rows to predict.

    Returns:
        Probabilities (N, L), or numbers (N,), as `LabelKind.outputs`.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline

    step = math.ceil(len(train) / TRAINING_ROWS)
    texts, targets = [row.text for row in train.rows[::step]], train.labels[::step].numpy()
    models = []
    for strength in STRENGTHS if len(val) else (10.0,):
        # Single characters and punctuation are words, too, so that no text is without any.
        features = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+|[^\w\s]|\s+")
        models.append(make_pipeline(features, _linear_model(kind, n_labels, strength)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes without rows of one kind, and fits that need more iterations
        for model in models:
            model.fit(texts, targets)
        score = {id(m): m.score([row.text for row in val.rows], val.labels.numpy()) for m in models if len(val)}
    best = max(models, key=lambda model: score.get(id(model), 0.0))
    unseen = [row.text for row in test.rows]
    if not n_labels:
        return np.asarray(best.predict(unseen), dtype=np.float32)
    found = np.asarray(best.predict_proba(unseen), dtype=np.float32)
    if not kind.is_exclusive:
        return found[:, -n_labels:]  # of a single class, its complement comes first
    outputs = np.zeros((len(test), n_labels), dtype=np.float32)
    outputs[:, best.classes_] = found
    return outputs


def _linear_model(kind: LabelKind, n_labels: int, strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.multiclass import OneVsRestClassifier

    if not n_labels:
        return Ridge(alpha=1 / strength)
    logistic = LogisticRegression(C=strength, max_iter=1000)
    return logistic if kind.is_exclusive else OneVsRestClassifier(logistic)
