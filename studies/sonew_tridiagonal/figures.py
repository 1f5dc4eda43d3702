"""x"""
FIGURES=()
