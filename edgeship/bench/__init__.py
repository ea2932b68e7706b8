"""Bench: one protocol on host and device, its statistics and its report."""
