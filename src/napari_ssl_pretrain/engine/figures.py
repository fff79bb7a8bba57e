"""Figures as PNG."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def png(figure: Figure) -> bytes:
    """Return a figure as PNG; one that no window owns is drawn by Agg, without a display."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi="figure")
    return picture.getvalue()
