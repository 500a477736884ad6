"""Rows of a sequence task: the source, followed by what is known of the answer.

Shape legend: B rows, S numbers of the source, L length of an answer.
"""

from __future__ import annotations

import numpy as np

__all__ = ["with_answers"]


def with_answers(
    sources: np.ndarray, answers: np.ndarray | None, *, length: int | None = None
) -> np.ndarray:
    """Inputs ``[B, S + L - 1]`` of an autoregressive model: sources and the first L - 1 tokens.

    A model that decodes one token after the other is trained on what comes before each token, and
    has nothing but the source when it predicts. Both are rows of one form: a token that is not
    known is -1, and the model fills it in. Padding of a known answer becomes token 0, since no
    position after it is scored.

    Args:
        sources: ``[B, ...]``, codes or numbers of any shape; flattened to S.
        answers: ``[B, L]``, tokens with -1 for padding; None where nothing is known.
        length: L; needed only without answers.

    Raises:
        ValueError: neither answers nor length, or as many answers as there are no sources.

    Example:
        >>> import numpy as np
        >>> with_answers(np.array([[7, 8]]), np.array([[3, 4, -1]])).tolist()
        [[7, 8, 3, 4]]
        >>> with_answers(np.array([[7, 8]]), None, length=3).tolist()
        [[7, 8, -1, -1]]
    """
    flat = np.asarray(sources).reshape(len(sources), -1)
    if answers is None:
        if length is None or length < 1:
            raise ValueError(f"Without answers `length` must be at least 1, found {length}.")
        known = np.full((len(flat), length - 1), -1)
    else:
        if len(answers) != len(flat):
            raise ValueError(
                f"Every source needs one answer, found {len(flat)} sources and {len(answers)} "
                "answers."
            )
        known = np.maximum(np.asarray(answers)[:, :-1], 0)
    return np.concatenate([flat, known.astype(flat.dtype)], axis=1)
