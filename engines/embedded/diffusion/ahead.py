"""Casting a model's weights in a thread while the job still does other things: at a cold start, importing libraries."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any

_logger = logging.getLogger(__name__)


class Ahead:
    """Work that goes through `names` one by one, `make(name)` each, until it is done or no longer wanted.

    What `make` gives is kept until `end`, so that what it has put into a cache of weak references stays there.
    """

    def __init__(self, names: Iterable[str], make: Callable[[str], Any]) -> None:
        self._names = names
        self._make = make
        self._kept: list[Any] = []
        self._unwanted = threading.Event()
        self._thread = threading.Thread(target=self._work, name="cast ahead", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            for name in self._names:
                if self._unwanted.is_set():
                    return
                self._kept.append(self._make(name))
        except Exception:  # whoever needs the weights meets the same, and says it to the caller
            _logger.debug("casting ahead", exc_info=True)

    def end(self) -> list[Any]:
        """Stop after the tensor that is at hand; what was made."""
        self._unwanted.set()
        self._thread.join()
        return self._kept
