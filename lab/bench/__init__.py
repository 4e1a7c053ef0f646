"""What is measured: speed, memory, and how well the methods learn relations."""
