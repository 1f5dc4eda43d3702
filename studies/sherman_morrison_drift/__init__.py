"""An inverse carried by updates of rank one: whether it survives few digits, when it breaks, and what cures it."""
