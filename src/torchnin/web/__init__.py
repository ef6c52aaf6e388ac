"""The local page and the HTTP API."""
