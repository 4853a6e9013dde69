"""Photos in; crops to learn from, or a reason why not, out."""
