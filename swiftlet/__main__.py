"""python -m swiftlet: the same as the swiftlet command."""

from swiftlet.cli import main

main()
