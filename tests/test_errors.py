"""Numbers and ids in messages."""

from llmrec_cli.errors import in_bytes


def test_bytes_are_printed_in_the_largest_unit_of_at_least_one():
    texts = [in_bytes(n) for n in (0, 1023, 1536, 2**20, 3 * 2**29)]
    assert texts == ["0 bytes", "1023 bytes", "1.5 KiB", "1.0 MiB", "1.5 GiB"]
