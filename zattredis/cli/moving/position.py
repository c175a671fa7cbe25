"""Where an import stands: a small file, renewed about once a second, removed when the import is complete.

It belongs to one source (a file with its size and time, a server with its run id) and one target. Without it, or with
that of another source, an import begins at the start; what is there already is found equal and passed over.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

from zattredis.errors import ConfigError

_INTERVAL_S: Final = 1.0


def default_path(identity: str) -> Path:
    """Return where the position of an import is kept if nobody says: in the user's state directory."""
    home = os.environ.get("XDG_STATE_HOME") or str(Path("~/.local/state").expanduser())
    return Path(home) / "zattredis" / f"import-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.json"


class Position:
    """See the module. `behind` is None at the start."""

    def __init__(self, path: Path, identity: str) -> None:
        self.path = path
        self._identity = identity
        self._saved_at = time.monotonic()
        self.behind: list[Any] | None = None
        self.counts: Counter[str] = Counter()

    def load(self) -> bool:
        """Take up what an earlier import of the same source into the same target left; return whether there was one."""
        try:
            found = json.loads(self.path.read_text())
            if found["identity"] != self._identity:
                return False
            self.behind, self.counts = list(found["behind"]), Counter(found["counts"])
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return True

    def reached(self, behind: list[Any], counts: Counter[str]) -> None:
        """Everything before `behind` is imported; write that down, if it is time to."""
        if behind:
            self.behind, self.counts = behind, Counter(counts)
            if time.monotonic() - self._saved_at >= _INTERVAL_S:
                self.save()

    def save(self) -> None:
        """Write the position down. Raises ConfigError where that is impossible."""
        if self.behind is None:
            return
        text = json.dumps({"identity": self._identity, "behind": self.behind, "counts": self.counts})
        beside = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            beside.write_text(text)
            beside.replace(self.path)
        except OSError as error:
            raise ConfigError(f"cannot keep the position in {self.path}: {error.strerror}; see --position") from None
        self._saved_at = time.monotonic()

    def forget(self) -> None:
        """The import is complete."""
        with contextlib.suppress(OSError):
            self.path.unlink()
