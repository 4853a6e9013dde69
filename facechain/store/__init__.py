"""Where people and portraits are kept: folders are the truth, a database indexes them."""
