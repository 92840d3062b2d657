"""Runnable examples, each with its config, its README and what it shows."""
