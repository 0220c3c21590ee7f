"""Studies that train nothing, and what single ones of them need."""
