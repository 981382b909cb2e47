"""From a cohort folder to a report: the whole way, in one call."""
