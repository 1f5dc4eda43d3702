"""Declared experiments: their grid, their runner, their stored rows, their claims."""
