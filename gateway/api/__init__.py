"""The HTTP interface for applications: submit, status, consents, suppressions, OpenAPI."""
