"""``python -m simlib.cli`` is `simlib` where no program of that name is on the path."""

import sys

from simlib.cli import main

sys.exit(main())
