"""How much of the machine is used where nobody says."""

from __future__ import annotations

import os

MOST_TOGETHER = 4
"""Processes at a time; each has photographs and a network of its own in memory."""


def available_cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # where processes are not kept to some cores


def default_jobs() -> int:
    """Processes to use: one a core, up to `MOST_TOGETHER`."""
    return min(MOST_TOGETHER, available_cores())
