"""`python -m kalshi_pipeline.cli`: the command line where no script of it is on the path."""

import sys

from kalshi_pipeline.cli import main

if __name__ == "__main__":
    sys.exit(main())
