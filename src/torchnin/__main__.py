"""`python -m torchnin`, the same as `nin`."""

from torchnin.commands.main import main

if __name__ == "__main__":
    main()
