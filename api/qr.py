"""Texts as QR codes: a picture for pages, blocks for terminals."""

import io

import segno

__all__ = ["blocks", "svg"]


def svg(text: str) -> bytes:
    """An SVG picture. Raises ValueError for a text that is too long for a code (about 2900 bytes)."""
    out = io.BytesIO()
    segno.make_qr(text, error="l").save(out, kind="svg", scale=6, border=4, light="#fff")
    return out.getvalue()


def blocks(text: str) -> list[str]:
    """Lines of half blocks, as a terminal with light letters on dark ground shows them; scanners read both ways."""
    out = io.StringIO()
    segno.make_qr(text, error="l").terminal(out=out, border=2, compact=True)
    return out.getvalue().splitlines()
