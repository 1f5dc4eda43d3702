"""Eva's closed form in low precision: when the curved direction cancels, and what keeps it."""
