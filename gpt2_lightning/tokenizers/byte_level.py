"""Byte-level BPE of GPT-2: the split of texts into words, and the characters that stand for bytes in files."""

from __future__ import annotations

SPLIT_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
"""GPT-2's split into words, numbers, signs and white space, without backtracking. Merges stay within a word."""

END_OF_TEXT = "<|endoftext|>"


def byte_of_character() -> dict[str, int]:
    """Bytes by the visible characters that stand for them: Latin-1's printable ones, then those from U+0100.

    In the order of these characters, bytes are GPT-2's first 256 tokens.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}
