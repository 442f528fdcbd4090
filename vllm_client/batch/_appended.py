"""A file of lines that is only appended to, and that no failed write leaves broken."""

from __future__ import annotations

import contextlib
import os


class AppendedFile:
    """The end of an open file of whole lines.

    Args:
        file: A descriptor that was opened to append; :meth:`close` closes it.
        end: Where the last whole line ends. What follows, a torn line, is cut off.
    """

    def __init__(self, file: int, end: int) -> None:
        self._file = file
        self._end = end
        os.ftruncate(file, end)

    def append(self, data: bytes) -> None:
        """Write lines.

        Raises:
            OSError: The disk is full, or broken. The file then ends with a whole line.
        """
        written = 0
        view = memoryview(data)
        try:
            while written < len(data):
                written += os.write(self._file, view[written:])
        except BaseException:
            written = data.rfind(b"\n", 0, written) + 1
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._end + written)
            raise
        finally:
            self._end += written

    def sync(self) -> None:
        """Force what was written to the disk."""
        os.fsync(self._file)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
