"""What a training or a relation is shown as: charts, scores, and the words of a verdict."""
