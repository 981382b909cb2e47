"""Networks that look at photographs of cells, found by their file being here; see `base`."""
