"""Networks that turn photographs of cells into numbers, trained here or elsewhere."""
