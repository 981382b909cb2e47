"""Blood-cell photographs and a small clinical table in, an honest answer per patient out."""
