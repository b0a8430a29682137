"""`python -m dfkit`."""

from dfkit.cli import main

main()
