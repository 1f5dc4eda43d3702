"""Arithmetics: formats, rounding, sums, and the emulated run of a program."""
