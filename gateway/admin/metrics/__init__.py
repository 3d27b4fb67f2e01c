"""Metrics for Prometheus: collected at the scrape from what the components have counted."""
