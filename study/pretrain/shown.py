"""How far all trainings of a command are: one display for those that run side by side."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from study.cli.progress import Bar


@dataclass
class Shown:
    """Adds up the faces that each network has been shown. Trainings tell from threads of their own."""

    bar: Bar
    at: dict[str, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reach(self, network: str, faces: int, *, resumed: bool = False) -> None:
        """So many faces of a network's training are done, by an earlier command where it resumed. Fewer than before
        where it continues from its last snapshot after a failure."""
        with self.lock:
            further = faces - self.at.get(network, 0)
            self.at[network] = faces
            if resumed and further >= 0:
                self.bar.skip(further)
            else:
                self.bar.update(further)
