"""The store: the only code that knows Redis. ``MessageStore`` calls the functions in ``scripts``."""
