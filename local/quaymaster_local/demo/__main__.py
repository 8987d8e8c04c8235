"""`python -m quaymaster_local.demo`: the whole system on this machine, from nothing to a table of how its runs end."""

import sys

from quaymaster_local.demo.performance import main

if __name__ == "__main__":
    sys.exit(main())
