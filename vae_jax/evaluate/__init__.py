"""Held-out numbers that can be believed."""
