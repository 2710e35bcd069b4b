"""The commands of `crnn`: one module a command, with `main(argv) -> exit code`."""
