"""From a checked request to the durable write, and fresh decisions later. Every interface submits through it."""
