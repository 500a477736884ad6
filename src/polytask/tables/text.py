"""Free text as inputs: hashed n-grams of letters and words, weighed by TF-IDF, few components.

Shape legend: N rows, H hashed n-grams, K components.

Every text is counted by n-grams (pieces of 3 and 4 letters within words; words and pairs of words)
that are hashed to H places, so no vocabulary is kept; counts c become (1 + log c) · idf of length
one; the K leading right singular vectors of the training rows (LSA) turn them into K numbers.
What was fitted are two arrays, idf ``[H]`` and components ``[K, H]``: nothing to pickle.

References:
    Deerwester, Dumais, Furnas, Landauer, Harshman, "Indexing by latent semantic analysis", JASIS
    1990; Weinberger, Dasgupta, Langford, Smola, Attenberg, "Feature hashing for large scale
    multitask learning", ICML 2009.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np

from polytask.problems.table_info import TextFeature

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["fit_text", "looks_like_text", "text_components"]

LETTER_PLACES, WORD_PLACES = 2048, 2048
COMPONENTS = 32
#: Words per cell (mean) from which a column of different texts is written language ...
FEWEST_WORDS = 3.0
#: ... and letters, for languages without spaces.
FEWEST_LETTERS_UNSPACED = 12
#: Letters of a cell that are read: what comes later says little more, and costs.
MOST_LETTERS = 4000
#: Tables of counts that are kept: every seed of a comparison splits the same texts anew.
KEPT_COUNTS = 2
_counts: OrderedDict[str, Any] = OrderedDict()


def looks_like_text(cells: pd.Series[Any]) -> bool:
    """Whether different texts are sentences rather than names and numbers of things."""
    look = cells.iloc[:: max(1, len(cells) // 500)]
    words = float(np.mean([len(text.split()) for text in look]))
    if words >= FEWEST_WORDS:
        return True
    letters = [sum(map(_is_unspaced, text)) for text in look]
    return float(np.mean(letters)) >= FEWEST_LETTERS_UNSPACED


def fit_text(name: str, cells: pd.Series[Any], rows: np.ndarray) -> TextFeature | None:
    """The idf and the components of the training rows; None if they hold too little text.

    Args:
        name: Of the column.
        cells: Texts ``[N]`` of all rows.
        rows: Row numbers of the training split.
    """
    from scipy import sparse
    from sklearn.decomposition import TruncatedSVD

    there = rows[cells.notna().to_numpy()[rows]]
    counts = _hashed(cells)[there]
    frequency = np.asarray((counts > 0).sum(axis=0), dtype=np.float64).ravel()
    idf = (np.log((1 + len(there)) / (1 + frequency)) + 1).astype(np.float32)
    weighed = sparse.csr_matrix(_weighed(counts, idf))
    size = min(COMPONENTS, len(there) - 1, int((frequency > 0).sum()) - 1)
    if size < 1:
        return None
    svd = TruncatedSVD(size, random_state=0, n_iter=7)
    svd.fit(weighed)
    # Rounded, so that processes whose sums run in another order agree.
    components = np.round(svd.components_, 5).astype(np.float32)
    return TextFeature(column=name, idf=idf, components=components)


def text_components(feature: TextFeature, cells: pd.Series[Any]) -> np.ndarray:
    """Components ``[N, K]`` of texts; NaN where a cell is missing."""
    found = _weighed(_hashed(cells), feature.idf) @ feature.components.T
    found = np.asarray(found, dtype=np.float64)
    found[cells.isna().to_numpy()] = np.nan
    return found


def _hashed(cells: pd.Series[Any]) -> Any:
    """Counts ``[N, H]``, sparse, of the n-grams of texts."""
    texts = [text[:MOST_LETTERS] for text in cells.fillna("").astype(str)]
    key = hashlib.blake2b("\0".join(texts).encode("utf-8", "backslashreplace")).hexdigest()
    if key not in _counts:
        _counts[key] = _count(texts)
        while len(_counts) > KEPT_COUNTS:
            _counts.popitem(last=False)
    _counts.move_to_end(key)
    return _counts[key]


def _count(texts: list[str]) -> Any:
    from scipy import sparse
    from sklearn.feature_extraction.text import HashingVectorizer

    letters = HashingVectorizer(
        analyzer="char_wb",
        ngram_range=(3, 4),
        n_features=LETTER_PLACES,
        norm=None,
        alternate_sign=False,
        dtype=np.float32,
    )
    words = HashingVectorizer(
        ngram_range=(1, 2),
        n_features=WORD_PLACES,
        norm=None,
        alternate_sign=False,
        dtype=np.float32,
        token_pattern=r"(?u)\b\w+\b",
    )
    return sparse.hstack([letters.transform(texts), words.transform(texts)], format="csr")


def _weighed(counts: Any, idf: np.ndarray) -> Any:
    """(1 + log c) · idf, every row of length one."""
    from sklearn.preprocessing import normalize

    weighed = counts.copy()
    weighed.data = (1 + np.log(weighed.data)).astype(np.float32)
    return normalize(weighed.multiply(idf[None, :]).tocsr(), copy=False)


def _is_unspaced(letter: str) -> bool:
    """Letters of Chinese, Japanese, Thai: written without spaces between words."""
    return (
        "\u3040" <= letter <= "\u30ff"
        or "\u4e00" <= letter <= "\u9fff"
        or ("\u0e00" <= letter <= "\u0e7f")
    )
