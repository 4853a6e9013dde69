"""The REST door: /v1, its errors, tokens and documentation. Every call is one verb of the studio, or one job."""
