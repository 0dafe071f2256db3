"""How well the shipped configurations rank, against tuned classics on the same users."""
