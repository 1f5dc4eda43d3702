"""At which steps an iteration for inverse roots needs its precision."""
