"""Clusters of cells without labels (SCAN, Van Gansbeke et al. 2020), and classifiers of patients on them."""
