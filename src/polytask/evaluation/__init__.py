"""Did learning the tasks together help, and by how much? Comparisons and their verdicts."""

from polytask.evaluation.benchmark_scores import BenchmarkScore, score_benchmark
from polytask.evaluation.comparing import compare
from polytask.evaluation.comparison import Comparison
from polytask.evaluation.reporting import report_data

__all__ = [
    "BenchmarkScore",
    "Comparison",
    "compare",
    "report_data",
    "score_benchmark",
]
