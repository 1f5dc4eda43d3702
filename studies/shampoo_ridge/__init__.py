"""What a ridge hides: its bias against the rounding error that it saves."""
