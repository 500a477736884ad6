"""Tables from files: delimiters, encodings, compression, Parquet, and files that are no tables."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import sys
import zipfile

import pandas as pd
import pytest
from tests.tables.frames_for_tests import houses

from polytask.tables import read_table


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def zipped(members):
    """Bytes of a zip file that holds texts."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return packed.getvalue()


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "byte order mark"])
def test_delimiter_is_found(tmp_path, delimiter, mark):
    lines = [["größe", "Straße", "n"], ["1.5", '"a, b; c"', "1"], ["2.5", "東京", "2"]]
    text = "\n".join(delimiter.join(line) for line in lines)
    frame = read_table(write(tmp_path, "t.csv", mark + text))
    assert list(frame.columns) == ["größe", "Straße", "n"]
    assert frame["größe"].tolist() == [1.5, 2.5]
    assert frame["Straße"].tolist() == ["a, b; c", "東京"]


@pytest.mark.parametrize(
    ("ending", "compress"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)]
)
def test_compressed_files(tmp_path, ending, compress):
    frame = read_table(write(tmp_path, f"t.csv{ending}", compress(b"a,b\n1,x\n2,y\n")))
    assert frame.to_dict("list") == {"a": [1, 2], "b": ["x", "y"]}


def test_decimal_comma_is_read_where_the_delimiter_is_another(tmp_path):
    frame = read_table(write(tmp_path, "t.csv", "name;value\na;1,5\nb;-2,25\n"))
    assert frame["value"].tolist() == [1.5, -2.25]
    frame = read_table(write(tmp_path, "u.csv", "name;value\na;1.5\nb,c;-2.25\n"))
    assert frame["value"].tolist() == [1.5, -2.25]


def test_missing_cells(tmp_path):
    frame = read_table(write(tmp_path, "t.csv", "a,b\n1,?\n,x\nNA, y\n"))
    assert frame["a"].isna().tolist() == [False, True, True]
    assert frame["b"].isna().tolist() == [True, False, False]
    assert frame["b"].iloc[2] == "y"


def test_codes_can_stay_text(tmp_path):
    path = write(tmp_path, "t.csv", "id,zip\n1,01099\n2,\n3,53111\n")
    assert read_table(path)["zip"].iloc[0] == 1099
    kept = read_table(path, as_text=["zip", "no such column"])["zip"]
    assert kept.iloc[0] == "01099"
    assert kept.isna().tolist() == [False, True, False]


def test_a_column_without_a_name_gets_one(tmp_path):
    assert list(read_table(write(tmp_path, "t.csv", ",x\n0,1\n1,2\n")).columns) == ["column 1", "x"]


def test_two_thousand_columns(tmp_path):
    names = [f"column with a long name {i}" for i in range(2000)]
    rows = [",".join(str(i * j % 17) for i in range(2000)) for j in range(12)]
    frame = read_table(write(tmp_path, "wide.csv", "\n".join([",".join(names), *rows])))
    assert frame.shape == (12, 2000)
    assert list(frame.columns) == names


def test_parquet_round_trip(tmp_path):
    frame = houses()
    frame.to_parquet(tmp_path / "t.parquet")
    pd.testing.assert_frame_equal(read_table(tmp_path / "t.parquet"), frame)


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    path = write(tmp_path, "t.parquet", b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"'t.parquet' needs pyarrow.*polytask\[data\]"):
        read_table(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.csv", "", "empty; it needs a line of column names"),
        ("blank.csv", "\n \n", "empty; it needs a line of column names"),
        ("header.csv", "a,b\n", "has no row of data"),
        ("numbers.csv", "7.4,0.7\n7.8,0.9\n", r"holds numbers \(7.4, ...\) where column names"),
        ("twice.csv", "a,b,a\n1,2,3\n", "column name 'a' more than once"),
        ("picture.csv", b"\x89PNG\r\n\x1a\n" + bytes(range(32)) * 9, "its bytes are no text"),
        ("ragged.csv", "a,b\n1,2\n3,4,5\n", "Expected 2 fields in line 3, saw 3"),
        ("long.csv", "a,b\n1,2,3\n3,4,5\n", "rows with more cells than"),
        ("torn.csv.gz", gzip.compress(b"a,b\n1,2\n", mtime=0)[:-6], "cannot be read"),
        ("junk.csv.gz", b"no gzip file", "cannot be read"),
        ("junk.parquet", b"no parquet file", "is no whole Parquet file"),
        ("table.docx", b"", "no kind of table that can be read"),
        ("table.xls", b"", "is no whole spreadsheet"),
        ("table.xlsx", b"PK", "is no whole spreadsheet"),
        ("two.zip", zipped({"a.csv": "a,b\n1,2\n", "b.csv": "a\n"}), "one table, found a.csv, b"),
        ("none.zip", zipped({"a.docx": "a"}), "one table, found none"),
        ("junk.csv.zip", b"no zip file", "cannot be read"),
    ],
)
def test_files_that_are_no_tables(tmp_path, name, content, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_table(write(tmp_path, name, content))
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_does_not_exist(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no file .*nowhere.csv"):
        read_table(tmp_path / "nowhere.csv")
