"""The admin listener: status, controls and metrics for operators; reload and audit."""
