"""Is it the person? Scored by a recogniser that helped to make none of the pictures."""
