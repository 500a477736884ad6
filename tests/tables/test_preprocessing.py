"""From columns to inputs: fitted on training rows, stored as JSON, strict about new tables."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.preprocessing import OrdinalEncoder, RobustScaler, StandardScaler
from tests.tables.frames_for_tests import houses

from polytask.problems import TableInfo
from polytask.tables.preprocessing import LARGEST_SCALED, feature_table, fit_table, transform_table

TARGETS = ["price", "sold", "grade"]


@pytest.fixture
def frame():
    return houses().drop(columns=TARGETS)


@pytest.fixture
def info(frame):
    return fit_table(frame, rows=np.arange(80))


def test_inputs_are_numeric_first_then_codes(info, frame):
    assert info.feature_names == (
        "größe",
        "rooms",
        "built: days",
        "built: season sine",
        "built: season cosine",
        "built: weekday",
        "town",
        "garden",
    )
    assert (info.num_numeric, info.cardinalities) == (6, (4, 2))
    inputs = transform_table(info, frame)
    assert inputs.dtype == torch.float32
    assert inputs.shape == (120, 8)
    codes = inputs[:, 6:]
    assert torch.equal(codes, codes.round())
    missing = torch.tensor(frame["town"].isna().tolist())
    assert (codes[missing, 0] == 4).all()
    assert (codes[~missing, 0] < 4).all()
    assert torch.equal(inputs[:, 1].isnan(), torch.tensor(frame["rooms"].isna().tolist()))


def test_numbers_are_scaled_by_the_quartiles_of_the_training_rows_alone(frame):
    info = fit_table(frame, rows=np.arange(80))
    changed = frame.copy()
    changed.loc[80:, "größe"] = 1e9
    changed.loc[80:, "town"] = "elsewhere"
    assert fit_table(changed, rows=np.arange(80)).numeric == info.numeric
    train = frame["größe"].iloc[:80]
    low, high = np.percentile(train, [25, 75])
    size = info.numeric[0]
    assert size.centre == pytest.approx(train.median())
    assert size.scale == pytest.approx((high - low) / 1.3489795, rel=1e-6)


def test_numbers_agree_with_the_transformers_of_scikit_learn(frame):
    frame = frame.assign(
        spike=np.where(np.arange(120) % 9 == 0, 5.0, 0.0), speck=np.linspace(1, 1 + 1e-13, 120)
    )
    rows = np.arange(80)
    info = fit_table(frame, rows=rows)
    raw, inputs = feature_table(info, frame), transform_table(info, frame).numpy()
    seen = {"robust": 0, "standard": 0}
    for j in range(info.num_numeric):
        low, high = raw[j][rows].quantile([0.25, 0.75])
        name = "robust" if high > low else "standard"
        seen[name] += 1
        scaler = RobustScaler(unit_variance=True) if name == "robust" else StandardScaler()
        scaler.fit(raw[[j]].iloc[rows])
        expected = scaler.transform(raw[[j]])[:, 0]
        np.testing.assert_allclose(inputs[:, j], expected, rtol=1e-6, atol=1e-6)
        assert info.numeric[j].scale == pytest.approx(scaler.scale_[0], rel=1e-12)
    assert min(seen.values()) > 0
    for j, feature in enumerate(info.categorical, start=info.num_numeric):
        encoder = OrdinalEncoder(
            categories=[np.array(feature.categories, dtype=object)],
            handle_unknown="use_encoded_value",
            unknown_value=len(feature.categories),
        )
        expected = encoder.fit(raw[[j]].iloc[rows]).transform(raw[[j]])[:, 0]
        np.testing.assert_array_equal(inputs[:, j], expected)


def test_record_survives_json_and_gives_the_same_inputs(info, frame):
    copy = TableInfo.from_record(json.loads(json.dumps(info.to_record())))
    assert copy == info
    torch.testing.assert_close(
        transform_table(copy, frame), transform_table(info, frame), rtol=0, atol=0, equal_nan=True
    )


def test_a_column_whose_quartiles_coincide_is_standardised():
    values = np.zeros(100)
    values[::10] = 5.0
    info = fit_table(pd.DataFrame({"gain": values}))
    assert info.numeric[0].scale == pytest.approx(values.std())
    inputs = transform_table(info, pd.DataFrame({"gain": values}))
    assert inputs.std(unbiased=False).item() == pytest.approx(1.0)


def test_rare_unseen_and_missing_categories_share_the_last_code():
    train = pd.DataFrame({"x": ["a"] * 5 + ["b"] * 3 + ["rare"] * 2 + [None]})
    info = fit_table(train)
    assert info.categorical[0].categories == ("a", "b")
    new = pd.DataFrame({"x": ["b", "a", "rare", "never seen", None]})
    assert transform_table(info, new)[:, 0].tolist() == [1, 0, 2, 2, 2]


def test_categories_written_as_numbers_are_found_again():
    info = fit_table(pd.DataFrame({"x": [1, 2, 3] * 4}), categorical=["x"])
    assert info.categorical[0].categories == ("1", "2", "3")
    assert transform_table(info, pd.DataFrame({"x": [3.0, np.nan, 1.0]}))[:, 0].tolist() == [
        2,
        3,
        0,
    ]
    assert transform_table(info, pd.DataFrame({"x": ["3", None, "9"]}))[:, 0].tolist() == [2, 3, 3]


def test_parts_of_dates():
    dates = pd.Series(pd.date_range("2021-01-01 06:00", periods=60, freq="31h"))
    info = fit_table(pd.DataFrame({"at": dates}))
    parts = [feature.part for feature in info.numeric]
    assert parts == ["days", "season sine", "season cosine", "weekday", "hour"]
    raw = feature_table(info, pd.DataFrame({"at": dates}))
    assert raw.iloc[0, 0] == pytest.approx(18628.25)  # days from 1970-01-01 to 2021-01-01 06:00
    assert raw.iloc[0, 3] == 4  # a Friday
    assert raw.iloc[0, 4] == pytest.approx(6.0)
    assert (raw[1] ** 2 + raw[2] ** 2).to_numpy() == pytest.approx(1.0)
    as_text = dates.dt.strftime("%Y-%m-%d %H:%M")
    torch.testing.assert_close(
        transform_table(info, pd.DataFrame({"at": as_text})),
        transform_table(info, pd.DataFrame({"at": dates})),
    )


def test_wild_cells_stay_finite_and_their_squares_too():
    info = fit_table(pd.DataFrame({"x": np.arange(50.0)}))
    inputs = transform_table(info, pd.DataFrame({"x": [1e300, -1e300]}))
    assert inputs[:, 0].tolist() == [LARGEST_SCALED, -LARGEST_SCALED]
    assert torch.isfinite(inputs.square()).all()


def test_columns_that_are_constant_in_the_training_rows_are_left_out():
    frame = pd.DataFrame(
        {"x": np.arange(20.0), "late": [0.0] * 15 + [1.0] * 5, "w": ["a", "b"] * 10}
    )
    info = fit_table(frame, rows=np.arange(15))
    assert info.input_columns == ("x", "w")
    notes = {row["column"]: row["note"] for row in info.schema()}
    assert notes["late"] == "left out: the training rows hold one value only"


def test_a_table_without_any_input():
    frame = pd.DataFrame({"id": [f"i{k}" for k in range(30)], "same": [1] * 30})
    with pytest.raises(ValueError, match=r"No column .* can become an input \('id' is left out"):
        fit_table(frame)


def test_schema_has_one_row_per_column(info, frame):
    rows = info.schema()
    assert [row["column"] for row in rows] == list(frame.columns)
    town = next(row for row in rows if row["column"] == "town")
    assert town["type"] == "categorical"
    assert town["distinct"] == 4
    assert town["missing"] == pytest.approx(frame["town"].isna().mean(), abs=1e-4)


def test_two_thousand_columns():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(40, 2000)), columns=[f"c{i}" for i in range(2000)])
    info = fit_table(frame)
    assert transform_table(info, frame).shape == (40, 2000)


# --- new tables ----------------------------------------------------------------------------------


def test_more_columns_another_order_and_another_index_are_fine(info, frame):
    new = frame.assign(extra="x")[[*reversed(frame.columns), "extra"]].set_index(
        pd.Index(range(500, 620))
    )
    torch.testing.assert_close(
        transform_table(info, new), transform_table(info, frame), equal_nan=True
    )


def test_whole_columns_may_be_missing_cells(info, frame):
    new = frame.assign(rooms=np.nan, town=None, built=None)
    inputs = transform_table(info, new)
    assert inputs[:, 1:6].isnan().all()
    assert (inputs[:, 6] == 4).all()


def test_numbers_written_as_text_are_read(info, frame):
    new = frame.assign(größe=frame["größe"].map(repr))
    torch.testing.assert_close(
        transform_table(info, new), transform_table(info, frame), equal_nan=True
    )


def test_absent_columns_are_named(info, frame):
    with pytest.raises(ValueError, match=r"lacks the column\(s\) 'rooms', 'town'"):
        transform_table(info, frame.drop(columns=["rooms", "town"]))


def test_wrong_types_are_named_all_at_once(info, frame):
    new = frame.astype({"größe": object})
    new.loc[2, "größe"] = "huge"
    new["built"] = "yesterday"
    with pytest.raises(ValueError, match="wrong type") as caught:
        transform_table(info, new)
    message = str(caught.value)
    assert "'größe' must hold numbers, found 'huge' in row 3" in message
    assert "'built' must hold dates, found 'yesterday' in row 1" in message


def test_numbers_for_dates_and_dates_for_numbers_are_wrong(info, frame):
    with pytest.raises(ValueError, match="'built' must hold dates, found 17000 in row 1"):
        transform_table(info, frame.assign(built=17000))
    with pytest.raises(ValueError, match="'rooms' must hold numbers"):
        transform_table(info, frame.assign(rooms=pd.Timestamp("2020-01-01")))


def test_infinity_at_prediction_names_column_and_row(info, frame):
    new = frame.copy()
    new.loc[7, "rooms"] = np.inf
    with pytest.raises(
        ValueError, match="Column 'rooms' must hold finite numbers, found inf in row 8"
    ):
        transform_table(info, new)
