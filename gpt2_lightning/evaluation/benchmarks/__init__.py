"""Benchmarks: each is a class with its settings, and a YAML in `conf/benchmarks` for each data set."""

from gpt2_lightning.evaluation.benchmarks.core import Core
from gpt2_lightning.evaluation.benchmarks.instructions import InstructionAnswers
from gpt2_lightning.evaluation.benchmarks.labels import Labels
from gpt2_lightning.evaluation.benchmarks.lambada import Lambada
from gpt2_lightning.evaluation.benchmarks.multiple_choice import MultipleChoice
from gpt2_lightning.evaluation.benchmarks.source import BenchmarkSource

__all__ = ["BenchmarkSource", "Core", "InstructionAnswers", "Labels", "Lambada", "MultipleChoice"]
