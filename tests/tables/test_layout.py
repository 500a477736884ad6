"""Files of every layout and encoding hold the same table."""

from __future__ import annotations

import csv
import io
import struct
import sys
import zipfile

import pandas as pd
import pytest
from tests.tables.test_reading import write, zipped

from polytask.tables import read_table
from polytask.tables.encodings import find_encoding, find_legacy
from polytask.tables.layout import find_delimiter, find_layout

ROWS = [(i / 4, -i, "ab"[i % 2]) for i in range(60)]
BODY = "".join(f"{a},{b},{c}\n" for a, b, c in ROWS)
EXPECTED = pd.DataFrame(ROWS, columns=["x", "y", "z"])


def check(frame):
    pd.testing.assert_frame_equal(frame, EXPECTED, check_dtype=False)


LAYOUTS = {
    "plain": ("x,y,z\n" + BODY, ""),
    "carriage returns": (("x,y,z\n" + BODY).replace("\n", "\r"), ""),
    "both line ends": (("x,y,z\n" + BODY).replace("\n", "\r\n"), ""),
    "named delimiter": ("sep=;\n" + ("x,y,z\n" + BODY).replace(",", ";"), ""),
    "named tab": ("sep=\t\n" + ("x,y,z\n" + BODY).replace(",", "\t"), ""),
    "comments": ("# made 2021\n# it's \"old, very\n\nx,y,z\n" + BODY, "2 comment lines above"),
    "slashes": ("// made 2021\nx,y,z\n" + BODY, "1 comment line above"),
    "header in a comment": ("# made 2021\n#x,y,z\n" + BODY, "'#x,y,z' is read as the column names"),
    "spaced comment": ("# x, y, z\n" + BODY, "'# x, y, z' is read as the column names"),
    "title": ("Table 3,,\nx,y,z\n" + BODY, "1 title row above the header left out ('Table 3')"),
    "bare title": ("Table 3 of 2021\n\nx,y,z\n" + BODY, "1 title row above"),
    "several titles": ("Survey\nyear,2021\nx,y,z\n" + BODY, "2 title rows above"),
    "quoted title": ('"A title, with\n a break"\nx,y,z\n' + BODY, "1 title row above"),
    "units": ("x,y,z\n[m],[s],\n" + BODY, "1 row of units below the header left out ([m], [s])"),
    "plain units": ("x,y,z\nkg/m3,°C,\n" + BODY, "1 row of units below"),
    "types and roles": (
        "x,y,z\ncontinuous,continuous,discrete\n,class,\n" + BODY,
        "2 rows of units",
    ),
    "title and units": ("Data\nx,y,z\n(m),(s),(-)\n" + BODY, "1 row of units below"),
    "spaces": ("x  y   z\n" + BODY.replace(",", "   "), ""),
    "leading spaces": ("x y z\n" + "".join(f"   {a}\t{b} {c}\n" for a, b, c in ROWS), ""),
    "bar": (("x,y,z\n" + BODY).replace(",", "|"), ""),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_is_the_same_table(tmp_path, name):
    text, note = LAYOUTS[name]
    frame = read_table(write(tmp_path, "t.csv", text.encode()))
    check(frame)
    notes = frame.attrs.get("notes", [])
    assert any(note in n for n in notes) if note else notes == []


@pytest.mark.parametrize("skipped", [0, 1, 3])
def test_lines_that_are_told_are_skipped(tmp_path, skipped):
    above = "".join(f"one,{i},three\n" for i in range(skipped))
    frame = read_table(write(tmp_path, "t.csv", above + "x,y,z\n" + BODY), skip_rows=skipped)
    check(frame)
    with pytest.raises(ValueError, match="no line is left below the 99 that are skipped"):
        read_table(tmp_path / "t.csv", skip_rows=99)
    with pytest.raises(ValueError, match="`skip_rows` must be a number of lines >= 0, found -1"):
        read_table(tmp_path / "t.csv", skip_rows=-1)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("#,Name,Type\n1,Bulbasaur,Grass\n2,Ivysaur,Grass\n", ["#", "Name", "Type"]),
        ("name,comment\nbob,hi\nann,ho\n", ["name", "comment"]),
        ("name,2019,2020\nbob,1,2\nann,3,4\n", ["name", "2019", "2020"]),
        (",x\n0,1\n1,2\n", ["column 1", "x"]),
        ("x,y\nunknown,-\n1,2\n3,4\n5,6\n", ["x", "y"]),
        ("x,y\nTotal,21\n1,2\n3,4\n5,6\n", ["x", "y"]),
        ("0,1,2\n5,6,7\n8,9,1\n", ["0", "1", "2"]),
    ],
)
def test_headers_that_are_as_usual_stay(tmp_path, text, names):
    frame = read_table(write(tmp_path, "t.csv", text))
    assert list(frame.columns) == names
    assert len(frame) == text.count("\n") - 1
    assert "notes" not in frame.attrs


def test_a_cell_of_200000_letters(tmp_path):
    long = "word " * 40_000
    path = write(tmp_path, "t.csv", f'x,y\n"{long}",1\nshort,2\n')
    before = csv.field_size_limit()
    frame = read_table(path)
    assert frame["x"].str.len().tolist() == [200_000, 5]
    assert csv.field_size_limit() == before


def test_a_decimal_comma_is_told_to_whoever_reads_the_cells(tmp_path):
    text = "x;y\n" + "".join(f"{i},5;1.{i:03d},25\n" for i in range(100, 160))
    frame = read_table(write(tmp_path, "t.csv", text))
    assert frame["x"].iloc[0] == 100.5
    assert frame.attrs["decimal"] == ","
    assert frame["y"].iloc[0] == "1.100,25"


