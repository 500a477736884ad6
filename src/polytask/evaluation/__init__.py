"""Did learning the tasks together help, and by how much? Comparisons and their verdicts."""

from polytask.evaluation.benchmark_scores import BenchmarkScore, score_benchmark
from polytask.evaluation.comparing import compare
from polytask.evaluation.comparison import Comparison
from polytask.evaluation.reporting import report_data
from polytask.evaluation.scores import ScoreHistory
from polytask.evaluation.verdict import Situation, Verdict

__all__ = [
    "BenchmarkScore",
    "Comparison",
    "ScoreHistory",
    "Situation",
    "Verdict",
    "compare",
    "report_data",
    "score_benchmark",
]
