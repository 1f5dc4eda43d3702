"""Pages and figures made from stored rows alone."""
