"""Benchmarks: one module each, run by `meseta bench NAME`."""
