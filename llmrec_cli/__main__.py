"""`python -m llmrec_cli`: the same as `llmrec`, for launchers that start modules, such as torchrun."""

from llmrec_cli.cli import main

if __name__ == "__main__":
    main()
