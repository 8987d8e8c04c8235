"""`python -m quaymaster_cli`."""

from quaymaster_cli.main import main

main()
