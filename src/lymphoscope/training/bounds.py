"""What a number given by the user may be."""

from __future__ import annotations

import math
from collections.abc import Iterable

from lymphoscope.errors import InputError


def check_range(
    field: str, value: float, low: float, high: float, *, open_low: bool = False, open_high: bool = False
) -> None:
    """Raise `InputError` unless `value` lies from `low` to `high`; an open end is not allowed itself."""
    above = value > low if open_low else value >= low
    below = value < high if open_high else value <= high
    if isinstance(value, bool) or not (above and below):
        lower = f"above {low:g}" if open_low else f"at least {low:g}"
        upper = f"below {high:g}" if open_high else f"at most {high:g}"
        allowed = lower if math.isinf(high) else f"{lower} and {upper}"
        raise InputError(f"{field} is out of range", found=value, allowed=allowed)


def check_choice(field: str, value: str, choices: Iterable[str]) -> None:
    """Raise `InputError` unless `value` is one of `choices`."""
    allowed = tuple(choices)
    if value not in allowed:
        raise InputError(f"{field} is unknown", found=value, allowed=", ".join(allowed))
