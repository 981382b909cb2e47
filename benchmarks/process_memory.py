"""Run a command in a process of its own and watch the memory of everything it starts (Linux).

Standard library alone: what a benchmark imports would count as its memory.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def watched(
    command: Sequence[str], *, env: Mapping[str, str] | None = None, every_s: float = 0.02
) -> tuple[str, float]:
    """What `command` printed, and the most anonymous memory of its process tree, MB (10⁶ bytes).

    Anonymous memory is what the processes made themselves: files they only look into, such as mapped arrays,
    do not count. A command that fails ends this program with its name; one that is running ends with it.
    """
    whole = {**os.environ, **env} if env else None
    process = subprocess.Popen(
        [*command], stdout=subprocess.PIPE, text=True, env=whole, preexec_fn=_end_with_parent
    )
    peak = 0.0
    try:
        while process.poll() is None:
            peak = max(peak, sum(map(anonymous_mb, tree(process.pid))))
            time.sleep(every_s)
    finally:
        if process.poll() is None:
            process.kill()
    output, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
    return output, peak


def tree(pid: int) -> list[int]:
    """The process and all that descend from it."""
    pids, at = [pid], 0
    while at < len(pids):
        for thread in _threads(pids[at]):  # a child belongs to the thread that started it
            try:
                children = Path(f"/proc/{pids[at]}/task/{thread}/children").read_text().split()
            except OSError:
                continue
            pids += [int(child) for child in children]
        at += 1
    return pids


def anonymous_mb(pid: int) -> float:
    """Anonymous memory of a process, MB (10⁶ bytes); 0 if it has just ended.

    A counter that the kernel keeps: reading it costs nothing, while adding up the pages (`smaps_rollup`)
    holds up a large process every time.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) * 1.024e-3 for line in lines if line.startswith("RssAnon:"))


def _end_with_parent() -> None:
    """Have the kernel kill this process when the one that started it dies, however it does (prctl(2))."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _threads(pid: int) -> list[str]:
    try:
        return os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 - names alone
    except OSError:
        return []
