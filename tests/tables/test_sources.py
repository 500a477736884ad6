"""Sources: problems from tables, the same in every process, and every error before training."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from tests.tables.frames_for_tests import HOUSE_TARGETS, houses

from polytask.datasets import DatasetSource, load_source, related_regression
from polytask.problems import FixedSource, SplitPlan
from polytask.tables import TableSource, TablesSource, Target, transform_table
from polytask.tables.columns import plain_frame
from polytask.tables.frames import frame_digest, load_frame, save_frame
from polytask.tasks import Binary, Multiclass, Regression


def same_problem(first, second):
    return first.fingerprint() == second.fingerprint() and first.notes == second.notes


@pytest.fixture
def source():
    return TableSource(houses(), HOUSE_TARGETS, name="houses", drop=["house"])


# --- one table -----------------------------------------------------------------------------------


def test_problem_of_a_table(source):
    problem = source.problem(0)
    assert problem.layout == "shared"
    assert [task.name for task in problem.tasks] == ["price", "sold", "grade"]
    kinds = [task.kind for task in problem.tasks]
    assert isinstance(kinds[0], Regression)
    assert kinds[1:] == [Binary(("no", "yes")), Multiclass(3, ("A", "B", "C"))]
    assert sum(map(len, (problem.train, problem.validation, problem.test))) == 120
    assert abs(len(problem.train) - 72) <= 2
    assert problem.table is not None
    assert "house" not in problem.table.feature_names
    assert set(problem.table.feature_names).isdisjoint({"price", "sold", "grade"})


def test_targets_are_standardised_by_the_training_rows_and_come_back(source):
    problem = source.problem(3)
    train = source.rows(3)["train"]
    price = houses()["price"].to_numpy()[train]
    kind = problem.task("price").kind
    assert (kind.mean, kind.scale) == pytest.approx((price.mean(), price.std()))
    decoded = kind.decode(problem.train.targets["price"].numpy())
    np.testing.assert_allclose(decoded, price, rtol=1e-5)
    labels = problem.task("sold").kind.decode(problem.train.targets["sold"].numpy())
    assert labels.tolist() == houses()["sold"].to_numpy()[train].tolist()


def test_preprocessing_is_fitted_on_training_rows_only(source):
    rows = source.rows(0)
    changed = houses()
    changed.loc[np.concatenate([rows["validation"], rows["test"]]), "größe"] += 1e6
    other = TableSource(changed, HOUSE_TARGETS, name="houses", drop=["house"]).problem(0)
    assert other.table.numeric[0] == source.problem(0).table.numeric[0]


def test_seeds_redraw_the_splits(source):
    assert source.resplits
    assert same_problem(source.build(1), source.build(1))
    assert source.problem(1).fingerprint() != source.problem(2).fingerprint()


def test_missing_labels_are_masked_and_rows_without_any_left_out():
    frame = houses()
    frame.loc[:9, ["price", "sold", "grade"]] = None
    frame.loc[10:29, "sold"] = None
    source = TableSource(frame, HOUSE_TARGETS)
    rows = np.concatenate(list(source.rows(0).values()))
    assert sorted(rows.tolist()) == list(range(10, 120))
    problem = source.problem(0)
    parts = (problem.train, problem.validation, problem.test)
    assert sum(part.num_labels("sold") for part in parts) == 90
    assert sum(part.num_labels("price") for part in parts) == 110
    assert "10 of 120 rows have no label at all and are left out" in problem.notes
    assert "target sold: 20 of 110 labels are missing and masked" in problem.notes


def test_imbalance_becomes_a_weight_and_a_note():
    frame = houses(400)
    frame["flooded"] = np.where(np.arange(400) % 20 == 0, "yes", "no")
    problem = TableSource(frame, ["flooded"]).problem(0)
    assert problem.task("flooded").class_weights == pytest.approx((1.0, 19.0))
    note = "target flooded: 5.0 % positive in training, positive weight 19"
    assert note in problem.notes


def test_a_class_of_one_row_goes_to_training():
    frame = houses()
    frame.loc[17, "grade"] = "Z"
    source = TableSource(frame, HOUSE_TARGETS)
    for seed in range(5):
        assert 17 in source.rows(seed)["train"]
        note = next(n for n in source.problem(seed).notes if "class Z" in n)
        assert "has 1 row(s) and none in validation and test" in note


def test_identical_targets_are_a_note():
    frame = houses()
    frame["verkauft"] = frame["sold"].map({"yes": 1, "no": 0})
    frame["price again"] = frame["price"]
    notes = TableSource(frame, ["sold", "verkauft", "price"]).problem(0).notes
    assert "targets sold and verkauft are identical in every row" in notes
    assert any(n.startswith("column price again says the same as target price") for n in notes)
    plain = TableSource(houses(), ["price", "größe", "sold"]).problem(0).notes
    assert not any("identical" in n or "says the same" in n for n in plain)


def test_groups_never_cross_and_are_no_input():
    frame = houses(200)
    frame["street"] = [f"street {i % 23}" for i in range(200)]
    source = TableSource(frame, HOUSE_TARGETS, split=SplitPlan(by="street"))
    held = [set(frame["street"].iloc[rows]) for rows in source.rows(0).values()]
    assert not (held[0] & held[1] | held[0] & held[2] | held[1] & held[2])
    assert "street" not in source.problem(0).table.feature_names


def test_a_split_column_is_followed():
    frame = houses()
    frame["part"] = ["train"] * 70 + ["val"] * 20 + ["test"] * 30
    source = TableSource(frame, HOUSE_TARGETS, split=SplitPlan(column="part"))
    assert not source.resplits
    assert source.rows(0)["test"].tolist() == list(range(90, 120))
    assert same_problem(source.build(0), source.build(1))
    frame["part"] = ["train"] * 90 + ["test"] * 30
    source = TableSource(frame, HOUSE_TARGETS, split=SplitPlan(column="part"))
    assert source.resplits
    assert len(source.rows(0)["validation"]) > 0
    assert source.rows(5)["test"].tolist() == list(range(90, 120))


def test_schema_says_the_role_of_every_column():
    frame = houses().assign(street=np.arange(120) % 9)
    source = TableSource(frame, HOUSE_TARGETS, drop=["rooms"], split=SplitPlan(by="street"))
    roles = {row["column"]: row["role"] for row in source.schema()}
    assert roles == {
        "house": "left out",
        "größe": "input",
        "rooms": "dropped",
        "town": "input",
        "garden": "input",
        "built": "input",
        "country": "left out",
        "price": "target",
        "sold": "target",
        "grade": "target",
        "street": "groups",
    }
    assert json.loads(json.dumps(source.config()))["columns"] == source.schema()


def test_two_thousand_columns_and_unicode_names():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        rng.normal(size=(60, 2000)), columns=[f"Säule {i} 列" for i in range(2000)]
    )
    problem = TableSource(frame, ["Säule 0 列", "Säule 1 列"]).problem(0)
    assert problem.train.inputs.shape[1] == 1998
    assert [task.name for task in problem.tasks] == ["Säule 0 列", "Säule 1 列"]


# --- errors --------------------------------------------------------------------------------------


def with_part(frame, bad_class_in_test):
    frame = frame.assign(part=["train"] * 80 + ["validation"] * 20 + ["test"] * 20)
    if bad_class_in_test:
        frame.loc[110, "grade"] = "Z"
    else:
        frame.loc[frame["part"] == "test", "grade"] = None
    return frame


ERRORS = {
    "few rows": (lambda f: TableSource(f[:1], ["price"]), "has 1 rows; at least 10 are needed"),
    "unknown target": (lambda f: TableSource(f, ["prise"]), "did you mean 'price'"),
    "unknown drop": (
        lambda f: TableSource(f, ["price"], drop=["houze"]),
        "Dropped column 'houze' is not a column",
    ),
    "unknown categorical": (
        lambda f: TableSource(f, ["price"], categorical=["rum"]),
        "Categorical column 'rum' is not a column",
    ),
    "unknown group": (
        lambda f: TableSource(f, ["price"], split=SplitPlan(by="street")),
        "Split column 'street' is not a column",
    ),
    "dropped target": (
        lambda f: TableSource(f, ["price"], drop=["price"]),
        "'price' is both a target and left out",
    ),
    "target as group": (
        lambda f: TableSource(f, ["price"], split=SplitPlan(by="price")),
        "'price' is both a target and left out",
    ),
    "twice": (lambda f: TableSource(f, ["price", "price"]), "'price' is named twice"),
    "constant": (lambda f: TableSource(f, ["country"]), "Target 'country' is 'DE' in every row"),
    "all missing": (
        lambda f: TableSource(f.assign(price=np.nan), ["price"]),
        "Target 'price' has no label",
    ),
    "text": (
        lambda f: TableSource(f, ["town:regression"]),
        "Regression target 'town' must hold numbers, found",
    ),
    "infinity": (
        lambda f: TableSource(f.assign(rooms=np.inf), ["price"]),
        "Column 'rooms' must hold finite numbers, found inf in row 1",
    ),
    "no inputs": (
        lambda f: TableSource(f[["price", "sold"]], ["price", "sold"]),
        "has no column left as an input",
    ),
    "useless inputs": (
        lambda f: TableSource(f[["price", "country"]], ["price"]).problem(0),
        "No column of the table can become an input",
    ),
    "group missing": (
        lambda f: TableSource(f, ["price"], split=SplitPlan(by="town")),
        "Split column 'town' has a missing cell in row",
    ),
    "split words": (
        lambda f: TableSource(f, ["price"], split=SplitPlan(column="grade")),
        "must say train, validation or test, found",
    ),
    "class in test only": (
        lambda f: TableSource(
            with_part(f, True), ["grade"], split=SplitPlan(column="part")
        ).problem(0),
        "Class 'Z' of target 'grade' occurs in the test rows but in no training row",
    ),
    "no label in test": (
        lambda f: TableSource(
            with_part(f, False), ["grade", "price"], split=SplitPlan(column="part")
        ).problem(0),
        "Target 'grade' has no label in the test rows",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_bad_tables_are_one_sentence(name):
    make, message = ERRORS[name]
    with pytest.raises(ValueError, match=message) as caught:
        make(houses())
    assert "\n" not in str(caught.value)


def test_a_group_with_the_only_rows_of_a_class_goes_to_training():
    frame = houses().assign(street=np.arange(120) % 6)
    frame["grade"] = np.where(frame["street"] == 2, "Z", "A")
    source = TableSource(frame, ["grade", "price"], split=SplitPlan(by="street"))
    for seed in range(5):
        assert set(frame["grade"].iloc[source.rows(seed)["train"]]) == {"A", "Z"}


def test_a_table_is_a_data_frame():
    with pytest.raises(TypeError, match="must be a pandas DataFrame, found dict"):
        TableSource({"price": [1.0, 2.0]}, ["price"])


# --- on disk -------------------------------------------------------------------------------------


def sources():
    part = houses().assign(street=np.arange(120) % 9)
    return {
        "table": TableSource(houses(), HOUSE_TARGETS, name="häuser", drop=["house"]),
        "inferred": TableSource(houses(), ["price", "grade"], categorical=["rooms"]),
        "grouped": TableSource(part, {"price": None}, split=SplitPlan(by="street")),
        "tables": TablesSource(
            {"red": (houses(60), "price"), "white": (houses(90, 1), "sold:binary")}, drop=["house"]
        ),
        "fixed": FixedSource(related_regression(num_tasks=2, num_rows=50, num_features=4)),
        "dataset": DatasetSource("related_regression", options={"num_rows": 60, "num_tasks": 3}),
    }


@pytest.mark.parametrize("name", list(sources()))
def test_a_source_comes_back_from_its_folder(name, tmp_path):
    source = sources()[name]
    source.save(tmp_path / "source")
    copy = load_source(tmp_path / "source")
    assert type(copy) is type(source)
    assert copy.name == source.name
    assert copy.resplits == source.resplits
    assert copy.fingerprint() == source.fingerprint()
    assert copy.config() == source.config()
    assert copy.schema() == source.schema()
    for seed in (0, 4):
        assert same_problem(copy.problem(seed), source.problem(seed))
    assert all(f.suffix in {".json", ".npz", ".safetensors"} for f in tmp_path.rglob("*.*"))


def test_fingerprint_knows_data_and_settings():
    def fingerprint(frame=None, targets=HOUSE_TARGETS, **options):
        return TableSource(houses() if frame is None else frame, targets, **options).fingerprint()

    changed, renamed = houses(), houses().rename(columns={"rooms": "Zimmer"})
    changed.loc[3, "rooms"] = 99.0
    prints = [
        fingerprint(),
        fingerprint(changed),
        fingerprint(renamed),
        fingerprint(targets=HOUSE_TARGETS[:2]),
        fingerprint(drop=["house"]),
        fingerprint(categorical=["rooms"]),
        fingerprint(split=SplitPlan(fractions=(0.5, 0.25, 0.25))),
        fingerprint(split=SplitPlan(by="house")),
    ]
    assert len(set(prints)) == len(prints)
    assert fingerprint() == prints[0]


def test_a_frame_comes_back_with_every_kind_of_cell(tmp_path):
    frame = plain_frame(
        pd.DataFrame(
            {
                "n": [1, 2, 3],
                "x": [1.5, np.nan, -np.inf],
                "t": pd.to_datetime(["2020-01-01 00:00", None, "2262-01-01 10:00"]),
                "w": ["ä\n<b>", None, "x"],
                "empty": [None, None, None],
            }
        )
    )
    save_frame(frame, tmp_path / "frame.npz")
    copy = load_frame(tmp_path / "frame.npz")
    pd.testing.assert_frame_equal(copy, frame)
    assert frame_digest(copy) == frame_digest(frame)


def test_folders_without_a_source(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"source\.json is missing"):
        load_source(tmp_path)
    (tmp_path / "source.json").write_text('{"type": "os.system"}', encoding="utf-8")
    with pytest.raises(ValueError, match=r"is of no known kind, found 'os.system'"):
        load_source(tmp_path)


# --- several tables, ready problems, data sets ---------------------------------------------------


def test_tables_of_their_own_are_joined():
    source = TablesSource({"red": (houses(60), "price"), "white": (houses(90, 1), Target("price"))})
    problem = source.problem(0)
    assert problem.layout == "separate"
    assert [task.name for task in problem.tasks] == ["red", "white"]
    rows = problem.train.parts
    assert abs(len(rows["red"]) - 36) <= 2
    assert abs(len(rows["white"]) - 54) <= 2
    assert set(problem.tables) == {"red", "white"}
    assert {row["task"] for row in source.schema()} == {"red", "white"}


def test_tables_that_do_not_fit():
    with pytest.raises(ValueError, match="At least one table"):
        TablesSource({})
    with pytest.raises(ValueError, match="Dropped column 'id' is in none of the tables"):
        TablesSource({"red": (houses(), "price")}, drop=["id"])
    two = TableSource(houses(), ["price", "sold"])
    with pytest.raises(ValueError, match="task 'a' must have one target, found 2"):
        TablesSource.from_sources({"a": two})


def test_a_fixed_problem_is_the_same_for_every_seed():
    problem = related_regression(num_tasks=2, num_rows=50, num_features=4)
    source = FixedSource(problem)
    assert not source.resplits
    assert source.problem(0) is source.problem(7) is problem
    assert source.schema() == []


def test_options_of_a_data_set():
    source = DatasetSource("related_regression", options={"num_tasks": 3})
    assert len(source.problem(0).tasks) == 3
    assert source.problem(1).fingerprint() != source.problem(2).fingerprint()
    assert DatasetSource("related_regression").fingerprint() != source.fingerprint()
    with pytest.raises(ValueError, match=r"There is no data set 'digit13'; did you mean"):
        DatasetSource("digit13")
    with pytest.raises(ValueError, match="'linnerud' has no option 'rows'"):
        DatasetSource("linnerud", options={"rows": 3})


def test_inputs_of_all_parts_are_those_of_the_rows(source):
    problem, rows = source.problem(0), source.rows(0)
    inputs = transform_table(problem.table, houses())
    for part in ("train", "validation", "test"):
        torch.testing.assert_close(
            getattr(problem, part).inputs, inputs[torch.from_numpy(rows[part])], equal_nan=True
        )


# --- keeping problems ----------------------------------------------------------------------------


class Counted(TableSource):
    """Writes down which seeds were built."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.built = []

    def build(self, seed):
        self.built.append(seed)
        return super().build(seed)


def test_the_last_two_problems_are_kept():
    source = Counted(houses(), HOUSE_TARGETS, drop=["house"])
    first = source.problem(0)
    assert [source.problem(seed) is first for seed in (0, 1, 0, 2, 0)] == [True, False] * 2 + [True]
    assert source.built == [0, 1, 2]
    source.problem(1)
    assert source.built == [0, 1, 2, 1]


def test_a_split_that_no_seed_changes_is_built_once():
    frame = houses()
    frame["part"] = ["train", "validation", "test", "train"] * (len(frame) // 4)
    plan = SplitPlan(column="part")
    source = Counted(frame, HOUSE_TARGETS, drop=["house"], split=plan)
    assert source.problem(3) is source.problem(5)
    assert source.built == [0]


def test_problems_do_not_travel_with_their_source():
    source = Counted(houses(), HOUSE_TARGETS, drop=["house"])
    problem = source.problem(0)
    copy = pickle.loads(pickle.dumps(source))
    assert same_problem(copy.problem(0), problem)
    assert copy.built == [0, 0]
