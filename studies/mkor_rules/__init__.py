"""MKOR's update of an inverse: the rule that is printed, and the recursion that is released."""
