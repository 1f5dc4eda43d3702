"""Judgement of a computed result against what its condition allows."""
