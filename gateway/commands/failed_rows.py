"""The file of refused rows, in the format of the file they came from."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.commands.message_file import NOTES, REST, is_csv, unencodable


class FailedRows:
    """Writes refused rows so that they can be corrected and sent again.

    The file is created with the first row. Octets that are not text are written unchanged. ``mark``: begin with a byte
    order mark, by which spreadsheets recognise UTF-8.
    """

    def __init__(
        self, path: Path, columns: list[str] | None = None, delimiter: str = "", *, mark: bool = False
    ) -> None:
        self.path = path
        self.count = 0
        self._as_csv = is_csv(path.name)
        self._columns = [name for name in columns or () if name and name not in NOTES]
        self._delimiter = delimiter or ("\t" if path.name.lower().endswith(".tsv") else ",")
        self._mark = mark
        self._file: Any = None

    def add(self, given: Mapping[str, Any], code: str, detail: str) -> None:
        """Write a row with the code and the detail of its refusal. Raises OSError."""
        self.count += 1
        row = {**given, NOTES[0]: code, NOTES[1]: detail}
        if self._file is None:
            self._file = self.path.open("wb")
            if self._as_csv:
                self._columns = self._columns or [name for name in given if name not in (*NOTES, REST)]
                self._write(self._line([*self._columns, *NOTES]), mark=self._mark)
        if self._as_csv:  # cells without a column stay at the end of the line
            self._write(self._line([*(row.get(name, "") for name in (*self._columns, *NOTES)), *row.get(REST, ())]))
        else:
            self._write(json.dumps(row) + "\n" if unencodable(row) else json.dumps(row, ensure_ascii=False) + "\n")

    def close(self) -> None:
        """Close the file, if it was created."""
        if self._file is not None:
            self._file.close()

    def _line(self, cells: list[Any]) -> str:
        out = io.StringIO()
        csv.writer(out, delimiter=self._delimiter, lineterminator="\n").writerow(cells)
        return out.getvalue()

    def _write(self, text: str, *, mark: bool = False) -> None:
        try:
            octets = text.encode(errors="surrogateescape")
        except UnicodeEncodeError:
            octets = text.encode(errors="surrogatepass")
        self._file.write((b"\xef\xbb\xbf" if mark else b"") + octets)
