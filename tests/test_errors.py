"""Numbers and ids in messages."""

from llmrec_cli.errors import in_bytes


def test_numbers_of_bytes_are_told_with_the_unit_that_leaves_at_least_one_before_the_point():
    texts = [in_bytes(n) for n in (0, 1023, 1536, 2**20, 3 * 2**29)]
    assert texts == ["0 bytes", "1023 bytes", "1.5 KiB", "1.0 MiB", "1.5 GiB"]
