"""This package implements the blocking client."""
