"""DINOv2 and what is tuned in it. transformers is imported when a transformer is built, not before."""
