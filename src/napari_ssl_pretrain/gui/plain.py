"""Text of others, such as file names, that Qt must not take for markup."""

from __future__ import annotations

from html import escape


def plain(text: str) -> str:
    """Return text that every label and tooltip shows as it is, also ``<b>`` and links."""
    if "<" not in text:  # Qt takes nothing else for markup
        return text
    return f"<qt>{escape(text)}</qt>".replace("\n", "<br>")
