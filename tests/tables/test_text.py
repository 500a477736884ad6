"""Columns of free text: what counts as text, what becomes of it, and how it is stored."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfTransformer

from polytask.candidates.method import Budget
from polytask.candidates.network import NetworkMethod
from polytask.problems import Problem, TableInfo
from polytask.serving.predictor import load_predictor, save_predictor
from polytask.tables import TableSource, fit_table, transform_table
from polytask.tables.columns import infer_columns, plain_frame
from polytask.tables.text import _hashed, fit_text, looks_like_text

GOOD = ["lovely", "great", "friendly", "fresh", "kind", "quick", "nice", "warm"]
BAD = ["awful", "rude", "slow", "cold", "stale", "dirty", "loud", "bitter"]
OTHER = [
    "the",
    "food",
    "place",
    "staff",
    "view",
    "price",
    "service",
    "again",
    "and",
    "never",
    "was",
    "very",
]


def comments(rows=200, seed=0):
    rng = np.random.default_rng(seed)
    liked = rng.random(rows) < 0.5
    texts = [
        " ".join([*rng.choice(GOOD if good else BAD, 2), *rng.choice(OTHER, 12)]) for good in liked
    ]
    return pd.DataFrame({"comment": texts, "liked": np.where(liked, "yes", "no")})


def kind(values):
    return infer_columns(plain_frame(pd.DataFrame({"x": values})))[0].type


def test_what_is_text():
    assert kind(comments()["comment"]) == "text"
    assert kind([f"これは{i}番目のとても長い文章です" for i in range(40)]) == "text"
    assert kind([f"house-{i}" for i in range(40)]) == "identifier"
    assert kind([f"John Smith{i}" for i in range(40)]) == "identifier"
    assert kind(["a long name of a category", "another long name of one"] * 30) == "categorical"
    assert kind([f"one of {i} short sentences" for i in range(15)]) == "categorical"
    assert not looks_like_text(pd.Series(["ab", "cd ef"]))


def test_inputs_are_the_components_of_scikit_learn():
    frame = comments()
    rows = np.arange(120)
    feature = fit_text("comment", frame["comment"], rows)
    assert feature.components.shape == (32, 4096)
    counts = _hashed(frame["comment"])
    tfidf = TfidfTransformer(sublinear_tf=True).fit(counts[rows])
    np.testing.assert_allclose(feature.idf, tfidf.idf_, rtol=1e-6)
    svd = TruncatedSVD(32, random_state=0, n_iter=7).fit(tfidf.transform(counts[rows]))
    info = fit_table(frame[["comment"]], rows=rows)
    inputs = transform_table(info, frame)
    raw = inputs.double() * torch.tensor([f.scale for f in info.numeric])
    raw += torch.tensor([f.centre for f in info.numeric])
    expected = svd.transform(tfidf.transform(counts))
    np.testing.assert_allclose(raw.numpy(), expected, atol=1e-3)


def test_only_training_rows_are_fitted():
    frame = comments()
    changed = frame.copy()
    changed.loc[120:, "comment"] = "zzz yyy xxx www"
    one, two = (fit_table(f[["comment"]], rows=np.arange(120)) for f in (frame, changed))
    assert one.text == two.text
    assert one.numeric == two.numeric


def test_a_missing_text_is_missing_and_a_new_word_is_fine():
    info = fit_table(comments()[["comment"]])
    new = pd.DataFrame({"comment": ["lovely staff", None, "Quetzalcoatl", ""]})
    inputs = transform_table(info, new)
    assert inputs.isnan().all(dim=1).tolist() == [False, True, False, True]
    assert inputs.isnan().any(dim=1).tolist() == [False, True, False, True]


def test_schema_and_names_say_what_becomes_of_it():
    source = TableSource(comments(), ["liked"])
    row = source.schema()[0]
    assert (row["column"], row["role"], row["type"]) == ("comment", "input", "text")
    table = source.problem(0).table
    assert table.feature_names[:2] == ("comment: text 0", "comment: text 1")
    assert table.input_columns == table.text_columns == ("comment",)
    assert table.num_numeric == 32


def test_a_record_is_small_and_comes_back_with_its_arrays(tmp_path):
    problem = TableSource(comments(), ["liked"]).problem(0)
    record = json.dumps(problem.table.to_record())
    assert len(record) < 10_000
    arrays = problem.table.arrays()
    assert set(arrays) == {"text.0.idf", "text.0.components"}
    assert TableInfo.from_record(json.loads(record), arrays) == problem.table
    problem.save(tmp_path)
    copy = Problem.load(tmp_path)
    assert copy.table == problem.table
    assert copy.fingerprint() == problem.fingerprint()
    assert all(f.suffix in {".json", ".safetensors"} for f in tmp_path.rglob("*.*"))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    problem = TableSource(comments(300), ["liked"]).problem(0)
    fitted = NetworkMethod().fit(problem, seed=0, budget=Budget(epochs=20))
    fitted.save(folder / "run")
    save_predictor(folder / "model", problem, [(folder / "run", ("liked",))], about={})
    return folder


def test_a_model_of_texts_learns_is_saved_and_predicts(model):
    predictor = load_predictor(model)
    assert predictor.text_columns == ("comment",)
    new = comments(200, seed=7)
    found = predictor.predict_table(new)
    assert (found["liked"] == new["liked"]).mean() > 0.9
    assert (model / "model" / "tables.safetensors").is_file()


def test_separate_tables_keep_their_own_texts(tmp_path):
    from polytask.tables import TablesSource

    frames = {"a": (comments(80), "liked"), "b": (comments(90, seed=3), "liked")}
    problem = TablesSource(frames).problem(0)
    problem.save(tmp_path)
    copy = Problem.load(tmp_path)
    assert copy.tables == problem.tables
    assert copy.tables["a"].text != copy.tables["b"].text
