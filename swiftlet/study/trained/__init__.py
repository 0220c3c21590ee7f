"""Studies that train their arms on pictures, and what single ones of them need."""
