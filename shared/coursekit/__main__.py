"""Where the `course` command begins (`python -m coursekit` too): Ctrl-C is answered in a sentence from the first import on."""

import sys

INTERRUPTED = "Interrupted; nothing was left half done. Run the command again to go on."


def main() -> None:
    """Run the command; exit code 130 if it was interrupted."""
    try:
        from coursekit.cli import main as run

        run()
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
