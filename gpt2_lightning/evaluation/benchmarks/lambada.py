"""LAMBADA: the last word of a passage (Paperno et al. 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gpt2_lightning.data.tables.records import BadRow, text_of
from gpt2_lightning.errors import UserError
from gpt2_lightning.evaluation.benchmarks.benchmark import ItemRecord
from gpt2_lightning.evaluation.benchmarks.likelihood_benchmark import LikelihoodTable
from gpt2_lightning.evaluation.likelihood.encoding import encode_request
from gpt2_lightning.evaluation.likelihood.request import Likelihood, Request
from gpt2_lightning.evaluation.results.comparison import Option, ShownItem
from gpt2_lightning.evaluation.results.intervals import perplexity, share
from gpt2_lightning.evaluation.results.metric import Metric
from gpt2_lightning.tokenizers import Tokenizer

STOP_WORDS = tuple(
    """
    a an the this that these those some any each every either neither such no all both few many much most more less
    i me my mine myself you your yours yourself he him his himself she her hers herself it its itself we us our ours
    ourselves they them their theirs themselves who whom whose which what one
    and or but nor so yet if because although though unless until while as than when where why how whether
    of in on at by for with without about against between among into onto through during before after above below to
    from up down out off over under again toward towards upon within behind beside across around along near
    am is are was were be been being have has had having do does did doing can could will would shall should may might
    must not
    just only also too very still even then there here now ever never quite rather
    """.split()  # noqa: SIM905 - as a list it would have 159 lines
)
"""Function words of English: articles, pronouns, conjunctions, prepositions, auxiliary verbs, and adverbs without a
meaning of their own."""


@dataclass(frozen=True)
class Passage:
    """A passage without its last word."""

    context: str
    last_word: str
    """Text after the last space, with its punctuation."""


@dataclass(frozen=True, kw_only=True)
class Lambada(LikelihoodTable):
    """Accuracy and perplexity of the last word of a passage.

    As the task `lambada_openai` of lm-evaluation-harness: the last word is the text after the last space. Accuracy is
    the share of passages whose last word is what greedy decoding predicts, and perplexity exp(-mean log-likelihood of
    the last word, with the space before it).

    Raises:
        ValueError: with every invalid setting, one line each, as "field: what is wrong".
    """

    stop_word_filter: bool = False
    """Whether greedy decoding skips `STOP_WORDS`, which are seldom the last word of a sentence: the token of a whole
    stop word is never predicted as the first token of the last word. Radford et al. 2019, section 3.3, state that the
    accuracy of GPT-2 is with such a filter, and not which words it has."""

    def parse(self, row: dict[str, Any]) -> Passage:
        """Read `text`, as published by OpenAI, or `context` and `continuation`, as in the data of DCLM."""
        if "text" in row:
            context, _, last_word = text_of(row, "text").rpartition(" ")
        else:
            context, last_word = text_of(row, "context"), text_of(row, "continuation")
        if not context.strip() or not last_word.strip():
            raise BadRow("there is no last word after a space, which is the answer")
        return Passage(context, last_word)

    def requests(self, tokenizer: Tokenizer, value: Passage) -> list[Request]:
        return [encode_request(tokenizer, value.context, [f" {value.last_word}"])]

    def never_first(self, tokenizer: Tokenizer) -> Sequence[int]:
        if not self.stop_word_filter:
            return ()
        ids = [tokenizer.encode(f" {form}") for word in STOP_WORDS for form in (word, word.capitalize())]
        whole = [int(tokens[0]) for tokens in ids if len(tokens) == 1]
        if not whole:
            raise UserError(
                "the tokenizer has no token of a whole stop word, such as ' the', for the filter; evaluate on "
                "benchmarks=[lambada], which has no filter"
            )
        return whole

    def record(self, value: Passage, likelihoods: list[list[Likelihood]]) -> dict[str, Any]:
        ((found,),) = likelihoods
        return {
            "answer": value.last_word,
            "log_likelihood": found.log_likelihood,
            "correct": {"acc": int(found.is_greedy)},
            "context": value.context,
        }

    def metrics(self, records: Sequence[ItemRecord]) -> list[Metric]:
        return [
            share("acc", [record["correct"]["acc"] for record in records]),
            perplexity("perplexity", [record["log_likelihood"] for record in records]),
        ]

    def shown(self, record: ItemRecord, metric: str) -> ShownItem:
        option = Option(record["answer"], record["log_likelihood"], True, bool(record["correct"][metric]))
        return ShownItem(record["context"], (option,))
