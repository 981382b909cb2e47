"""Heads that judge a bag by the features of its rows, found by their file being here; see `base`."""
