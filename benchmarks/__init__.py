"""Measurements side by side with the peers, each written to results/NAME.json with machine, versions and command."""
