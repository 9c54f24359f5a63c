"""The linear baseline of a classifier, against scikit-learn by hand."""

from __future__ import annotations

import numpy as np
import pytest

from gpt2_lightning.evaluation import linear_baseline
from gpt2_lightning.label_kinds import KINDS, Label, LabeledText

WORDS = ("good", "bad", "ugly")


def labeled(kind: str, n_rows: int, labels: tuple[str, ...], seed: int) -> list[LabeledText]:
    """Texts of random words, labeled with the words or their counts."""
    dice = np.random.default_rng(seed)
    rows = []
    for _ in range(n_rows):
        chosen = [WORDS[i] for i in dice.choice(3, size=dice.integers(1, 3), replace=False)]
        label: dict[str, Label] = {"single": chosen[0], "multi": tuple(w for w in chosen if w in labels)}
        rows.append(LabeledText(f"{' '.join(chosen)} film !", label.get(kind, len(chosen))))
    return rows


def texts_of(rows: list[LabeledText]) -> list[str]:
    return [row.text for row in rows]


@pytest.mark.parametrize(
    ("kind", "labels"), [("single", WORDS), ("multi", WORDS), ("multi", ("ugly",)), ("regression", ())]
)
def test_outputs_rank_what_the_words_determine(kind: str, labels: tuple[str, ...]) -> None:
    train, val, test = (labeled(kind, n, labels, seed) for seed, n in enumerate((200, 50, 60)))
    outputs = linear_baseline.linear_outputs(KINDS[kind], labels, train, val, texts_of(test))
    assert outputs.dtype == np.float32
    assert outputs.shape == ((60, len(labels)) if labels else (60,))
    report = KINDS[kind].report(test, outputs, labels)
    if kind == "regression":
        assert report.headline["mae"].value < 0.1
    else:
        assert next(iter(report.headline.values())).value > (0.95 if kind == "multi" else 0.8)
    dice = np.random.default_rng(3).permutation(200)
    shuffled = [LabeledText(row.text, train[i].label) for row, i in zip(train, dice, strict=True)]
    worse = KINDS[kind].report(
        test, linear_baseline.linear_outputs(KINDS[kind], labels, shuffled, val, texts_of(test)), labels
    )
    key, better = next(iter(report.headline.items()))
    assert (worse.headline[key].value < better.value) == (kind != "regression")


def test_probabilities_are_those_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    train, none, test = labeled("single", 40, WORDS, 0), labeled("single", 0, WORDS, 1), labeled("single", 7, WORDS, 2)
    monkeypatch.setattr(linear_baseline, "TRAINING_ROWS", 20)
    found = linear_baseline.linear_outputs(KINDS["single"], WORDS, train, none, texts_of(test))
    features = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+|[^\w\s]|\s+")
    model = LogisticRegression(C=10.0, max_iter=1000).fit(
        features.fit_transform(texts_of(train[::2])), [WORDS.index(str(row.label)) for row in train[::2]]
    )
    assert found == pytest.approx(model.predict_proba(features.transform(texts_of(test))), abs=1e-6)


def test_class_that_the_rows_lack_has_probability_zero() -> None:
    train, val = labeled("single", 40, WORDS, 0), labeled("single", 9, WORDS, 1)
    reduced = [row for row in train if row.label != "bad"]
    outputs = linear_baseline.linear_outputs(KINDS["single"], WORDS, reduced, val, texts_of(val))
    assert (outputs[:, 1] == 0).all()
    assert outputs.sum(axis=1) == pytest.approx(np.ones(9))
