"""SMPP 3.4 without I/O and without a clock: octets in, events out. Imports the standard library only."""
