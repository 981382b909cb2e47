"""Training networks on packed bags of cell images: torch and numpy only, to run on bare machines too."""
