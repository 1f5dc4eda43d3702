"""The statistics of SONew carried in low precision: what is lost, and what keeps it."""
