"""A drawn world, its judge, and a tiny real model that draws it."""
