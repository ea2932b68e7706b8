"""Optimize: what a variant costs in quality, and later the search for the best one."""
