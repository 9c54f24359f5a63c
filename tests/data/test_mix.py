import pytest

from gpt2_lightning.data.corpora.mix import Mix
from gpt2_lightning.data.corpora.text import TextCorpus
from gpt2_lightning.data.corpora.token_files import TokenFiles

CORPORA = {"books": TextCorpus(path="books"), "web": TokenFiles(path="train.bin")}


def test_corpora_without_a_weight_have_weight_one() -> None:
    mix = Mix(corpora=CORPORA, weights={"web": 2.5})
    assert [mix.weight_of(name) for name in CORPORA] == [1.0, 2.5]


@pytest.mark.parametrize("weight", [0.0, -1.0, float("inf"), float("nan")])
def test_weights_are_finite_and_above_zero(weight: float) -> None:
    with pytest.raises(ValueError, match=f"weights.web: {weight} is out of range, a finite number above 0 is allowed"):
        Mix(corpora=CORPORA, weights={"web": weight})


def test_a_weight_belongs_to_a_corpus() -> None:
    with pytest.raises(ValueError, match=r"weights\.bokos: there is no corpus of this name; there are books, web"):
        Mix(corpora=CORPORA, weights={"bokos": 1.0})


@pytest.mark.parametrize("names", [[], ["books"]])
def test_a_mix_has_at_least_two_corpora(names: list[str]) -> None:
    with pytest.raises(ValueError, match=f"corpora: there are {len(names)}, 2 or more make a mix"):
        Mix(corpora={name: CORPORA[name] for name in names})


def test_all_faults_are_told() -> None:
    with pytest.raises(ValueError, match=r"(?s)weights\.web: -1.*weights\.a: there is.*") as caught:
        Mix(corpora=CORPORA, weights={"a": 1.0, "web": -1.0})
    assert len(str(caught.value).splitlines()) == 2
