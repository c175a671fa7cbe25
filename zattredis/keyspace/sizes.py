"""Constant bounds of the state machine. All nodes must agree on them, so they are no settings; a change needs a new
state-machine version."""

from __future__ import annotations

from typing import Final

INLINE_BYTES_MAX: Final = 64 * 1024
"""Longest string kept in its record; longer ones are chunks under a collection id."""
CHUNK_BYTES: Final = 16 * 1024
"""Bytes of one chunk: what a SETRANGE or SETBIT within a large string rewrites."""
STRING_BYTES_MAX: Final = 512 * 1024 * 1024
"""Longest string, Redis's default proto-max-bulk-len."""
POINT_DELETES_MAX: Final = 128
"""A dead string of at most so many chunks is deleted by its own command; maintenance reclaims longer ones."""
EFFECT_OVERHEAD_BYTES: Final = 48
"""What an effect is reckoned to weigh beside its value."""
EFFECT_BYTES_MAX: Final = 1 << 30
"""What one command or EXEC may write."""
SLICED_ELEMENTS: Final = 1024
"""A read of more elements than this runs in slices."""
