"""The search for doctests imports every module; those of other libraries run in environments of their own alone."""

collect_ignore_glob = ["with_*.py"]
