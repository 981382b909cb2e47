"""Numbers as people read them: two decimals, a true minus, no certainty that is only rounding."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from lymphoscope.report.content import Comparison, Ladder, PatientRow, Rung
from lymphoscope.report.training_content import Training
from lymphoscope.stats.intervals import Interval

NOT_MEASURED = "not measured"
LONGEST_TITLE = 46


def known(value: float | None) -> bool:
    """Whether a value is there at all."""
    return value is not None and math.isfinite(value)


def decimal(value: float | None, digits: int = 2) -> str:
    """`value` with `digits` decimals and a true minus; "not known" where missing."""
    if value is None or not math.isfinite(value):
        return "not known"
    return f"{value:.{digits}f}".replace("-", "−")


def signed(value: float | None, digits: int = 2) -> str:
    """`value` with its sign always shown."""
    if value is None or not math.isfinite(value):
        return "not known"
    return f"{value:+.{digits}f}".replace("-", "−")


def probability(value: float) -> str:
    """A probability; never 0.00 or 1.00, which would be certainty by rounding."""
    if not math.isfinite(value):
        return "not known"
    if value < 0.005:
        return "< 0.01"
    return "> 0.99" if value > 0.995 else f"{value:.2f}"


def probability_text(interval: Interval) -> str:
    """A probability and its interval in words: "0.82 (0.64 to 0.93)"."""
    if not known_range(interval):
        return f"{probability(interval.estimate)} (no interval)"
    ends = " to ".join(probability(end) for end in (interval.low, interval.high))
    return f"{probability(interval.estimate)} ({ends})"


def interval_text(interval: Interval | None, digits: int = 2) -> str:
    """Estimate and interval: "0.83 (0.77 to 0.88)"."""
    if interval is None or not math.isfinite(interval.estimate):
        return NOT_MEASURED
    return f"{decimal(interval.estimate, digits)} ({range_text(interval, digits)})"


def known_range(interval: Interval) -> bool:
    """Whether the interval has finite ends."""
    return math.isfinite(interval.low) and math.isfinite(interval.high)


def any_range(intervals: Iterable[Interval | None]) -> bool:
    """Whether any of them has finite ends."""
    return any(interval is not None and known_range(interval) for interval in intervals)


def range_text(interval: Interval, digits: int = 2) -> str:
    """Only the interval: "0.77 to 0.88"; empty where it has no finite ends."""
    if not known_range(interval):
        return "no interval"
    return f"{decimal(interval.low, digits)} to {decimal(interval.high, digits)}"


def percent(value: float | None) -> str:
    """A share as a whole percentage: "96 %"."""
    return f"{100 * value:.0f}\u00a0%" if value is not None and math.isfinite(value) else "not known"


def percent_text(interval: Interval | None) -> str:
    """A share and its interval: "96 % (92 to 99 %)"."""
    if interval is None or not math.isfinite(interval.estimate):
        return NOT_MEASURED
    return f"{percent(interval.estimate)} ({percent_range(interval)})"


def percent_range(interval: Interval) -> str:
    """Only the interval: "92 to 99 %"; says so where it has no finite ends."""
    if not known_range(interval):
        return "no interval"
    return f"{100 * interval.low:.0f} to {percent(interval.high)}"


def plural(n: int, one: str, many: str | None = None) -> str:
    """ "1 patient", "2 patients", with a thin space between thousands that no line breaks at."""
    return f"{n:,}".replace(",", "\u202f") + f" {one if n == 1 else many or one + 's'}"


def describe_clinical(age: float, sex: float, count: float) -> str:
    """ "67 y · F · 5.2 × 10⁹/L"; what is missing is said to be missing."""
    years = f"{age:.0f} y" if known(age) else "age ?"
    letter = {0.0: "F", 1.0: "M"}.get(float(sex), "sex ?")
    cells = f"{count:.1f} × 10⁹/L" if known(count) else "count ?"
    return f"{years} · {letter} · {cells}"


def list_some(items: Sequence[str], most: int = 12) -> str:
    """The first `most` items and how many more there are."""
    shown = ", ".join(items[:most])
    return shown if len(items) <= most else f"{shown} and {len(items) - most} more"


def headline(unlabelled: Sequence[PatientRow], *, fitted_elsewhere: bool = False) -> str:
    """The answer for the cohort in one or two sentences.

    Parameters
    ----------
    fitted_elsewhere : labels of this cohort were not looked at: patients may have a diagnosis or not.
    """
    n = len(unlabelled)
    if n == 0:
        if fitted_elsewhere:
            return "This cohort has no patients: there is nobody to advise on."
        return "No patient of this cohort is without a diagnosis: there is nobody to advise on."
    advised, not_advised, unsure = (
        sum(row.decision == decision for row in unlabelled)
        for decision in ("advised", "not advised", "cannot say")
    )
    whom = plural(n, "patient") + ("" if fitted_elsewhere else " without a diagnosis")
    text = f"Of {whom}, flow cytometry is advised for {advised} and not advised for {not_advised}"
    return text + (f"; for {unsure} the tool cannot say." if unsure else ".")


def curves_caption(training: Training, drawn: int) -> str:
    """What the lines of a figure of curves are, and which epochs were kept."""
    kept = {fold.chosen for fold in training.folds}
    chosen = sorted({epoch for epochs in kept for epoch in epochs})
    several = max(map(len, kept)) > 1
    if len(chosen) == 1:
        circle = f"Open circle: the epoch that was kept (epoch {chosen[0]})"
    elif several and len(kept) == 1:
        circle = f"Open circles: the epochs that were kept of each training ({', '.join(map(str, chosen))})"
    elif several:
        circle = (
            f"Open circles: epochs that were kept, several of each training ({chosen[0]} to {chosen[-1]})"
        )
    else:
        circle = f"Open circle: the epoch that was kept of each training ({chosen[0]} to {chosen[-1]})"
    text = "Solid: validation. Dashed: training, as measured while the weights were changing. "
    if len(training.folds) > 1:
        text += "Thin: one training; thick: mean of those still going on. "
    if len(training.folds) > drawn:
        text += f"Of {len(training.folds)} trainings the first {drawn} are drawn by themselves. "
    return f"{text}{circle}. Dotted line: guessing."


def short_name(rung: Rung) -> str:
    """The rung's title where it is short enough to stand in a sentence, else the recipe's name."""
    if len(rung.title) <= LONGEST_TITLE:
        return rung.title
    return f"{rung.recipe} (optimistic)" if rung.optimistic else rung.recipe


def optimism_sentence(pair: Comparison, names: Mapping[str, str]) -> str:
    """What choosing the epoch on the patients that are scored gains a recipe."""
    sentence = (
        "Choosing the epoch on the patients that are scored moves the balanced "
        f"accuracy of “{names[pair.first]}” by {signed(pair.overall.estimate, 3)} "
        f"(interval {signed_range(pair.overall)})"
    )
    if 0 in pair.overall:
        return f"{sentence}; these patients cannot tell it from nothing."
    if pair.overall.high < 0:
        return f"{sentence}: here the patients held out within the training patients chose better."
    return f"{sentence}. No new patient will see any of it."


def short_names(ladder: Ladder) -> dict[str, str]:
    """Short name by title: of the rungs, and of whatever else was compared."""
    pairs = (*ladder.comparisons, *ladder.optimism)
    compared = {title: title for pair in pairs for title in (pair.first, pair.second)}
    return compared | {rung.title: short_name(rung) for rung in ladder.rungs}


def ladder_conclusion(ladder: Ladder) -> str:
    """Plain words on whether the rungs can be told apart, by the intervals of their paired differences.

    About the chosen recipe where it was compared with others, else about every comparison.
    """
    if ladder.conclusion:
        return ladder.conclusion
    chosen = {rung.title for rung in ladder.rungs if rung.chosen}
    about_chosen = [pair for pair in ladder.comparisons if pair.second in chosen]
    pairs = about_chosen or list(ladder.comparisons)
    if not pairs:
        return "No two rungs were compared, so no order among them is claimed."
    names = short_names(ladder)
    clear = [pair for pair in pairs if 0 not in pair.overall]
    unclear = [pair for pair in pairs if 0 in pair.overall]
    sentences = [
        f"“{names[pair.second]}” does {'better' if pair.overall.low > 0 else 'worse'} than "
        f"“{names[pair.first]}” ({signed(pair.overall.estimate, 3)}, interval "
        f"{signed_range(pair.overall)})."
        for pair in clear
    ]
    if unclear:
        sentences.append(_not_apart(unclear, names))
    return " ".join(sentences)


def _not_apart(pairs: Sequence[Comparison], names: Mapping[str, str]) -> str:
    """One sentence for all the pairs whose difference could as well be 0, by their second rung."""
    against: dict[str, list[str]] = {}
    for pair in pairs:
        second = names[pair.second]
        against.setdefault(second, []).append(f"“{names[pair.first]}”")
    told = [f"“{second}” from {' or '.join(first)}" for second, first in against.items()]
    return f"These patients cannot tell {'; nor '.join(told)}: the difference could as well be 0."


def signed_range(interval: Interval) -> str:
    """The interval of a difference: "−0.012 to +0.094"."""
    return f"{signed(interval.low, 3)} to {signed(interval.high, 3)}"


def told_apart(difference: Interval) -> str:
    """Whether a difference is one: its interval stays clear of 0."""
    if difference.low > 0:
        return "yes, better"
    return "yes, worse" if difference.high < 0 else "no"


def level_text(intervals: Iterable[Interval | None]) -> str:
    """The confidence level of the first interval there is: "95 %"."""
    return percent(next((interval.level for interval in intervals if interval is not None), 0.95))
