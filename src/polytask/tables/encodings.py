"""The encoding of a text file, found from its bytes: UTF-8, UTF-16, or an older one by its letters.

Older encodings give every byte a meaning, so that nothing fails where the wrong one is taken; what
decides is which one turns the bytes beyond ASCII into letters that stand together in a language.
"""

from __future__ import annotations

import codecs
import re

__all__ = ["find_encoding", "find_legacy"]

UTF8 = "utf-8-sig"
MARKS = (
    (codecs.BOM_UTF8, UTF8),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
#: A file of text has fewer control characters than this.
MOST_CONTROL = 0.01
#: Bytes beyond ASCII that are looked at.
MOST_BYTES = 200_000
#: Encodings of several bytes per letter, with the letters that a text in them mostly has.
EASTERN = (
    ("cp932", re.compile("[\u3040-\u30ff]"), 0.3),
    ("cp949", re.compile("[\uac00-\ud7a3]"), 0.7),
    ("gb18030", re.compile("[\u4e00-\u9fff]"), 0.8),
    ("big5", re.compile("[\u4e00-\u9fff]"), 0.8),
)
#: First bytes of the common Chinese characters of GB 2312 and of Big5.
COMMON = {"gb18030": (0xB0, 0xD7), "big5": (0xA4, 0xC6)}
#: Codepages of one byte per letter whose letters stand in whole words.
CYRILLIC = re.compile("[\u0430-\u044f\u0451]")


def find_encoding(start: bytes) -> str:
    """The encoding of the first bytes of a file.

    Raises:
        ValueError: The bytes are no text.
    """
    for mark, encoding in MARKS:
        if start.startswith(mark):
            return encoding
    zeros = [start[place::2].count(0) for place in (0, 1)]
    if sum(zeros) > 0.2 * len(start):
        return "utf-16-le" if zeros[1] > zeros[0] else "utf-16-be"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return find_legacy(start)
    return UTF8


def find_legacy(data: bytes) -> str:
    """The encoding of bytes that are not UTF-8.

    Raises:
        ValueError: The bytes are no text.
    """
    control = len(re.findall(rb"[\x00-\x08\x0e-\x1f]", data))
    if control > MOST_CONTROL * len(data):
        raise ValueError("its bytes are no text")
    lines = [line for line in data.splitlines() if not line.isascii()]
    sample = b"\n".join(lines)[:MOST_BYTES]
    sample = sample[: sample.rfind(b"\n")] if len(sample) == MOST_BYTES else sample
    for encoding, letters, share in EASTERN:
        if _fits(sample, encoding, letters, share):
            return encoding
    beyond = bytes(byte for byte in sample if byte > 127)
    runs = [len(run) for run in re.findall(rb"[\x80-\xff]+", sample)]
    if runs and sum(runs) / len(runs) >= 3:  # accents stand alone, Cyrillic words do not
        for encoding in ("cp1251", "koi8-r", "cp866"):
            text = beyond.decode(encoding, "replace")
            if len(CYRILLIC.findall(text)) >= 0.6 * len(text):
                return encoding
    # Latin-1 itself has control characters where cp1252 has quotes and the euro sign.
    try:
        beyond.decode("cp1252")
    except UnicodeDecodeError:
        return "latin-1"
    return "cp1252"


def _fits(sample: bytes, encoding: str, letters: re.Pattern[str], share: float) -> bool:
    try:
        text = sample.decode(encoding)
    except UnicodeDecodeError:
        return False
    foreign = [letter for letter in text if ord(letter) > 127]
    if len(letters.findall("".join(foreign))) < share * len(foreign):
        return False
    if encoding not in COMMON:
        return True
    low, high = COMMON[encoding]
    pairs = [letter.encode(encoding) for letter in foreign]
    common = sum(len(p) == 2 and low <= p[0] <= high and p[1] >= 0x40 for p in pairs)
    if encoding == "gb18030":
        common = sum(len(p) == 2 and low <= p[0] <= high and p[1] >= 0xA1 for p in pairs)
    return common >= 0.9 * len(pairs)
