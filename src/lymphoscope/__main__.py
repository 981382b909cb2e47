"""`python -m lymphoscope`: the command line, where no script is on the path."""

from lymphoscope.cli import main

if __name__ == "__main__":
    main()