def test_delimiter_of_lines():
    assert find_delimiter(["a b\n", "1,5 2\n", "2,5 3\n"]) == r"\s+"
    assert find_delimiter(["title\n", "a;b\n", "1;2\n", "3;4\n", "5;6\n"]) == ";"
    assert find_layout("a;b\n1,5;2\n").decimal == ","


# --- encodings -----------------------------------------------------------------------------------

WORDS = {
    "latin-1": ("größe", "Köln", "Latin-1 (cp1252)"),
    "cp1252": ("größe", "Köln “€”", "Latin-1 (cp1252)"),
    "cp949": ("크기", "서울특별시", "cp949 (Korean)"),
    "cp932": ("サイズ", "とうきょう東京", "cp932 (Japanese)"),
    "gb18030": ("大小", "北京市中心", "gb18030 (Chinese)"),
    "cp1251": ("размер", "Москва и область", "CP1251"),
    "utf-16": ("größe", "서울", "UTF-16"),
    "utf-16-le": ("große", "Koln", "UTF-16-LE"),
    "utf-32": ("größe", "서울", "UTF-32"),
}


@pytest.mark.parametrize("encoding", WORDS)
def test_encodings_are_found_and_noted(tmp_path, encoding):
    name, town, known = WORDS[encoding]
    text = f"{name},b\n" + "".join(f"{town},{i}\n" for i in range(40))
    frame = read_table(write(tmp_path, "t.csv", text.encode(encoding)))
    assert list(frame.columns) == [name, "b"]
    assert set(frame[name]) == {town}
    assert frame.attrs["notes"] == [f"the file is no UTF-8 and is read as {known}"]


def test_letters_that_come_late_in_the_file(tmp_path):
    content = b"a,b\n" + b"x,2\n" * 300_000 + "Köln,1\n".encode("latin-1")
    frame = read_table(write(tmp_path, "late.csv", content))
    assert frame["a"].iloc[-1] == "Köln"
    assert frame.attrs["notes"] == ["the file is no UTF-8 and is read as Latin-1 (cp1252)"]


def test_bytes_that_are_no_text():
    with pytest.raises(ValueError, match="no text"):
        find_encoding(b"\x89PNG\r\n\x1a\n\x00\x01\x02" + bytes(range(1, 30)))
    assert find_encoding("größe".encode()) == "utf-8-sig"
    assert find_legacy("señor, niño".encode("latin-1")) == "cp1252"


# --- archives and spreadsheets -------------------------------------------------------------------


def test_a_table_in_a_zip_file(tmp_path):
    members = {"__MACOSX/._t.csv": "junk", "readme.md": "read me", "data/t.csv": "x,y,z\n" + BODY}
    check(read_table(write(tmp_path, "t.csv.zip", zipped(members))))
    check(read_table(write(tmp_path, "t.zip", zipped(members))))


def test_a_parquet_file_in_a_zip_file(tmp_path):
    packed = io.BytesIO()
    EXPECTED.to_parquet(packed)
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        archive.writestr("t.parquet", packed.getvalue())
    check(read_table(tmp_path / "t.zip"))


def test_a_workbook_with_a_title_units_and_dates(tmp_path):
    days = pd.date_range("2021-01-01", periods=60)
    frame = EXPECTED.assign(day=days, zip="01099")
    nothing = [None] * 5
    rows = [["Survey of 2021", *nothing[1:]], nothing, [*frame.columns]]
    rows += [["[m]", "[s]", *nothing[2:]]]
    rows += frame.astype(object).to_numpy().tolist()
    with pd.ExcelWriter(tmp_path / "t.xlsx") as book:
        pd.DataFrame().to_excel(book, sheet_name="empty")
        pd.DataFrame(rows).to_excel(book, sheet_name="data", header=False, index=False)
        pd.DataFrame([["x"]]).to_excel(book, sheet_name="more", header=False, index=False)
    found = read_table(tmp_path / "t.xlsx", as_text=["zip"])
    check(found[["x", "y", "z"]])
    assert found["day"].tolist() == days.tolist()
    assert set(found["zip"]) == {"01099"}
    assert found.attrs["notes"] == [
        "the sheet 'data' is read, the first of 2 that hold something",
        "1 title row above the header left out ('Survey of 2021'); --skip-rows says more",
        "1 row of units below the header left out ([m], [s])",
    ]


def old_workbook(rows):
    """Bytes of a worksheet of 1987 (BIFF 2), the simplest .xls there is."""
    records = [struct.pack("<HHHH", 0x0009, 4, 2, 0x0010)]
    for i, row in enumerate(rows):
        for j, cell in enumerate(row):
            place = struct.pack("<HH3x", i, j)
            if isinstance(cell, str):
                body = place + struct.pack("<B", len(cell)) + cell.encode("ascii")
                records.append(struct.pack("<HH", 0x0004, len(body)) + body)
            else:
                body = place + struct.pack("<d", cell)
                records.append(struct.pack("<HH", 0x0003, len(body)) + body)
    return b"".join([*records, struct.pack("<HH", 0x000A, 0)])


def test_an_old_workbook(tmp_path):
    check(read_table(write(tmp_path, "t.xls", old_workbook([("x", "y", "z"), *ROWS]))))


@pytest.mark.parametrize(("name", "package"), [("t.xlsx", "openpyxl"), ("t.xls", "xlrd")])
def test_a_workbook_without_its_package_names_the_extra(tmp_path, monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"'{name}' needs {package}.*polytask\[excel\]"):
        read_table(write(tmp_path, name, b"PK"))
