"""One workflow over many ComfyUI hosts and the rows of a table, placed and retried by Ray."""
