"""What a run costs: peak memory of this process, and time."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

__all__ = ["PeakMemory"]

_CLEAR_REFS = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


class PeakMemory:
    """Peak memory of this process from its construction on.

    On Linux the kernel's high-water mark is reset first, so that a long-lived worker reports each
    run's own peak. Elsewhere the peak is that of the whole process so far, and ``is_exact`` is
    False.
    """

    def __init__(self) -> None:
        self.is_exact = self._reset()
        cuda = _cuda()
        if cuda is not None:
            cuda.reset_peak_memory_stats()

    @staticmethod
    def _reset() -> bool:
        try:
            # 5 resets the peak resident set size, see proc(5).
            _CLEAR_REFS.write_text("5", encoding="ascii")
        except OSError:
            return False
        return True

    @property
    def megabytes(self) -> float:
        """Peak resident memory in MiB."""
        if self.is_exact:
            for line in _STATUS.read_text(encoding="ascii").splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 1024
        try:
            import resource
        except ImportError:
            return float("nan")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 2**20 if sys.platform == "darwin" else peak / 2**10

    @property
    def gpu_megabytes(self) -> float | None:
        """Peak memory on the GPU in MiB, or None without one."""
        cuda = _cuda()
        return None if cuda is None else float(cuda.max_memory_allocated()) / 2**20


def _cuda() -> Any:
    """``torch.cuda`` if the run has loaded torch and uses a GPU, else None."""
    torch = sys.modules.get("torch")
    is_used = torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized()
    return torch.cuda if torch is not None and is_used else None
