"""Models: one file and one YAML per idea, found by being here; see `registry`."""
