"""Prompts as text: grids of them, hints about a relation's word in them, and the notations that programs read there."""
