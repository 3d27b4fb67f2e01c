"""What gateways on one store agree on: heartbeats, flags, shares of limits, upkeep, work for each other."""
