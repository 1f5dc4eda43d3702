"""Statistics and roots that are kept in few bits: what storing them costs the inverse root."""
