"""How workers hand over what the user can mend: returned, not raised, so that no dialogue opens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_ssl_pretrain.errors import UserError


@dataclass(frozen=True)
class Problem:
    """Something that the user can mend."""

    error: UserError
