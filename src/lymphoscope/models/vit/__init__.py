"""What is tuned in a vision transformer, and the network of cells it becomes."""
