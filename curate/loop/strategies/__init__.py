"""What to label next: one pure function per strategy, from vectors and scores to ranked rows.

Those that rank by a score are in `ranked`; those that look at the set as a whole in `k_center`, `typicality` and `herding`.
"""
