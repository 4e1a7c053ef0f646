"""The real host for demo, tests and measurements, and the literal reference of the method."""
