"""The linear baseline of a classifier, against scikit-learn by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gpt2_lightning.data.classification.batches import LabeledSet
from gpt2_lightning.data.classification.encoded_texts import EncodedTexts
from gpt2_lightning.evaluation import linear_baseline
from gpt2_lightning.label_kinds import KINDS, LabeledText
from gpt2_lightning.tokenizers import CharTokenizer

WORDS = ("good", "bad", "ugly")


def labeled(kind: str, n_rows: int, labels: tuple[str, ...], seed: int) -> LabeledSet:
    """Texts of random words, labeled with the words or their counts."""
    dice = np.random.default_rng(seed)
    rows = []
    for _ in range(n_rows):
        chosen = [WORDS[i] for i in dice.choice(3, size=dice.integers(1, 3), replace=False)]
        label = {"single": chosen[0], "multi": tuple(w for w in chosen if w in labels), "regression": len(chosen)}[kind]
        rows.append(LabeledText(f"{' '.join(chosen)} film !", label))
    texts = EncodedTexts([row.text for row in rows], CharTokenizer("abcdefghijklmnopqrstuvwxyz !"), 99)
    return LabeledSet(rows, texts, KINDS[kind].targets(rows, labels))


@pytest.mark.parametrize(
    ("kind", "labels"), [("single", WORDS), ("multi", WORDS), ("multi", ("ugly",)), ("regression", ())]
)
def test_outputs_rank_what_the_words_determine(kind: str, labels: tuple[str, ...]) -> None:
    train, val, test = (labeled(kind, n, labels, seed) for seed, n in enumerate((200, 50, 60)))
    outputs = linear_baseline.linear_outputs(KINDS[kind], len(labels), train, val, test)
    assert outputs.dtype == np.float32
    assert outputs.shape == ((60, len(labels)) if labels else (60,))
    report = KINDS[kind].report(test.rows, outputs, labels)
    if kind == "regression":
        assert report.headline["mae"].value < 0.1
    else:
        assert next(iter(report.headline.values())).value > (0.95 if kind == "multi" else 0.8)
    shuffled = LabeledSet(train.rows, train.texts, train.labels[torch.randperm(200)])
    worse = KINDS[kind].report(
        test.rows, linear_baseline.linear_outputs(KINDS[kind], len(labels), shuffled, val, test), labels
    )
    key, better = next(iter(report.headline.items()))
    assert (worse.headline[key].value < better.value) == (kind != "regression")


def test_probabilities_are_those_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    train, none, test = labeled("single", 40, WORDS, 0), labeled("single", 0, WORDS, 1), labeled("single", 7, WORDS, 2)
    monkeypatch.setattr(linear_baseline, "TRAINING_ROWS", 20)
    found = linear_baseline.linear_outputs(KINDS["single"], 3, train, none, test)
    features = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+|[^\w\s]|\s+")
    model = LogisticRegression(C=10.0, max_iter=1000).fit(
        features.fit_transform([row.text for row in train.rows[::2]]), [WORDS.index(r.label) for r in train.rows[::2]]
    )
    assert found == pytest.approx(model.predict_proba(features.transform([row.text for row in test.rows])), abs=1e-6)


def test_class_that_the_reduced_rows_lack_has_probability_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    train, val = labeled("single", 40, WORDS, 0), labeled("single", 9, WORDS, 1)
    rows = [i for i, row in enumerate(train.rows) if row.label != "bad"]
    reduced = LabeledSet([train.rows[i] for i in rows], train.texts, train.labels[torch.tensor(rows)])
    outputs = linear_baseline.linear_outputs(KINDS["single"], 3, reduced, val, val)
    assert (outputs[:, 1] == 0).all()
    assert outputs.sum(axis=1) == pytest.approx(np.ones(9))
