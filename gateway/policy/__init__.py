"""Pure decisions: consent, quiet hours, caps, numbers, routes, rates. No I/O, and time is an argument."""
