"""A simulated carrier whose faults are data: for the demo, for benchmarks and for tests."""

from __future__ import annotations

from gateway.simulator.carrier import Simulator
from gateway.simulator.faults import Faults, StatusRule, read_faults
from gateway.simulator.run import run
from gateway.simulator.stats import LedgerEntry, SimulatorStats

__all__ = ["Faults", "LedgerEntry", "Simulator", "SimulatorStats", "StatusRule", "read_faults", "run"]
