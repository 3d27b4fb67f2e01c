"""From the event streams to the endpoints of applications: follow, queue, sign, post, retry."""
