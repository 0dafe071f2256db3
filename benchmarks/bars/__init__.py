"""One module a bar; each has ``measure(sizes, device)``, which gives the rows of the table."""
