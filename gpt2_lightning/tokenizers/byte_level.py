"""What tokenizers of GPT-2's kind share: how text is split before merging, and how bytes are written in files."""

from __future__ import annotations

SPLIT_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
"""GPT-2's split into words, numbers, signs and white space, written to need no backtracking. No merge crosses it."""

END_OF_TEXT = "<|endoftext|>"


def byte_of_character() -> dict[str, int]:
    """GPT-2 writes bytes as visible characters: Latin-1's printable ones as themselves, the others from U+0100 on.

    In the order of these characters, bytes are GPT-2's first 256 tokens.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}
