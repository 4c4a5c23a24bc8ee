"""Damage files as a faulty disk does."""

from pathlib import Path


def flip_byte(path: Path, content: bytes) -> None:
    """Change one bit in the middle of a sequence of bytes that a file contains."""
    data = bytearray(path.read_bytes())
    start = data.index(content)
    data[start + len(content) // 2] ^= 1
    path.write_bytes(data)
