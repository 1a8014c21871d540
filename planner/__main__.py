"""`python -m planner` is `rb`."""

from planner.cli.app import main

if __name__ == "__main__":
    main()
