"""Relation inversion: what the ReVersion paper says, on the host's own loaded model."""
