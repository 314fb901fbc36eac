"""`python -m structmat` is the command line."""

from structmat.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
