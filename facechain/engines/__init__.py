"""Ways to paint a person. `table.py` lists them; nothing heavy is imported until one is opened."""
