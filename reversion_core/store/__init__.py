"""Relations and runs on disk, and the files of other programs."""
