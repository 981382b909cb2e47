"""Honest numbers: protocols, out-of-fold probabilities, intervals, the ladder, referral, shortcut probes."""
