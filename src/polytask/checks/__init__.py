"""Public conformance checks: what every method of a kind must satisfy."""
