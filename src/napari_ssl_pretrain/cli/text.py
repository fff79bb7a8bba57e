"""Numbers, durations and tables as a person reads them."""

from __future__ import annotations

import shutil
import sys
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def plain(line: str) -> str:
    r"""Show as ``\x1b`` and such what a terminal would obey or cannot show; names may hold it."""
    return "".join(c if c.isprintable() or c == "\n" else _escaped(c) for c in line)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def duration(seconds: float) -> str:
    """Return ``45 s``, ``2 min 5 s`` or ``3 h 10 min``."""
    whole = max(0, round(seconds))
    if whole < 60:  # noqa: PLR2004
        return f"{whole} s"
    if whole < 3600:  # noqa: PLR2004
        minutes, rest = divmod(whole, 60)
        return f"{minutes} min {rest} s" if rest and minutes < 10 else f"{minutes} min"  # noqa: PLR2004
    hours, rest = divmod(whole, 3600)
    return f"{hours} h {rest // 60} min"


def count(number: int, thing: str) -> str:
    """Return ``1 image`` or ``3 images``."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def millions(number: int) -> str:
    """Return ``1.1 million`` or ``64 thousand``."""
    return f"{number / 1e6:.1f} million" if number >= 1e6 else f"{number / 1e3:.0f} thousand"  # noqa: PLR2004


def rate(patches_per_second: float) -> str:
    """Return ``0.8 patches/s`` or ``45 patches/s``."""
    digits = 0 if patches_per_second >= 10 else 1  # noqa: PLR2004
    return f"{patches_per_second:.{digits}f} patches/s"


def wrapped(sentence: str) -> str:
    """Break a long sentence into lines, those after the first indented."""
    keep = {"break_long_words": False, "break_on_hyphens": False}
    return textwrap.fill(sentence, 100, subsequent_indent="    ", **keep)  # type: ignore[arg-type]


def by(lengths: Sequence[float]) -> str:
    """Return ``64 x 64``."""
    return " x ".join(f"{n:g}" for n in lengths)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return aligned columns; the first one gives way where the terminal is too narrow."""
    cells = [[plain(c).replace("\n", "\\n") for c in row] for row in (header, *rows)]
    widths = [max(len(row[k]) for row in cells) for k in range(len(header))]
    room = shutil.get_terminal_size((120, 24)).columns if sys.stdout.isatty() else 10_000
    spare = room - sum(widths[1:]) - 2 * (len(widths) - 1)
    widths[0] = min(widths[0], max(spare, 20))
    for row in cells:
        if len(row[0]) > widths[0]:
            row[0] = f"...{row[0][-(widths[0] - 3) :]}"
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells
    )
