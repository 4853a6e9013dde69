"""Long work: jobs in a queue that survives a crash, the workers that do it, and batches over several machines."""
