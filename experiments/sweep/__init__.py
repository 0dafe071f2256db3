"""Sweeps: a parent process, its workers, and the end of it."""
