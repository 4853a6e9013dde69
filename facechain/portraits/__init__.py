"""What was asked becomes pictures: shots, several people in one scene, finishing, provenance."""
