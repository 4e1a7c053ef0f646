"""What the pack is made and tried with: demo, workflows, help pages, release check."""
