"""``python -m gategen`` is the same as the command ``gategen``."""

from gategen.cli import main

if __name__ == "__main__":
    main(prog_name="gategen")
