"""`python -m node`: the same as `sbot`, and with nothing but options the same as `sbot start`."""

import sys

from node.cli import main

words = sys.argv[1:]
if not words or (words[0].startswith("-") and words[0] not in ("-h", "--help", "-V", "--version")):
    words = ["start", *words]
sys.exit(main(words))
