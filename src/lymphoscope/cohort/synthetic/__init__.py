"""Synthetic cohorts whose truth is known, for tests, demonstrations and calibration. No cell here is real."""

from lymphoscope.cohort.synthetic.cohort import SyntheticCohort, synthesize
from lymphoscope.cohort.synthetic.numbers import draw_numbers
from lymphoscope.cohort.synthetic.plan import SyntheticPlan

__all__ = ["SyntheticCohort", "SyntheticPlan", "draw_numbers", "synthesize"]
