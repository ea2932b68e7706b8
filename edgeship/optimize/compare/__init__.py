"""Two models beside each other: sizes, layers, errors of every tensor, answers."""
